"""Checking the rows of a submission CSV in one streaming pass.

In: an open binary file whose first bytes look like text. Out: findings, each with its physical line. What is kept in
memory is bounded: one line of at most MAX_LINE_BYTES, the ids that are possible, and the findings that the collector
keeps.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from evaluator.annotation.annotation import SUBMISSION_ID
from evaluator.annotation.mistaken_file import not_utf8_cure
from evaluator.submission.invisible import with_codes
from evaluator.submission.rules import FindingCollector
from evaluator.submission.text import is_blank, text_warnings
from evaluator.wording import shown

HEADER = ("testset_id", "text")
MAX_LINE_BYTES = 1024 * 1024
# A quotation mark that is never closed swallows the rows after it. Reading starts again behind it, so that
# those rows are checked as well, but not for ever: a file of nothing else would take a time that grows with
# its square.
_RESTARTS = 20


@dataclass(frozen=True, slots=True)
class Record:
    """One parsed row.

    Attributes:
        line: physical line it starts on.
        fields: its cells; none for a blank line.
        quotes: quotation marks in its bytes.
        damaged: whether bytes had to be replaced to read it.
    """

    line: int
    fields: list[str]
    quotes: int
    damaged: bool


class _LineSkippedError(Exception):
    """The line was too long to be parsed; it has been reported."""


class _Lines:
    """The decoded lines of a file. An object, not a generator, because it goes on after it has raised."""

    def __init__(self, file: BinaryIO, findings: FindingCollector, *, max_bytes: int) -> None:
        self._file = file
        self._findings = findings
        self._max_bytes = max_bytes
        self._reported_to = 0
        self._fresh = True
        self.line = 0
        self.begin_record()

    def begin_record(self) -> None:
        self.start = self.line + 1
        self.after_first_line = 0
        self.quotes = 0
        self.damaged = False
        self.ending = b""

    def rewind(self) -> None:
        """Go back to the second line of the current record."""
        self._file.seek(self.after_first_line)
        self.line = self.start

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        raw = self._file.readline(MAX_LINE_BYTES + 1)
        if not raw or self._too_far():
            raise StopIteration
        self.line += 1
        self._fresh = self.line > self._reported_to
        self._reported_to = max(self._reported_to, self.line)
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n") and not self._too_far():
                raw = self._file.readline(MAX_LINE_BYTES)
            self._report("E306", f"more than {MAX_LINE_BYTES} bytes in one line")
            raise _LineSkippedError
        if self.line == self.start:
            self.after_first_line = self._file.tell()
        self.quotes += raw.count(b'"')
        self.ending = raw[-3:]
        if b"\0" in raw:
            self._report("E204", f"one is at byte {raw.index(0) + 1} of the line")
            raw = raw.replace(b"\0", b" ")
            self.damaged = True
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self._report("E203", f"byte {error.start + 1} of the line ({error.reason}); {not_utf8_cure(raw)}")
            text = raw.decode("utf-8", errors="replace")
            self.damaged = True
        return text

    def _too_far(self) -> bool:
        """Whether more was read than the file's size promised: it grows, or it is one that never ends."""
        if self._file.tell() <= self._max_bytes:
            return False
        self._findings.add("E104", self.line, f"it goes on after {self._max_bytes} bytes; the rest was not checked")
        return True

    def _report(self, code: str, detail: str) -> None:
        if self._fresh:  # not when a rewind reads the line once more
            self._findings.add(code, self.line, detail)


def read_records(file: BinaryIO, findings: FindingCollector, *, max_lines: int, max_bytes: int) -> Iterator[Record]:
    """Parse a file into rows; rows that cannot be parsed become findings, and reading goes on behind them."""
    lines = _Lines(file, findings, max_bytes=max_bytes)
    reader = csv.reader(lines, strict=True)
    restarts = 0
    while True:
        lines.begin_record()
        if lines.line > max_lines:
            findings.add("E307", lines.line, f"more than {max_lines} lines; the rest was not checked")
            return
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _LineSkippedError:
            continue
        except csv.Error as error:
            _report_parse_error(lines, error, findings)
            too_long = "field limit" in str(error)
            if lines.line > lines.start and restarts < _RESTARTS and not too_long:
                restarts += 1
                lines.rewind()
            continue
        if lines.ending.endswith((b"\r\r\n", b"\r")):
            findings.add("E305", lines.line, "one is at the end of the line; end lines with \\n")
        yield Record(line=lines.start, fields=fields, quotes=lines.quotes, damaged=lines.damaged)


