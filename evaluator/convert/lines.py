"""Text files of data sets: lines, JSON objects and CSV rows with their line numbers, also gzip-compressed.

In: a file. Out: its lines, objects or rows; what cannot be read is noted with its line and passed over.
"""

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from evaluator.annotation.mistaken_file import not_utf8_cure
from evaluator.audio.regular_file import open_regular, reason
from evaluator.convert.clip_row import Problems
from evaluator.wording import shown

_LONGEST_FIELD = 1 << 24


def numbered_lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file from 1, without their ends; empty ones are passed over."""
    number = 0
    try:
        with _bytes(path) as file:
            for number, raw in enumerate(file, start=1):
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    problems.note(path, number, f"not UTF-8: {error.reason}; {not_utf8_cure(raw)}")
                    continue
                text = text.removesuffix("\n").removesuffix("\r")
                if text.strip():
                    yield number, text
    except (OSError, EOFError) as error:  # gzip's errors are OSErrors; a cut file is an EOFError
        _unreadable(path, error, problems)


def json_objects(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one a line."""
    for number, text in numbered_lines(path, problems):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            problems.note(path, number, f"not valid JSON: {error}")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            problems.note(path, number, f"expected an object, found {shown(value)}")


def json_document(path: Path, problems: Problems) -> Any:
    """What a JSON file holds; None where it cannot be read."""
    try:
        with _bytes(path) as file:
            return json.loads(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problems.note(path, None, f"not UTF-8: {error.reason}")
    except (ValueError, RecursionError) as error:
        problems.note(path, None, f"not valid JSON: {error}")
    except (OSError, EOFError) as error:
        _unreadable(path, error, problems)
    return None


def csv_rows(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, by the line that each ends on."""
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with _bytes(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            rows = csv.DictReader(text, strict=True)
            for row in rows:
                if None in row or None in row.values():
                    width = len(rows.fieldnames or ())
                    problems.note(path, rows.line_num, f"expected {width} columns, as the header has")
                else:
                    yield rows.line_num, row
    except UnicodeDecodeError as error:
        problems.note(path, None, f"not UTF-8: {error.reason}; {not_utf8_cure(error.object)}")
    except csv.Error as error:
        problems.note(path, None, f"not CSV: {error}")
    except (OSError, EOFError) as error:
        _unreadable(path, error, problems)


@contextlib.contextmanager
def _bytes(path: Path) -> Iterator[BinaryIO]:
    with open_regular(path) as file:
        if path.suffix.lower() == ".gz":
            with gzip.open(file) as unpacked:
                yield cast("BinaryIO", unpacked)
        else:
            yield file


def _unreadable(path: Path, error: Exception, problems: Problems) -> None:
    problems.note(path, None, reason(error) if isinstance(error, OSError) else f"is cut off: {error}")
