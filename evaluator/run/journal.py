"""predictions.jsonl: one line for each answer, written the moment it is there.

In: Prediction values, in the order in which the model finishes them. Out: a JSON Lines file that a run which
dies in the middle leaves behind with every answer it had. Everything after predicting (CSV, scores, report)
can start from it. A line carries a checksum of itself, and a journal is locked while it is being written.
"""

import json
import logging
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

from evaluator.errors import JournalError, Problem
from evaluator.files import replacing
from evaluator.run.disk_sync import DiskSync

logger = logging.getLogger(__name__)

FINISH_REASONS: tuple[str, ...] = ("stop", "length", "refusal", "error")
FAILED = b'"finish_reason": "error"'
"""In the line of a row without an answer, and in no other: in a text the quotes have backslashes."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What became of one row of the annotation.

    Attributes:
        index: the row, 0-based.
        id: its testset_id.
        task: its task label, for example "asr".
        text: what the model said, untouched; "" where the clip failed.
        num_tokens: how many tokens the model generated.
        finish_reason: "stop", "length" (the token limit cut the text off), "refusal" (the model declared that it will
            not answer) or "error" (no answer; see `error`).
        audio_seconds: length of the waveform that the model was given, in seconds; 0.0 where the clip failed.
        seconds: from the moment the model pulled the request to its answer.
        error: why there is no answer, or None.
        path: the audio file.
        reference: what the answer is compared with: a text, or several; None where there is none.
    """

    index: int
    id: str
    task: str
    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length", "refusal", "error"]
    audio_seconds: float
    seconds: float
    error: str | None = None
    path: str = ""
    reference: str | tuple[str, ...] | None = None


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
        self._end = 0
        self.locked = _lock(self._file, exclusive=True)
        self._disk = DiskSync(self._file.fileno())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._disk.close()
        except OSError as refused:
            # What ends the block may be a full disk; its error is the one to be told.
            if kind is None:
                raise self._refused(refused) from refused
        finally:
            self._file.close()

    def sync(self) -> None:
        """Bring everything written so far onto the disk, where a power cut leaves it.

        Raises:
            JournalError: if the disk refuses.
        """
        try:
            self._disk.now()
        except OSError as error:
            raise self._refused(error) from error

    def append(self, prediction: Prediction) -> None:
        """Write one prediction as one line, handed to the operating system before this returns.

        A dying process loses nothing. A thread brings it onto the disk, so that the model does not wait for that; a
        power cut costs about the last second.

        Raises:
            JournalError: if the line cannot be written in full (a full disk); a part of a line is cut off
                again.
        """
        line = _line(prediction)
        try:
            written = self._file.write(line)
            self._disk.written()
        except OSError as error:
            raise self._refused(error) from error
        if written != len(line):
            self._file.truncate(self._end)
            raise JournalError(f"Cannot write to {self.path}: the disk is full.")
        self._end += written

    def _refused(self, error: OSError) -> JournalError:
        return JournalError(f"Cannot write to {self.path}: {error.strerror}.")


def reference_of(references: tuple[str, ...]) -> str | tuple[str, ...] | None:
    """A row's references as a prediction has them: ("a",) -> "a"; several as they are, None for none."""
    return references[0] if len(references) == 1 else references or None


def read_journal(path: Path) -> list[Prediction]:
    """Read a predictions.jsonl, in the order in which it was written; see `read_lines`."""
    return [prediction for _, prediction in read_lines(path)]


def read_lines(path: Path) -> Iterator[tuple[int, Prediction]]:
    """Read a predictions.jsonl line by line, each with the place where it begins.

    A last line that is torn (no line end, or a wrong checksum) is what a killed process or a power cut leaves; it is
    not a record and is left out. Lines without a checksum are read as well.

    Args:
        path: the file.

    Raises:
        JournalError: if the file cannot be read or lines are no predictions; every such line is listed.
    """
    problems: list[Problem] = []
    torn: Problem | None = None
    place = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                # A line that is no record is a torn one only where no other follows.
                problems, torn = ([*problems, torn] if torn else problems), None
                try:
                    yield place, _parse(line[:-1])
                except _TornError as error:
                    torn = Problem(f"{path}:{number}", str(error))
                except ValueError as error:
                    problems.append(Problem(f"{path}:{number}", str(error)))
                place += len(line)
    except OSError as error:
        raise JournalError(f"Cannot read {path}: {error.strerror}.") from error
    if torn is not None and not problems:
        logger.warning("%s: the last line is torn and is left out: %s", path, torn.message)
    if problems:
        raise JournalError(f"{path} has lines that are no predictions.", problems)