def _report_parse_error(lines: _Lines, error: csv.Error, findings: FindingCollector) -> None:
    reason = str(error)
    if "new-line character" in reason:
        findings.add("E305", lines.line, "one is inside the line, outside quotation marks; end lines with \\n")
    elif "field limit" in reason:
        findings.add("E306", lines.start, f"a cell has more than {MAX_LINE_BYTES} characters")
    elif "unexpected end of data" in reason:
        findings.add("E304", lines.start, "a quotation mark is opened and never closed")
    else:
        opened = "" if lines.line == lines.start else f" of a cell that starts on line {lines.start}"
        findings.add(
            "E304",
            lines.line,
            f"there is text behind the closing quotation mark{opened}; inside a quoted cell, write marks twice",
        )


class RowCheck:
    """The rules for header and rows.

    Attributes:
        rows: how many rows were read.
    """

    def __init__(self, findings: FindingCollector, *, require_ids: bool, expected: Sequence[str] | None) -> None:
        """Check rows.

        Args:
            findings: gets what is wrong.
            require_ids: whether ids are test0000-like and unique, or free.
            expected: the annotation's ids in order, None where there is no annotation.
        """
        self.rows = 0
        self._findings = findings
        self._require_ids = require_ids
        self._expected = expected
        self._expected_set = frozenset(expected or ())
        self._first_lines: dict[str, int] = {}
        self._first_text: str | None = None
        self._texts = 0
        self._texts_differ = False
        self._out_of_order: int | None = None
        self._blank_lines: list[int] = []
        self._columns = len(HEADER)
        self._id_column, self._text_column = 0, 1

    def run(self, file: BinaryIO, *, max_rows: int, max_bytes: int) -> None:
        """Read a file to its end, or to a limit."""
        before = csv.field_size_limit(MAX_LINE_BYTES)
        try:
            records = read_records(file, self._findings, max_lines=max_rows + 1, max_bytes=max_bytes)
            header = next(records, None)
            if header is not None:
                self._header(header)
            for record in records:
                self._row_or_blank(record)
        finally:
            csv.field_size_limit(before)
        self._finish()

    def _header(self, record: Record) -> None:
        names = record.fields
        if tuple(names) == HEADER:
            return
        wanted = ",".join(HEADER)
        if names and SUBMISSION_ID.fullmatch(names[0]):
            self._findings.add("E301", record.line, f"expected {wanted}, found a row; add the header line")
            self._row(record)
            return
        found = with_codes(shown(",".join(names[:20]), 200))
        self._findings.add("E301", record.line, f"expected {wanted}, found {found}{header_cure(names)}")
        self._columns = max(len(names), len(HEADER))
        if set(HEADER) <= set(names):
            self._id_column, self._text_column = names.index(HEADER[0]), names.index(HEADER[1])

    def _row_or_blank(self, record: Record) -> None:
        """Blank lines wait for what follows: at the end of the file they are harmless, between rows they are not."""
        if not "".join(record.fields).strip() and len(record.fields) <= 1:
            self._blank_lines.append(record.line)
            return
        for line in self._blank_lines:
            self.rows += 1
            self._findings.add("E303", line, "a blank line; remove it")
        self._blank_lines.clear()
        self._row(record)

    def _row(self, record: Record) -> None:
        self.rows += 1
        if len(record.fields) != self._columns:
            self._findings.add("E303", record.line, self._shape(record.fields))
            if len(record.fields) > self._id_column:  # the row is there, so its id is not missing as well
                self._id(record.fields[self._id_column], record.line)
            return
        identifier = record.fields[self._id_column]
        text = record.fields[self._text_column]
        self._id(identifier, record.line)
        if is_blank(text):
            detail = f"the row of {shown(identifier)} has {text[:20]!a}; write something visible, as a full stop"
            self._findings.add("E501", record.line, detail)
        for code, detail in text_warnings(text):
            if not (code == "W206" and record.damaged):
                self._findings.add(code, record.line, detail)
        inner = [field.count('"') for field in record.fields if '"' in field]
        if record.quotes < sum(2 + 2 * count for count in inner):
            detail = "programs disagree on it; quote the cell and write the marks inside it twice"
            self._findings.add("W209", record.line, detail)
        self._texts += 1
        if self._first_text is None:
            self._first_text = text
        elif text != self._first_text:
            self._texts_differ = True

    def _shape(self, fields: Sequence[str]) -> str:
        detail = f"expected {self._columns}, found {len(fields)}"
        if len(fields) > self._columns:
            return f"{detail}; a text with commas needs quotation marks around it"
        if "\t" in fields[0] or ";" in fields[0]:
            return f"{detail}; the separator is a comma"
        return detail

    def _id(self, identifier: str, line: int) -> None:
        if self._require_ids and not SUBMISSION_ID.fullmatch(identifier):
            detail = f'expected "test" and four digits, as in test0000, found {with_codes(shown(identifier))}'
            self._findings.add("E401", line, detail)
            return
        if is_blank(identifier):
            self._findings.add("E401", line, f"expected a text, found {shown(identifier)}")
            return
        if self._expected is not None:
            if identifier not in self._expected_set:
                self._findings.add("E404", line, f"{identifier} is not in the annotation")
            elif self._out_of_order is None and self._expected[self.rows - 1 : self.rows] != (identifier,):
                self._out_of_order = line
        if not self._require_ids and identifier not in self._expected_set:
            return  # free ids may repeat, and there may be more of them than memory
        if identifier not in self._first_lines:
            self._first_lines[identifier] = line
        elif self._require_ids:
            detail = f"{identifier} was used on line {self._first_lines[identifier]} already"
            self._findings.add("E402", line, detail)

    def _finish(self) -> None:
        if self._blank_lines:
            lines = f"line {self._blank_lines[0]}"
            if len(self._blank_lines) > 1:
                lines = f"lines {self._blank_lines[0]} to {self._blank_lines[-1]}"
            self._findings.add("W304", self._blank_lines[0], f"{lines}; some programs read rows there")
        if self.rows == 0:
            self._findings.add("E302", None, "there is nothing below the header")
        if self._texts > 1 and not self._texts_differ:
            self._findings.add("W301", None, f"all {self._texts} rows say {shown(self._first_text or '')}")
        if self._expected is None:
            if self._require_ids:
                self._numbering()
            return
        missing = [identifier for identifier in self._expected if identifier not in self._first_lines]
        for identifier in missing:
            self._findings.add("E403", None, f"{identifier} is in the annotation, but not here")
        if self._out_of_order is not None and not missing and self.rows == len(self._expected):
            detail = "the ids are the same, their order is not"
            self._findings.add("W303", self._out_of_order, detail)

    def _numbering(self) -> None:
        numbers = sorted(int(identifier[4:]) for identifier in self._first_lines)
        if not numbers:
            return
        present = set(numbers)
        missing = [number for number in range(numbers[0], numbers[-1]) if number not in present]
        if missing:
            between = f"between test{numbers[0]:04d} and test{numbers[-1]:04d}"
            detail = f"{len(missing)} ids are missing {between}, the first is test{missing[0]:04d}"
            self._findings.add("W302", None, detail)


def header_cure(names: Sequence[str]) -> str:
    """What to do about a wrong header whose mistake is a known one."""
    if names and names[0].strip() in ("", "Unnamed: 0", "index") and tuple(names[1:]) == HEADER:
        return "; the first column is the index of pandas: write with to_csv(..., index=False)"
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        return "; the separator is a comma"
    if {name.strip().lower() for name in names} == set(HEADER):
        return "; names, order, capitals and spaces count"
    return ""
