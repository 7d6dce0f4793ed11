"""The driver of a run with workers: deals leases to them, replaces those that die, and ends those that hang.

In: the rows that are left, a pool of workers. Out: every row has a line in a journal, either an answer or the reason
why it has none: a row that ended MOST_DEATHS workers, which is counted as failed. The driver holds no model; of rows it
holds places only.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluator import errors
from evaluator.annotation.annotation import Sample
from evaluator.errors import AudioLMError, ProcessError, RunStoppedError
from evaluator.run.journal import Journal, JournalTail, journalled_rows
from evaluator.run.marks import Marks
from evaluator.run.predict import failed_prediction
from evaluator.run.watch import STOPPED, Watch
from evaluator.workers.desk import MOST_DEATHS, LeaseDesk
from evaluator.workers.leases import Lease
from evaluator.workers.messages import (
    Assignment,
    Ended,
    Fell,
    Finished,
    Message,
    Ready,
    Refused,
    RowFailed,
    Rows,
    Want,
)
from evaluator.workers.pool import Pool
from evaluator.workers.serve import begun_rows
from evaluator.workers.worker import Attempt, WorkerReport

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5
MOST_IDLE_DEATHS = 3
"""Deaths in a row of workers that had begun no row: then it is not a row that ends them."""


@dataclass(slots=True)
class _Worker:
    """What is known of a living worker."""

    journal: JournalTail
    ready: bool = False
    idle: bool = False
    finished: bool = False
    reason: str = ""
    since: float = field(default_factory=time.monotonic)


class Driver:
    """One launch's work on a run, done by workers.

    Args:
        attempt: this launch's.
        pool: where workers run.
        samples: all rows of the run.
        leases: places in `samples` of the rows that are to be asked.
        journal: this process's own, for the rows that no worker could answer.
        identity: what is run; a worker that runs something else says so.
        clip_timeout: seconds without an answer after which a worker that has rows in hand is ended; 0: never.
        most_failures: so many rows without an answer are borne; None: any number.
        progress: told the number of rows that are done, and of those of them that failed, now and then.
        heard: told how many seconds of a clip a worker's model hears.
    """

    def __init__(
        self,
        attempt: Attempt,
        pool: Pool,
        samples: Sequence[Sample],
        leases: Sequence[Lease],
        journal: Journal,
        *,
        identity: dict[str, str],
        clip_timeout: float,
        most_failures: int | None,
        progress: Callable[[int, int], None],
        heard: Callable[[float | None], None],
    ) -> None:
        self._attempt = attempt
        self._pool = pool
        self._samples = samples
        self._desk = LeaseDesk(leases)
        self._rows = sum(len(lease.rows) for lease in leases)
        self._journal = journal
        self._identity = identity
        self._clip_timeout = clip_timeout
        self._progress = progress
        self._heard = heard
        self._marks = Marks(attempt.paths.parts)
        self._watch = Watch(beat=attempt.mark(0, "beat"), most_failures=most_failures)
        self._workers: dict[int, _Worker] = {}
        self._reports: list[WorkerReport] = []
        self._last = 0
        self._earlier = 0
        self._idle_deaths = 0
        self._ready = False
        self._stopped = False

    def start(self) -> None:
        """Start workers, and wait until the first one has its model.

        Raises:
            AudioLMError: as `run`.
        """
        while not (self._ready or self._stopped or (self._desk.over and not self._workers)):
            self._turn()

    def run(self) -> list[WorkerReport]:
        """Have all rows answered.

        Returns:
            list[WorkerReport]: of the workers that ended as they should.

        Raises:
            AudioLMError: what a worker refused to go on with; too many failures; a stop that was asked for.
            ProcessError: workers end before they have begun a row, or no row is ever answered.
        """
        while self._workers or not (self._desk.over or self._stopped):
            self._turn()
        if self._stopped:
            raise RunStoppedError(STOPPED)
        self._progress(self._rows, self._watch.failed)
        return sorted(self._reports, key=lambda report: report.rank)

    def _turn(self) -> None:
        self._hire()
        for worker, message in self._pool.receive(TURN_SECONDS):
            self._hear(worker, message)
        self._look_around()

    def _hire(self) -> None:
        """Start workers up to the number wanted, as long as there are rows for them."""
        if self._stopped:
            return
        while len(self._workers) < min(self._pool.wanted(), self._rows) and self._desk.open:
            self._last += 1
            self._workers[self._last] = _Worker(JournalTail(self._attempt.journal(self._last)))
            self._pool.start(self._last)
            self._pool.send(
                self._last, Assignment(self._attempt.paths.folder, self._attempt.number, self._last, self._identity)
            )

    def _hear(self, number: int, message: Message) -> None:
        worker = self._workers[number]
        worker.since = time.monotonic()
        match message:
            case Ready(seconds):
                worker.ready = self._ready = True
                self._heard(seconds)
            case Want(idle):
                worker.idle = idle
                self._answer(number, idle=idle)
            case RowFailed(row, reason):
                self._watch.fail(f"{row}: {reason}")
            case Finished(report):
                worker.finished, self._idle_deaths = True, 0
                self._reports.append(report)
            case Refused(kind, text):
                self._refuse(kind, text)
            case Fell(reason):
                worker.reason = reason
            case Ended(reason):
                self._pool.kill(number)
                self._bury(number, worker.reason or reason)

    def _answer(self, number: int, *, idle: bool) -> None:
        """Give a worker its next rows; one that has nothing else to do waits until there are some, or never will be."""
        lease = None if self._stopped else self._desk.take(number, idle=idle)
        if lease is None and idle and not (self._desk.over or self._stopped):
            return
        worker = self._workers[number]
        # It may have waited for these rows longer than a clip may take.
        worker.idle, worker.since = False, time.monotonic()
        self._pool.send(number, Rows(tuple(self._samples[place] for place in lease.rows) if lease is not None else ()))

    def _refuse(self, kind: str, text: str) -> None:
        """End the run with a worker's error; a stop ends it when the other workers have come to theirs."""
        if kind == RunStoppedError.__name__:
            self._stopped = True
            return
        found = getattr(errors, kind, AudioLMError)
        raise found(text)

    def _look_around(self) -> None:
        """Wake those who wait, end those who hang, and tell how far the run is."""
        if self._marks.paused():
            for worker in self._workers.values():
                worker.since = time.monotonic()
        for number, worker in list(self._workers.items()):
            if not worker.ready and (self._desk.over or self._stopped):
                # It came too late, or a cluster has no place for it.
                self._pool.kill(number)
                del self._workers[number]
            elif worker.idle:
                self._answer(number, idle=True)
            elif self._clip_timeout and self._hangs(number, worker):
                reason = f"no answer for {self._clip_timeout:g} s (run.clip_timeout_s)"
                self._pool.kill(number)
                self._bury(number, reason)
        self._progress(self._done(), self._watch.failed)

    def _hangs(self, number: int, worker: _Worker) -> bool:
        if worker.journal.has_grown():
            worker.since = time.monotonic()
        return self._desk.holds(number) and time.monotonic() - worker.since > self._clip_timeout

    def _done(self) -> int:
        """How many rows have their line in a journal of this launch."""
        for worker in self._workers.values():
            worker.journal.has_grown()
        return self._earlier + sum(worker.journal.lines for worker in self._workers.values())

    def _bury(self, number: int, reason: str) -> None:
        """Take back what a worker had that is over, whether it died or not."""
        worker = self._workers.pop(number)
        worker.journal.has_grown()
        self._earlier += worker.journal.lines
        if worker.finished or self._stopped:
            return
        logger.warning("Worker %d died: %s.", number, reason)
        held = {self._samples[place].index: place for place in self._desk.held(number)}
        begun = begun_rows(self._attempt.begun(number)) & held.keys()
        answered = {row for row in journalled_rows(self._attempt.journal(number)) if row in held}
        self._idle_deaths = 0 if begun - answered else self._idle_deaths + 1
        if self._idle_deaths >= MOST_IDLE_DEATHS + self._pool.wanted() - 1:
            raise ProcessError(
                f"{self._idle_deaths} workers died before they had begun a clip. The last one: {reason}."
            )
        lost = self._desk.lose(number, answered={held[row] for row in answered}, begun={held[row] for row in begun})
        for place in lost:
            self._give_up(self._samples[place], reason)

    def _give_up(self, sample: Sample, reason: str) -> None:
        """Count a row as failed that has ended one worker too many."""
        if self._done() == 0:
            raise ProcessError(f"No clip was ever answered, and {MOST_DEATHS} workers died. The last one: {reason}.")
        logger.warning("%s has no answer: it ended %d worker(s). The last one: %s.", sample.id, MOST_DEATHS, reason)
        failed = failed_prediction(sample, f"ended {MOST_DEATHS} workers; the last one: {reason}")
        self._journal.append(failed)
        self._earlier += 1
        self._watch.count(failed)
        self._watch.beat()
