"""How a run goes, from its files alone: also while it runs, on whatever machine, and when it has died.

In: a run's folder. Out: rows done and failed, the rate, the time left, and each process that wrote a heart beat.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluator.errors import JournalError
from evaluator.run.folder import RunPaths, journals, next_attempt
from evaluator.run.journal import FAILED, is_being_written
from evaluator.run.marks import PAUSE, STOP
from evaluator.run.record import RunRecord
from evaluator.run.watch import HeartBeat

_INDEX = b'{"index": '


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One process of the last attempt.

    Attributes:
        number: of the process; 0 began the run.
        alive: whether it has its journal open.
        beat: what it said last.
        rate: rows per second since it began to predict.
    """

    number: int
    alive: bool
    beat: HeartBeat
    rate: float


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run goes.

    Attributes:
        folder: the run's.
        mode: what is run.
        state: "running", "paused", "stopping", "finished", "failed", "interrupted", or "dead": it says that it runs,
            and nobody writes its journals.
        reason: what ended it, where it did not finish.
        started: when the last attempt began.
        rows: how many there are; None where the run ended before it knew.
        done: rows with a line in a journal.
        failed: those of them without an answer.
        rate: rows per second of all living processes.
        seconds_left: at that rate; None where nothing moves.
        workers: the processes of the last attempt.
    """

    folder: Path
    mode: str
    state: str
    reason: str | None
    started: str
    rows: int | None
    done: int
    failed: int
    rate: float
    seconds_left: float | None
    workers: tuple[WorkerStatus, ...]

    def json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**asdict(self), "folder": str(self.folder)}


def read_status(paths: RunPaths) -> RunStatus:
    """Read how a run goes.

    Raises:
        JournalError: the folder is no run's, or cannot be read.
    """
    record = RunRecord.read(paths.record)
    if record is None or record.mode is None:
        raise JournalError(f"{paths.folder} is no folder of a run: there is no run.json that says of what.")
    done, failed = _rows(paths)
    workers = tuple(_workers(paths))
    alive = any(worker.alive for worker in workers) or any(map(is_being_written, journals(paths)))
    rate = sum(worker.rate for worker in workers if worker.alive)
    left = None if record.rows is None else record.rows - done
    return RunStatus(
        folder=paths.folder,
        mode=record.mode,
        state=_state(record, paths, alive=alive),
        reason=record.reason,
        started=record.started,
        rows=record.rows,
        done=done,
        failed=failed,
        rate=round(rate, 3),
        seconds_left=round(left / rate, 1) if rate and left is not None else None,
        workers=workers,
    )


def _state(record: RunRecord, paths: RunPaths, *, alive: bool) -> str:
    if record.status != "running":
        return record.status
    if not (alive or is_alive(record.process)):
        return "dead"
    if (paths.parts / STOP).exists():
        return "stopping"
    return "paused" if (paths.parts / PAUSE).exists() else "running"


def is_alive(process: Mapping[str, Any] | None) -> bool:
    """Whether the process that began a run is there; one of another machine is believed to be."""
    if process is None or process.get("host") != socket.gethostname():
        return process is not None
    try:
        os.kill(int(process["pid"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, KeyError, ValueError):
        return True
    return True


def _rows(paths: RunPaths) -> tuple[int, int]:
    """How many rows have a line in a journal, and how many of these have no answer."""
    try:
        try:
            return _counted(journals(paths))
        except FileNotFoundError:
            # The run has just put its journals together into one.
            return _counted(journals(paths))
    except OSError as error:
        raise JournalError(f"Cannot read {error.filename}: {error.strerror}.") from error


def _counted(files: Sequence[Path]) -> tuple[int, int]:
    found: dict[int, bool] = {}
    for path in files:
        with path.open("rb") as lines:
            for line in lines:
                end = line.find(b",")
                if line.startswith(_INDEX) and line[len(_INDEX) : end].isdigit():
                    found[int(line[len(_INDEX) : end])] = FAILED in line
    return len(found), sum(found.values())


def _workers(paths: RunPaths) -> Iterator[WorkerStatus]:
    attempt = next_attempt(paths) - 1
    for path in sorted(paths.parts.glob(f"{attempt}-*.beat.json")):
        try:
            beat = HeartBeat(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        number = int(path.name.partition("-")[2].partition(".")[0])
        journal = paths.parts / f"{attempt}-{number}.jsonl"
        written = journal if journal.exists() else paths.predictions
        alive = written.exists() and is_being_written(written)
        seconds = beat.at - beat.began
        yield WorkerStatus(number, alive, beat, round(beat.rows / seconds, 3) if seconds > 0 else 0.0)
