"""The bytes of an annotation file turned into rows, before anything is asked of the rows.

In: JSON with {"annotation": [...]}, a bare JSON list, or JSON Lines. Out: Rows with their number, their line
where a row is a line, and fields that were given twice. UTF-8, regular files only, at most MAX_BYTES.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.annotation.mistaken_file import not_json_cure, not_utf8_cure
from evaluator.annotation.transcript_lines import is_transcript_file, transcript_rows
from evaluator.audio.regular_file import open_regular, reason
from evaluator.errors import AnnotationError, Problem
from evaluator.spooled_list import SpooledList
from evaluator.wording import shown

MAX_BYTES = 4 << 30

_BEGINNING = re.compile(r'[ \t\n\r]*(\{[ \t\n\r]*"annotation"[ \t\n\r]*:[ \t\n\r]*)?\[[ \t\n\r]*')
_ROW_KEYS = frozenset({"testset_id", "path", "text", "task"})
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_END = re.compile(r"[ \t\n\r]*\][ \t\n\r]*(\})?[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands.

    Attributes:
        number: 1-based, the first row is 1.
        line: 1-based line in the file for JSON Lines, None where a row has no line of its own.
        value: whatever JSON says; a good row is a dict.
        repeated_keys: fields given twice, of which JSON readers silently keep the last.
    """

    number: int
    line: int | None
    value: Any
    repeated_keys: tuple[str, ...] = ()


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys were given twice."""

    repeated: tuple[str, ...] = ()


def _object(pairs: Iterable[tuple[str, Any]]) -> _Object:
    result = _Object()
    for key, value in pairs:
        if key in result:
            result.repeated = (*result.repeated, key)
        result[key] = value
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _row(number: int, line: int | None, value: Any) -> Row:
    repeated = value.repeated if isinstance(value, _Object) else ()
    return Row(number=number, line=line, value=value, repeated_keys=repeated)


def read_rows(path: Path) -> Sequence[Row]:
    """Read the rows of an annotation file.

    Raises:
        AnnotationError: the file cannot be read, is not UTF-8 or not JSON; for JSON Lines with every bad
            line.
    """
    text = _read_text(path)
    if is_transcript_file(path):
        return _transcripts(text, path)
    rows = _stream(text, path)
    return rows if rows is not None else _whole(text, path)


def _stream(text: str, path: Path) -> Sequence[Row] | None:
    """The rows of a file as files usually are, one at a time; None for any other file, good or bad."""
    begin = _BEGINNING.match(text)
    rows: SpooledList[Row] = SpooledList(pack=_packed, unpack=lambda packed: Row(*packed))
    try:
        if begin is None:
            if not _looks_like_lines(text, path):
                return None
            for line, content in _lines(text):
                rows.append(_row(len(rows) + 1, line, json.loads(content, object_pairs_hook=_object)))
            # A single line may be a whole document.
            return rows if len(rows) > 1 else None
        place = begin.end()
        while True:
            value, place = _DECODER.raw_decode(text, place)
            rows.append(_row(len(rows) + 1, None, value))
            comma = _COMMA.match(text, place)
            if comma is None:
                break
            place = comma.end()
    except (ValueError, RecursionError):
        return None
    end = _END.fullmatch(text, place)
    return rows if end is not None and bool(end[1]) == bool(begin[1]) else None


def _packed(row: Row) -> tuple[int, int | None, Any, tuple[str, ...]]:
    value = dict(row.value) if isinstance(row.value, _Object) else row.value
    return row.number, row.line, value, row.repeated_keys


def _whole(text: str, path: Path) -> list[Row]:
    """The rows of any file; raises what is wrong with it."""
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        if _looks_like_lines(text, path):
            return _all_lines(text, path)
        told = f"not valid JSON: {error.msg} (column {error.colno}){not_json_cure(text)}"
        problem = Problem(f"{path}:{error.lineno}", told)
        raise AnnotationError("The annotation file cannot be read.", [problem]) from error
    except (RecursionError, ValueError) as error:  # ValueError: more digits than Python converts
        raise AnnotationError(f"The annotation file {path} nests too deep or has a number too long.") from error
    if isinstance(document, dict) and "annotation" in document:
        document = document["annotation"]
    elif isinstance(document, dict) and not _ROW_KEYS.isdisjoint(document) and _looks_like_lines(text, path):
        return [_row(1, 1, document)]
    if not isinstance(document, list):
        found = f"; found {', '.join(map(shown, [*document][:5]))}" if isinstance(document, dict) and document else ""
        raise AnnotationError(
            f'The annotation {path} has no rows: expected {{"annotation": [...]}}, a list, or JSON Lines{found}.'
        )
    return [_row(number, None, value) for number, value in enumerate(document, start=1)]


def _transcripts(text: str, path: Path) -> list[Row]:
    found, problems = transcript_rows(text)
    if problems:
        raise AnnotationError(f"The annotation {path} has {len(problems)} lines that are no transcripts:", problems)
    return [Row(number, line, value) for number, (line, value) in enumerate(found, start=1)]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines with something in them, and their numbers."""
    # Not splitlines(): JSON texts may hold U+2028 and its like as they are.
    start, line = 0, 1
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        content = text[start:end]
        if content.strip():
            yield line, content
        start, line = end + 1, line + 1


def _looks_like_lines(text: str, path: Path) -> bool:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    _, first = next(_lines(text), (0, ""))
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _all_lines(text: str, path: Path) -> list[Row]:
    rows: list[Row] = []
    problems: list[Problem] = []
    for line, content in _lines(text):
        try:
            rows.append(_row(len(rows) + 1, line, json.loads(content, object_pairs_hook=_object)))
        except json.JSONDecodeError as error:
            problems.append(Problem(f"{path}:{line}", f"not valid JSON: {error.msg} (column {error.colno})"))
        except (RecursionError, ValueError):
            problems.append(Problem(f"{path}:{line}", "nests too deep or has a number too long"))
    if problems:
        raise AnnotationError(f"The annotation {path} has {len(problems)} lines that are not JSON:", problems)
    return rows


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AnnotationError(f"The annotation {path} {reason(error)}.") from error
    if len(raw) > MAX_BYTES:
        raise AnnotationError(f"The annotation file {path} is larger than {MAX_BYTES // 2**20} MiB.")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise AnnotationError(f"The annotation file {path} is UTF-16; save it as UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem(f"{path}:{line}", f"not UTF-8: {error.reason}; {not_utf8_cure(raw)}")
        raise AnnotationError("The annotation file is not UTF-8 text.", [problem]) from error
