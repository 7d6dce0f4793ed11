"""How the processes of a run find each other and wait for each other: small files in the output folder, no sockets.

Process 0 makes the run's folder, whose name has the time in it, so the others must be told. Each of them leaves
a greeting with a random word; process 0 answers every greeting with an invitation that names the folder;
whoever is invited leaves a mark in that folder, and process 0 goes on when all marks are there. The random word
keeps apart what an earlier launch with the same addresses has left behind: its invitations answer other words,
its greetings leave no mark.
"""

import contextlib
import json
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluator.errors import ProcessError
from evaluator.files import write_json
from evaluator.run.folder import differences, paths_of
from evaluator.run.journal import is_being_written
from evaluator.workers.launch import Launch
from evaluator.workers.leases import Lease
from evaluator.workers.worker import Attempt, WorkerReport

logger = logging.getLogger(__name__)

# Long enough for a large model on a cold disk in one process while the others have theirs.
ARRIVAL_SECONDS = 1800.0
STALL_SECONDS = 1800.0
_POLL_SECONDS = 0.1
# Between the end of a process and its last file being seen on another machine.
GRACE_SECONDS = 2.0


def announce_leases(
    attempt: Attempt, leases: Sequence[Lease], identity: dict[str, str], *, patience: float = ARRIVAL_SECONDS
) -> None:
    """Publish what is asked, and wait until every other process has joined (process 0).

    Args:
        attempt: this launch's.
        leases: of which each process takes one after the other.
        identity: what is run; the others check that they run the same.
        patience: seconds to wait.

    Raises:
        ProcessError: not all arrived in time.
    """
    launch = attempt.launch
    write_json(attempt.plan, {"identity": identity, "leases": [list(lease.rows) for lease in leases]})
    place = _place(attempt.paths.folder.parent, launch)
    invitation = {"folder": attempt.paths.folder.name, "attempt": attempt.number}
    others = range(1, launch.world_size)
    place.mkdir(parents=True, exist_ok=True)
    for _ in _until(patience):
        for greeting in place.glob("*.greeting"):
            answer = greeting.with_suffix(".invitation")
            if not answer.exists():
                write_json(answer, invitation)
        here = _names(attempt.paths.parts)
        missing = [rank for rank in others if attempt.mark(rank, "joined").name not in here]
        if not missing:
            shutil.rmtree(place, ignore_errors=True)
            return
    raise ProcessError(
        f"Process(es) {', '.join(map(str, missing))} of {launch.world_size} did not arrive within {patience:.0f} s. "
        f"Every process must see the same output folder, {attempt.paths.folder.parent}."
    )


def await_leases(
    parent: Path, launch: Launch, identity: dict[str, str], *, patience: float = ARRIVAL_SECONDS
) -> tuple[Attempt, list[Lease]]:
    """Find the run of this launch, and its leases (every process but 0).

    Args:
        parent: the folder that the runs of this mode lie in.
        launch: the place of this process.
        identity: what is run here.
        patience: seconds to wait for process 0.

    Raises:
        ProcessError: process 0 did not answer in time, or runs something else.
    """
    invitation = _invitation(_place(parent, launch), launch, patience=patience)
    attempt = Attempt(paths_of(parent / invitation["folder"]), invitation["attempt"], launch)
    plan = json.loads(attempt.plan.read_text(encoding="utf-8"))
    wrong = differences(plan["identity"], identity)
    if wrong:
        raise ProcessError(f"Process {launch.rank} runs something else than process 0: {', '.join(wrong)} differ(s).")
    return attempt, [Lease(tuple(rows)) for rows in plan["leases"]]


def join(attempt: Attempt, *, locked: bool) -> None:
    """Say that this process has its journal open, and whether the file system locks it."""
    write_json(attempt.mark(attempt.launch.rank, "joined"), {"locked": locked})


def report_done(attempt: Attempt, done: WorkerReport) -> None:
    """Say that this process has written its last prediction; its journal must be on disk by then."""
    write_json(attempt.mark(done.rank, "done"), asdict(done))


