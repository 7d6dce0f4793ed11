"""Having all rows of a run answered: by this process alone, by the processes of a launcher, or by workers.

In: the rows, and which of them are left. Out: journals that hold a line for each of these, and what each process says.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.config.config import Config
from evaluator.errors import JournalError
from evaluator.model import AudioLM
from evaluator.run.journal import Journal, JournalTail
from evaluator.run.marks import Marks
from evaluator.run.stall import warns_of_stalls
from evaluator.run.watch import Watch
from evaluator.workers.claims import claimed
from evaluator.workers.driver import Driver
from evaluator.workers.launch import Launch
from evaluator.workers.leases import Lease, cut_leases
from evaluator.workers.pool import Pool
from evaluator.workers.rendezvous import announce_leases, await_leases, join, report_done, wait_for_others
from evaluator.workers.worker import Attempt, WorkerReport, answer_rows

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
Progress = Callable[[int, int, int], None]
"""Told the rows that are done, the rows in all, and those of the first that failed."""
Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is to be answered.

    Attributes:
        samples: all rows of the run.
        left: places in `samples` of those that have no answer yet.
        seconds: how much audio of each row of `samples` the model will hear.
        identity: what is run.
    """

    samples: Sequence[Sample]
    left: Sequence[int]
    seconds: Sequence[float]
    identity: dict[str, str]

    def leases(self, processes: int) -> list[Lease]:
        """The rows that are left, in portions."""
        return cut_leases(self.left, [self.seconds[place] for place in self.left], processes)


def answer_here(
    model: AudioLM | None, config: Config, rows: Rows, attempt: Attempt, progress: Progress, timed: Timed
) -> list[WorkerReport]:
    """Answer rows in this process, which is process 0; others of a launch take their part.

    Args:
        model: the loaded model; None where no row is left, so that none was loaded.
        config: the validated config.
        rows: what is to be answered.
        attempt: this launch's.
        progress: told (rows done, rows in all, rows failed) now and then.
        timed: notes how long a stage takes.

    Raises:
        AudioLMError: as `predict` and `wait_for_others`.
    """
    launch, total = attempt.launch, len(rows.left)
    if not total and launch.world_size == 1:
        return []
    _make_parts(attempt.paths.parts)
    leases = rows.leases(launch.world_size)
    everyone = _Everyone(attempt, total, progress)
    with Journal(attempt.journal(0)) as journal:
        if launch.world_size > 1:
            with timed("meet"):
                announce_leases(attempt, leases, rows.identity)
        with timed("predict"):
            own = _answer(model, config, rows.samples, leases, attempt, journal, everyone.told)
            return [own, *wait_for_others(attempt, everyone.look)]


def answer_part(
    model: AudioLM, config: Config, samples: Sequence[Sample], parent: Path, launch: Launch, identity: dict[str, str]
) -> None:
    """Answer what process 0 of the launch gives out, into a journal of this process.

    Args:
        model: the loaded model.
        config: the validated config.
        samples: all rows of the run.
        parent: the folder that the runs of this mode lie in.
        launch: the place of this process, which is not process 0.
        identity: what is run.

    Raises:
        AudioLMError: as `predict`; also if process 0 does not turn up or runs something else.
    """
    attempt, leases = await_leases(parent, launch, identity)
    with Journal(attempt.journal(launch.rank)) as journal:
        join(attempt, locked=journal.locked)
        done = _answer(model, config, samples, leases, attempt, journal)
        journal.sync()
        # While the journal is still locked: a journal without lock and mark is that of a dead process.
        report_done(attempt, done)


def _answer(
    model: AudioLM | None,
    config: Config,
    samples: Sequence[Sample],
    leases: list[Lease],
    attempt: Attempt,
    journal: Journal,
    progress: Callable[[int, int], None] = lambda rows, failed: None,
) -> WorkerReport:
    """Answer in this process as many leases as the others leave it."""
    launch, run = attempt.launch, config.run
    watch = Watch(
        beat=attempt.mark(launch.rank, "beat"),
        marks=Marks(attempt.paths.parts),
        progress=progress,
        most_failures=run.most_failures(len(samples)),
    )
    taken = leases if launch.world_size == 1 else claimed(attempt, leases)
    stream = (samples[place] for lease in taken for place in lease.rows)
    with warns_of_stalls(watch, run.clip_timeout_s):
        return answer_rows(model, config, [stream], journal, rank=launch.rank, watch=watch)


class _Everyone:
    """How far all processes of a launch are, from what this one says and from the journals of the others."""

    def __init__(self, attempt: Attempt, total: int, progress: Progress) -> None:
        self._tails = [JournalTail(attempt.journal(rank)) for rank in range(1, attempt.launch.world_size)]
        self._total, self._progress = total, progress
        self._own = (0, 0)
        self._next = 0.0

    def told(self, rows: int, failed: int) -> None:
        """Note how many rows this process has done."""
        self._own = (rows, failed)
        if not self._tails or time.monotonic() >= self._next:
            self.look()

    def look(self) -> None:
        """Tell how many rows are done by all."""
        self._next = time.monotonic() + PROGRESS_SECONDS
        for tail in self._tails:
            tail.has_grown()
        if self._total:
            rows, failed = self._own
            rows += sum(tail.lines for tail in self._tails)
            self._progress(rows, self._total, failed + sum(tail.failed for tail in self._tails))


def answer_by_workers(
    pool: Pool,
    config: Config,
    rows: Rows,
    attempt: Attempt,
    progress: Progress,
    timed: Timed,
    heard: Callable[[float | None], None],
) -> list[WorkerReport]:
    """Have rows answered by workers; this process deals them.

    Args:
        pool: where they run.
        config: the validated config.
        rows: what is to be answered.
        attempt: this launch's.
        progress: told (rows done, rows in all, rows failed) now and then.
        timed: notes how long a stage takes; loading ends when the first worker is ready.
        heard: told how many seconds of a clip the workers' model hears.

    Raises:
        AudioLMError: as `Driver.run`.
    """
    _make_parts(attempt.paths.parts)
    total = len(rows.left)
    leases = rows.leases(pool.wanted())
    with Journal(attempt.journal(0)) as journal:
        driver = Driver(
            attempt,
            pool,
            rows.samples,
            leases,
            journal,
            identity=rows.identity,
            clip_timeout=config.run.clip_timeout_s,
            most_failures=config.run.most_failures(len(rows.samples)),
            progress=lambda done, failed: progress(done, total, failed),
            heard=heard,
        )
        try:
            with timed("load_model"):
                driver.start()
            with timed("predict"):
                return driver.run()
        finally:
            pool.close()


def _make_parts(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise JournalError(f"Cannot make the folder {folder}: {error.strerror}.") from error
