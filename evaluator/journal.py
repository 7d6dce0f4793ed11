"""predictions.jsonl: one line for each answer, written the moment it is there.

In: Prediction values, in the order in which the model finishes them. Out: a JSON Lines file that a run which
dies in the middle leaves behind with every answer it had. Everything after predicting (CSV, scores, report)
can start from it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

from evaluator.errors import JournalError, Problem

FINISH_REASONS: tuple[str, ...] = ("stop", "length", "error")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What became of one row of the annotation.

    Attributes:
        index: the row, 0-based.
        id: its testset_id.
        task: its task label, for example "asr".
        text: what the model said, untouched; "" where the clip failed.
        num_tokens: how many tokens the model generated.
        finish_reason: "stop", "length" (the token limit cut the text off) or "error" (no answer; see
            `error`).
        audio_seconds: length of the waveform that the model was given, in seconds; 0.0 where the clip failed.
        seconds: from the moment the model pulled the request to its answer.
        error: why there is no answer, or None.
    """

    index: int
    id: str
    task: str
    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length", "error"]
    audio_seconds: float
    seconds: float
    error: str | None = None


class Journal:
    """An open predictions.jsonl, to be used in a `with` statement."""

    def __init__(self, path: Path) -> None:
        """Start a new file.

        Args:
            path: the file, which must not exist yet: two runs never share one.

        Raises:
            JournalError: if the file is already there or cannot be created.
        """
        self.path = path
        try:
            # Unbuffered: a record is one write to the operating system, so whole lines only are left by a
            # dying process.
            self._file: BinaryIO = path.open("xb", buffering=0)
        except OSError as error:
            raise JournalError(f"Cannot create {path}: {error.strerror}.") from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, prediction: Prediction) -> None:
        """Write one prediction as one line, handed to the operating system before this returns.

        Raises:
            JournalError: if the line cannot be written in full (a full disk); a part of a line is cut off
                again.
        """
        # A lone surrogate has no UTF-8; its backslash form is JSON's own escape, so it reads back as it was.
        record = json.dumps(dataclasses.asdict(prediction), ensure_ascii=False)
        line = f"{record}\n".encode(errors="backslashreplace")
        end = self._file.tell()
        try:
            written = self._file.write(line)
        except OSError as error:
            raise JournalError(f"Cannot write to {self.path}: {error.strerror}.") from error
        if written != len(line):
            self._file.truncate(end)
            raise JournalError(f"Cannot write to {self.path}: the disk is full.")


def read_journal(path: Path) -> list[Prediction]:
    """Read a predictions.jsonl, in the order in which it was written.

    A last line without its line end is what a killed process leaves; it is not a record and is left out.

    Args:
        path: the file.

    Returns:
        list[Prediction]: one for each line.

    Raises:
        JournalError: if the file cannot be read or lines are no predictions; every such line is listed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(f"Cannot read {path}: {error.strerror}.") from error
    predictions: list[Prediction] = []
    problems: list[Problem] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            predictions.append(_parse(line))
        except ValueError as error:
            problems.append(Problem(f"{path}:{number}", str(error)))
    if problems:
        raise JournalError(f"{path} has lines that are no predictions.", problems)
    return predictions


_TYPES: dict[str, tuple[type, ...]] = {
    "index": (int,),
    "id": (str,),
    "task": (str,),
    "text": (str,),
    "num_tokens": (int,),
    "finish_reason": (str,),
    "audio_seconds": (float, int),
    "seconds": (float, int),
    "error": (str, type(None)),
}


def _parse(line: bytes) -> Prediction:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise ValueError("this is not JSON") from error
    if not isinstance(record, dict) or set(record) != set(_TYPES):
        raise ValueError(f"expected an object with the keys {', '.join(_TYPES)}")
    for key, types in _TYPES.items():
        if not isinstance(record[key], types) or isinstance(record[key], bool):
            raise ValueError(f"{key}: {record[key]!r} is of the wrong type")
    if record["finish_reason"] not in FINISH_REASONS:
        raise ValueError(f"finish_reason: {record['finish_reason']!r} is none of {', '.join(FINISH_REASONS)}")
    return Prediction(**record)
