"""A file of answers: a CSV, JSON Lines, a JSON list, a predictions.jsonl or a run's folder in, its answers out.

What kind it is is told by what it holds, not by its name. All problems of a file are one report with their lines.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.audio.regular_file import open_regular, reason
from evaluator.errors import Problem, ResultError
from evaluator.run.journal import read_journal
from evaluator.submission.check import MAX_LINE_BYTES, header_cure, read_records
from evaluator.submission.rules import FindingCollector
from evaluator.submission.submission import MAX_VALIDATION_BYTES, MAX_VALIDATION_ROWS, check_bytes
from evaluator.wording import counted, named, shown

PREDICTIONS = "predictions.jsonl"

_ID_KEYS = ("testset_id", "id")
# A row with two of them is refused: in some tools' files "text" is the reference.
_TEXT_KEYS = ("text", "pred_text", "prediction", "hypothesis")
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        id: the testset_id that it is for.
        text: as the file has it.
        place: where it stands, for messages: "line 3", "item 3".
        failed: whether a run's journal says that there was no answer; the text is "" then.
        cut_off: whether a run's journal says that the token limit ended it.
        refused: whether a run's journal says that the model declared that it will not answer.
    """

    id: str
    text: str
    place: str
    failed: bool = False
    cut_off: bool = False
    refused: bool = False


def read_answers(path: Path) -> list[Answer]:
    """Read a file of answers, or the predictions.jsonl of a run's folder.

    Raises:
        ResultError: it cannot be read, or rows of it are no answers; every such row is named.
        JournalError: the same of a predictions.jsonl.
    """
    file = path / PREDICTIONS if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise ResultError(f"{path} has no {PREDICTIONS}: expected the folder of a run, or a file of answers.")
    head = _head(file)
    if head.lstrip()[:1] not in (b"{", b"["):
        return _read_csv(file)
    if _is_journal(head):
        return [
            Answer(
                each.id,
                each.text,
                f"line {number}",
                failed=each.finish_reason == "error",
                cut_off=each.finish_reason == "length",
                refused=each.finish_reason == "refusal",
            )
            for number, each in enumerate(read_journal(file), start=1)
        ]
    return _read_json(file)


def given_answers(texts: Mapping[str, str]) -> list[Answer]:
    """Answers that are in memory: testset_id -> text.

    Raises:
        ResultError: what is given is no such table; every pair that is no answer is named.
    """
    if not isinstance(texts, Mapping):
        raise ResultError(f"The answers given are no testset_id -> text, but {shown(texts)}.")
    problems = [
        Problem(f"answer {number}", f"expected a text for a testset_id, found {shown(text)} for {shown(identifier)}")
        for number, (identifier, text) in enumerate(texts.items(), start=1)
        if not isinstance(identifier, str) or not isinstance(text, str)
    ]
    if problems:
        raise _problems("given", problems)
    return [Answer(*pair, f"answer {number}") for number, pair in enumerate(texts.items(), start=1)]


def _head(file: Path) -> bytes:
    """The beginning of a file, without a byte order mark."""
    try:
        with open_regular(file) as opened:
            return opened.read(1 << 20).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ResultError(f"The answers cannot be read: {file} {reason(error)}.") from error


