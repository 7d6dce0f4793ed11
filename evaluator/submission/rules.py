"""The rules of a submission CSV, each with its code, and what is told of a file that breaks one.

One table for the writer, the validator and docs/submission.md. E codes are errors: the file is refused. W codes are
warnings: the file is accepted, somebody should look. Codes keep their meaning for ever; new rules get new codes.
"""

from collections import Counter
from dataclasses import dataclass

RULES: dict[str, str] = {
    "E101": "File missing",
    "E102": "Not a regular file",
    "E103": "File unreadable",
    "E104": "File too large",
    "E105": "File empty",
    "E201": "Wrong file format",
    "E202": "Wrong encoding",
    "E203": "Invalid UTF-8",
    "E204": "NUL character",
    "E301": "Wrong header",
    "E302": "No rows",
    "E303": "Wrong number of columns",
    "E304": "Broken quoting",
    "E305": "Bare carriage return",
    "E306": "Row too long",
    "E307": "Too many rows",
    "E401": "Malformed testset_id",
    "E402": "Duplicate testset_id",
    "E403": "Missing testset_id",
    "E404": "Surplus testset_id",
    "E501": "Empty text",
    "E601": "Annotation unusable",
    "W101": "Byte order mark",
    "W201": "Missing-value word",
    "W202": "Line break in text",
    "W203": "Formula sign",
    "W204": "Control character",
    "W205": "Bidirectional control",
    "W206": "Replacement character",
    "W207": "Special token",
    "W208": "Very long text",
    "W209": "Quotation mark in an unquoted field",
    "W301": "All texts equal",
    "W302": "Gap in the numbering",
    "W303": "Order differs from the annotation",
    "W304": "Blank lines at the end",
}

KEPT_PER_CODE = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a file breaks.

    Attributes:
        code: "E..." or "W...", see RULES.
        line: physical line in the file, 1-based; None where the whole file is meant.
        message: the rule's title first, then what was found; printable on any terminal.
    """

    code: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        return f"{self.code} {place}{self.message}"


@dataclass(frozen=True, slots=True)
class SubmissionReport:
    """What is known of a CSV after one pass.

    Attributes:
        rows: data rows that were read.
        errors: in the order of lines; of each code at most KEPT_PER_CODE, so that no file can fill the
            memory.
        warnings: likewise.
        error_count: all errors, the ones not kept included.
        warning_count: all warnings.
    """

    rows: int
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    error_count: int
    warning_count: int

    @property
    def valid(self) -> bool:
        """Whether the file is accepted."""
        return self.error_count == 0


class FindingCollector:
    """Collects findings; counts them all, keeps the first of each code."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._counts: Counter[str] = Counter()

    def add(self, code: str, line: int | None, detail: str) -> None:
        """Note that a rule is broken."""
        self._counts[code] += 1
        if self._counts[code] <= KEPT_PER_CODE:
            self._findings.append(Finding(code, line, f"{RULES[code]}: {detail}"))

    def report(self, rows: int) -> SubmissionReport:
        """All that was collected."""
        ordered = sorted(self._findings, key=lambda finding: (finding.line or 0, finding.code))
        return SubmissionReport(
            rows=rows,
            errors=tuple(finding for finding in ordered if finding.code.startswith("E")),
            warnings=tuple(finding for finding in ordered if finding.code.startswith("W")),
            error_count=sum(count for code, count in self._counts.items() if code.startswith("E")),
            warning_count=sum(count for code, count in self._counts.items() if code.startswith("W")),
        )