def parse_line(line: bytes) -> Prediction:
    """The prediction of a line that was read before and found good."""
    record = json.loads(line)
    record.pop("crc32", None)
    if isinstance(record.get("reference"), list):
        record["reference"] = tuple(record["reference"])
    return Prediction(**record)


def journalled_rows(path: Path) -> Iterator[int]:
    """The rows of a journal that is no longer written, one after the other; a torn last line is left out.

    Raises:
        JournalError: if the file cannot be read or a line is no prediction.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    try:
                        yield _parse(line[:-1]).index
                    except ValueError as error:
                        raise JournalError(f"{path}:{number}: {error}.") from error
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"Cannot read {path}: {error.strerror}.") from error


class JournalTail:
    """Counts the lines of a journal while it grows, and those of them that are failures.

    Args:
        path: the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.lines = 0
        self.failed = 0
        self._path = path
        self._read = 0

    def has_grown(self) -> bool:
        """Count what is new; whether anything is."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size == self._read:
                    return False
                file.seek(self._read)
                before, seam = self._read, b""
                while piece := file.read(1 << 20):
                    self._read += len(piece)
                    self.lines += piece.count(b"\n")
                    piece = seam + piece
                    self.failed += piece.count(FAILED)
                    seam = piece[1 - len(FAILED) :]
        except OSError:
            return False
        return self._read > before


def write_lines(path: Path, lines: Iterable[bytes | Prediction]) -> None:
    """Write a whole predictions.jsonl at once, all or nothing, in the place of one that is there.

    Args:
        path: the file.
        lines: predictions, or lines as another journal has them.

    Raises:
        JournalError: if it cannot be written.
    """
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(line if isinstance(line, bytes) else _line(line) for line in lines)
    except OSError as error:
        raise JournalError(f"Cannot write {path}: {error.strerror}.") from error


def is_being_written(path: Path) -> bool:
    """Whether a living process has a journal open, as far as the file system knows locks; none has one that is gone.

    Raises:
        JournalError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return not _lock(file, exclusive=False, otherwise=True)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(f"Cannot read {path}: {error.strerror}.") from error


class _TornError(ValueError):
    """A line that is not what was written: no JSON, or another checksum."""


def _lock(file: BinaryIO, *, exclusive: bool, otherwise: bool = False) -> bool:
    """Lock a file until it is closed, without waiting: whether that worked; `otherwise` where locks are unknown."""
    if sys.platform == "win32":
        return otherwise
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network disks know no locks
        return otherwise
    return True


def _line(prediction: Prediction) -> bytes:
    record = _encoded({name: getattr(prediction, name) for name in Prediction.__slots__})
    return b'%b, "crc32": %d}\n' % (record[:-1], zlib.crc32(record))


def _encoded(record: dict[str, Any]) -> bytes:
    # A lone surrogate has no UTF-8; its backslash form is JSON's own escape, so it reads back as it was.
    return json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace")


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
    "path": (str,),
    "reference": (str, list, type(None)),
}
# Journals of before do not have them.
_LATER = {"path": "", "reference": None}


def _checksum_as_written(line: bytes) -> int:
    """The checksum of a line that is as this file writes it, without writing it anew."""
    return zlib.crc32(line.rpartition(b', "crc32": ')[0] + b"}")


def _parse(line: bytes) -> Prediction:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise _TornError("this is not JSON") from error
    checksum = record.pop("crc32", None) if isinstance(record, dict) else None
    if checksum is not None and checksum != _checksum_as_written(line) and (checksum != zlib.crc32(_encoded(record))):
        raise _TornError("the line is not what was written: its checksum differs")
    if isinstance(record, dict):
        record = {**_LATER, **record}
    if not isinstance(record, dict) or set(record) != set(_TYPES):
        raise ValueError(f"expected an object with the keys {', '.join(_TYPES)}")
    for key, types in _TYPES.items():
        if not isinstance(record[key], types) or isinstance(record[key], bool):
            raise ValueError(f"{key}: {record[key]!r} is of the wrong type")
    if record["finish_reason"] not in FINISH_REASONS:
        raise ValueError(f"finish_reason: {record['finish_reason']!r} is none of {', '.join(FINISH_REASONS)}")
    if isinstance(record["reference"], list):
        if not all(isinstance(text, str) for text in record["reference"]):
            raise ValueError(f"reference: {record['reference']!r} is of the wrong type")
        record["reference"] = tuple(record["reference"])
    return Prediction(**record)