def _is_journal(head: bytes) -> bool:
    try:
        first = json.loads(head.lstrip().partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and {"index", "id", "finish_reason"} <= set(first)


def _read_csv(file: Path) -> list[Answer]:
    findings = FindingCollector()
    answers: list[Answer] = []
    with open_regular(file) as opened, _long_cells():
        if check_bytes(opened, findings, limit=MAX_VALIDATION_BYTES):
            limits = {"max_lines": MAX_VALIDATION_ROWS + 1, "max_bytes": MAX_VALIDATION_BYTES}
            records = read_records(opened, findings, **limits)
            header = next(records, None)
            names = header.fields if header is not None else []
            if not {"testset_id", "text"} <= set(names):
                found = f"expected testset_id,text, found {shown(','.join(names), 200)}"
                findings.add("E301", 1, found + header_cure(names))
            else:
                answers = list(_csv_answers(records, names, findings))
    report = findings.report(len(answers))
    if not report.valid:
        problems = [Problem(f"{file}", str(finding)) for finding in report.errors]
        raise _problems(file, problems)
    return answers


def _csv_answers(records: Iterator[Any], names: list[str], findings: FindingCollector) -> Iterator[Answer]:
    for record in records:
        if len(record.fields) <= 1 and not "".join(record.fields).strip():
            continue
        if len(record.fields) != len(names):
            findings.add("E303", record.line, f"expected {len(names)}, found {len(record.fields)}")
            continue
        row = dict(zip(names, record.fields, strict=True))
        yield Answer(row["testset_id"], row["text"], f"line {record.line}")


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_json(file: Path) -> list[Answer]:
    """Objects, one a line or in one list."""
    try:
        with open_regular(file) as opened:
            text = opened.read().decode("utf-8-sig")
    except OSError as error:
        raise ResultError(f"The answers cannot be read: {file} {reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise ResultError(f"The answers {file} are not UTF-8 text ({error.reason}).") from error
    problems: list[Problem] = []
    answers: list[Answer] = []
    for place, value in _values(text, problems, file):
        answer = _answer(value, place)
        if isinstance(answer, Answer):
            answers.append(answer)
        else:
            problems.append(Problem(f"{file}: {place}", answer))
    if problems:
        raise _problems(file, problems)
    return answers


def _values(text: str, problems: list[Problem], file: Path) -> Iterator[tuple[str, object]]:
    if text.lstrip().startswith("["):
        try:
            yield from ((f"item {number}", value) for number, value in enumerate(json.loads(text), start=1))
        except json.JSONDecodeError as error:
            problems.append(Problem(f"{file}:{error.lineno}", f"not valid JSON: {error.msg} (column {error.colno})"))
        except (ValueError, RecursionError):
            problems.append(Problem(str(file), "nests too deep or has a number too long"))
        return
    whole = _whole_object(text)
    if whole is not None and not set(whole) & set(_ID_KEYS):
        keys = named(list(whole), 5)
        problems.append(
            Problem(str(file), f"one JSON object with {keys}; expected an object a line, or a list of them")
        )
        return
    if whole is not None:
        yield "line 1", whole
        return
    # Not splitlines(): JSON texts may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            told = f"not valid JSON: {error.msg} (column {error.colno}); one object a line is expected"
            problems.append(Problem(f"{file}: line {number}", told))
        except (ValueError, RecursionError):
            problems.append(Problem(f"{file}: line {number}", "nests too deep or has a number too long"))


def _whole_object(text: str) -> dict[str, Any] | None:
    """The file as one object; None where it is several, or none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _answer(value: object, place: str) -> Answer | str:
    """An answer, or what is wrong with the row."""
    if not isinstance(value, Mapping):
        return f"expected an object with testset_id and text, found {shown(value)}"
    cells: list[str] = []
    for keys in (_ID_KEYS, _TEXT_KEYS):
        found = [key for key in keys if key in value]
        if not found:
            return f"{keys[0]}: the field is missing; the row has {named(list(value), 8) or 'no field'}"
        if len(found) > 1 and keys is _TEXT_KEYS:
            return f"it has {' and '.join(found)}: keep the answer alone, as text"
        cell = value[found[0]]
        if not isinstance(cell, str):
            return f"{found[0]}: expected a text, found {shown(cell)}"
        cells.append(cell)
    return Answer(cells[0], cells[1], place)


def _problems(file: Path | str, problems: list[Problem]) -> ResultError:
    kept = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        kept.append(Problem("", f"and {len(problems) - _SHOWN} more"))
    return ResultError(f"The answers {file} have {counted(problems)}:", kept)
