"""The submission CSV: written so that it validates, and validated by the same rules.

Writer: (id, text) pairs in annotation order -> a UTF-8 file with the header testset_id,text, put in place only
after it has passed the check. Check: any path -> a SubmissionReport with every broken rule of submission_rules.py and
its line. The check streams, so no path makes it wait or fill the memory.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from evaluator.annotation.annotation import submission_ids
from evaluator.audio.regular_file import NotAFileError, open_regular, reason
from evaluator.errors import AnnotationError, Problem, SubmissionError
from evaluator.files import replacing
from evaluator.submission.check import HEADER, RowCheck
from evaluator.submission.rules import Finding, FindingCollector, SubmissionReport
from evaluator.submission.text import clean_text, is_blank
from evaluator.wording import shown

MAX_BYTES = 64 * 1024 * 1024
MAX_VALIDATION_BYTES = 4 * 1024 * 1024 * 1024
MAX_ROWS = 200_000
MAX_VALIDATION_ROWS = 50_000_000
"""There are 10,000 ids; the limits leave room for files worth a full report and still end the check in
seconds."""

MAX_TEXT = 100_000
"""Characters of one text that are written. One answer that loops may not make the whole file invalid (E306)."""

_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip-compressed; unpack it"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; unpack it, or export it as CSV"),
    (b"BZh", "bzip2-compressed; unpack it"),
    (b"\xfd7zXZ\x00", "xz-compressed; unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!", "a rar archive; unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export it as CSV"),
    (b"%PDF", "a PDF document"),
    (b"PAR1", "a parquet file; export it as CSV"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89PNG", "a picture"),
    (b"\x80\x04", "a Python pickle"),
    (b"version https://git-lfs", "a git-lfs pointer; run `git lfs pull`"),
)
_ENCODINGS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What was written.

    Attributes:
        cut: ids of the rows whose text was longer than MAX_TEXT; the file has its beginning.
        warnings: the check's.
    """

    cut: tuple[str, ...]
    warnings: tuple[Finding, ...]


def write_submission(path: Path, rows: Iterable[tuple[str, str]], *, empty_text: str, require_ids: bool) -> WriteReport:
    """Write a CSV, all or nothing.

    Args:
        path: the file; replaced if it exists.
        rows: (id, text as the model gave it) in annotation order.
        empty_text: what stands for a text that is blank after `clean_text`.
        require_ids: whether ids must be test0000-like and unique (submissions) or are free (validation sets).

    Returns:
        WriteReport: texts that were cut, and warnings of the check.

    Raises:
        SubmissionError: the file would not validate, or cannot be written; `path` is then as it was before.

    Example:
        [("test0000", "HELLO\\nworld"), ("test0001", "")] with empty_text "." becomes
        testset_id,text / test0000,hello world / test0001,.
    """
    cut: list[str] = []

    def written() -> Iterator[tuple[str, str]]:
        for identifier, text in rows:
            if len(text) > MAX_TEXT:
                cut.append(identifier)
            cleaned = clean_text(text[:MAX_TEXT])
            yield identifier, empty_text if is_blank(cleaned) else cleaned

    try:
        with replacing(path) as temporary:
            with temporary.open("x", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(HEADER)
                writer.writerows(written())
            report = check_submission(temporary, require_ids=require_ids)
            if not report.valid:
                problems = [Problem("", str(finding)) for finding in report.errors]
                raise SubmissionError(f"The rows do not make a valid CSV; {path} was not written.", problems)
    except OSError as error:
        raise SubmissionError(f"{path} cannot be written: {error.strerror or error}.") from error
    return WriteReport(cut=tuple(cut), warnings=report.warnings)


def check_submission(path: Path, *, annotation: Path | None = None, require_ids: bool = True) -> SubmissionReport:
    """Check a CSV against every rule.

    Args:
        path: anything; what is not a readable regular file is a finding, too.
        annotation: the annotation that the CSV answers; missing and surplus ids are then errors.
        require_ids: as in `write_submission`.

    Returns:
        SubmissionReport: `valid`, and findings with their lines.
    """
    findings = FindingCollector()
    expected: tuple[str, ...] | None = None
    if annotation is not None:
        try:
            expected = submission_ids(annotation)
        except AnnotationError as error:
            for text in [error.message, *map(str, error.problems)]:
                findings.add("E601", None, shown(text, 300)[1:-1])
    max_bytes = MAX_BYTES if require_ids else MAX_VALIDATION_BYTES
    max_rows = MAX_ROWS if require_ids else MAX_VALIDATION_ROWS
    check = RowCheck(findings, require_ids=require_ids, expected=expected)
    try:
        with open_regular(path) as file:
            if check_bytes(file, findings, limit=max_bytes):
                check.run(file, max_rows=max_rows, max_bytes=max_bytes)
    except NotAFileError as error:
        findings.add("E102", None, f"{shown(str(path), 200)} {reason(error)}")
    except FileNotFoundError:
        remote = re.match(r"[a-z]+:/", str(path))
        hint = "; addresses are not fetched: download the file first" if remote else ""
        findings.add("E101", None, f"{shown(str(path), 200)} does not exist{hint}")
    except OSError as error:
        findings.add("E103", None, f"{shown(str(path), 200)} {reason(error)}")
    return findings.report(check.rows)


def check_bytes(file: BinaryIO, findings: FindingCollector, *, limit: int) -> bool:
    """Look at size and first bytes; False if there is no point in reading rows."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(4096)
    file.seek(0)
    if size > limit:
        findings.add("E104", None, f"{size} bytes; at most {limit // 2**20} MiB are read")
        return False
    if not head:
        findings.add("E105", None, "0 bytes")
        return False
    for signature, encoding in _ENCODINGS:
        if head.startswith(signature):
            findings.add("E202", None, f"the file is {encoding}; save it as UTF-8")
            return False
    for signature, name in _FORMATS:
        if head.startswith(signature):
            findings.add("E201", None, f"this is no CSV but {name}")
            return False
    if head.count(0) > len(head) // 4:
        encoding = "UTF-16 without a byte order mark" if head.count(0) < 0.6 * len(head) else "binary"
        findings.add("E202", None, f"the file looks like {encoding}; save it as UTF-8 text")
        return False
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[")):
        # Annotations and predictions lie beside CSVs, under names that are as long.
        findings.add("E201", None, "this is no CSV but JSON; an annotation belongs to --annotation")
        return False
    if head.startswith(b"\xef\xbb\xbf"):
        findings.add("W101", 1, "the file starts with one; UTF-8 needs none")
        file.seek(3)
        if head.startswith(b"\xef\xbb\xbf\xef\xbb\xbf"):
            findings.add("E202", 1, "the file starts with two byte order marks")
    return True