def wait_for_others(attempt: Attempt, look: Callable[[], None] = lambda: None) -> list[WorkerReport]:
    """Wait until every other process is done (process 0), calling `look` meanwhile.

    A process that died is known by its journal, which is no longer locked. Where the file system knows no locks, only a
    journal that has not grown for STALL_SECONDS tells.

    Raises:
        ProcessError: a process ended early, or none has answered anything for STALL_SECONDS.
    """
    waiting = {rank: _Watched(attempt, rank) for rank in range(1, attempt.launch.world_size)}
    found: list[WorkerReport] = []
    if not waiting:
        return []
    logger.info("Waiting for the other processes.")
    for _ in _until(None):
        look()
        here = _names(attempt.paths.parts)
        for rank, watched in list(waiting.items()):
            if attempt.mark(rank, "done").name in here:
                found.append(WorkerReport(**json.loads(attempt.mark(rank, "done").read_text(encoding="utf-8"))))
                del waiting[rank]
            elif watched.is_dead(GRACE_SECONDS):
                raise ProcessError(f"Process {rank} of {attempt.launch.world_size} ended before it had finished.")
        if not waiting:
            break
        # Each is looked at, so that each one's silence is known: no short cut behind the first that works.
        quiet = [watched.quiet_seconds() for watched in waiting.values()]
        if min(quiet) > STALL_SECONDS:
            names = ", ".join(map(str, waiting))
            raise ProcessError(
                f"Process(es) {names} answered nothing for {STALL_SECONDS:.0f} s; they hang, or are dead."
            )
    return sorted(found, key=lambda done: done.rank)


class _Watched:
    """Another process, seen through its journal."""

    def __init__(self, attempt: Attempt, rank: int) -> None:
        self._journal = attempt.journal(rank)
        self._locks = bool(json.loads(attempt.mark(rank, "joined").read_text(encoding="utf-8"))["locked"])
        self._size = -1
        self._grew = time.monotonic()
        self._unlocked: float | None = None

    def is_dead(self, grace: float) -> bool:
        """Whether the journal has been without a lock for so long that a mark would have been seen."""
        if not self._locks or is_being_written(self._journal):
            self._unlocked = None
            return False
        self._unlocked = self._unlocked or time.monotonic()
        return time.monotonic() - self._unlocked > grace

    def quiet_seconds(self) -> float:
        """How long the journal has not grown."""
        size = self._journal.stat().st_size
        if size != self._size:
            self._size, self._grew = size, time.monotonic()
        return time.monotonic() - self._grew


def _place(parent: Path, launch: Launch) -> Path:
    return parent / f".meeting-{launch.key}"


def _invitation(place: Path, launch: Launch, *, patience: float) -> dict[str, Any]:
    word = f"{launch.rank}-{secrets.token_hex(8)}"
    greeting, answer = place / f"{word}.greeting", place / f"{word}.invitation"
    for _ in _until(patience):
        # Again and again: process 0 may be clearing away what an earlier launch has left.
        with contextlib.suppress(FileNotFoundError):
            place.mkdir(parents=True, exist_ok=True)
            greeting.touch()
            if answer.name in _names(place):
                found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
                return found
    raise ProcessError(
        f"Process {launch.rank} heard nothing of process 0 within {patience:.0f} s. "
        f"Every process must see the same output folder, {place.parent}."
    )


def _names(folder: Path) -> set[str]:
    """What is in a folder. Network disks remember for a while that a file was missing, but list a folder afresh."""
    return {path.name for path in folder.iterdir()}


def _until(patience: float | None) -> Iterator[None]:
    """Turns of waiting, a moment apart, until the time is over (None: without end)."""
    end = None if patience is None else time.monotonic() + patience
    while True:
        yield
        if end is not None and time.monotonic() > end:
            return
        time.sleep(_POLL_SECONDS)
