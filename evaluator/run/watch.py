"""What one process does in a run, counted while it does it.

In: the rows that are begun, and the predictions. Out: counts, and a small file among the run's parts, written anew
every two seconds (`HeartBeat`), from which `audiolm-evaluator status` tells how the run goes. A stop that was asked
for, a pause, and too many failures end or hold the stream of rows here.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.errors import ResultError, RunStoppedError, TooManyFailuresError
from evaluator.files import write_json
from evaluator.machine import resident_memory
from evaluator.run.journal import Prediction
from evaluator.run.marks import Marks

BEAT_SECONDS = 2.0
STOPPED = "The run was stopped, as was asked for (audiolm-evaluator stop)."


@dataclass(frozen=True, slots=True)
class HeartBeat:
    """How far a process is.

    Attributes:
        pid: of the process.
        host: its machine.
        began: when it began to predict, in seconds since 1970.
        at: when this was written.
        rows: predictions so far.
        failed: those of them without an answer.
        memory: its resident size, in bytes; None where the system does not say.
    """

    pid: int
    host: str
    began: float
    at: float
    rows: int
    failed: int
    memory: int | None


class Watch:
    """The books of one process.

    Args:
        beat: the file for its heart beat; None: nobody looks.
        marks: of the run; None: nobody stops it.
        progress: told the number of rows that are done, and of those of them that failed, after each.
        begun: told each row before its clip is read.
        failed: told each prediction that is a failure.
        most_failures: so many rows without an answer are borne; None: any number.
    """

    def __init__(
        self,
        *,
        beat: Path | None = None,
        marks: Marks | None = None,
        progress: Callable[[int, int], None] = lambda rows, failed: None,
        begun: Callable[[Sample], object] = lambda sample: None,
        failed: Callable[[Prediction], None] = lambda prediction: None,
        most_failures: int | None = None,
    ) -> None:
        self.rows = 0
        self.in_hand = 0
        self.failed = 0
        self.audio_seconds = 0.0
        self._beat = beat
        self._marks = marks
        self._progress = progress
        self._begun = begun
        self._tell_failed = failed
        self._most_failures = most_failures
        self._stopped = False
        self._began = time.time()
        self._next_beat = 0.0

    def gate(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The rows, each when it is asked for: none while the run is paused, none any more once it is to stop."""
        for sample in samples:
            if self._marks is not None and self._marks.stops():
                self._stopped = True
                return
            self._begun(sample)
            self.in_hand += 1
            yield sample

    def is_paused(self) -> bool:
        """Whether the run stands still because that was asked for."""
        return self._marks is not None and self._marks.paused()

    def count(self, prediction: Prediction) -> None:
        """Count a prediction that is in the journal.

        Raises:
            TooManyFailuresError: it is one failure more than is borne.
        """
        self.rows += 1
        self.in_hand -= 1
        self.audio_seconds += prediction.audio_seconds
        if prediction.error is not None:
            self._tell_failed(prediction)
            self.fail(f"{prediction.id}: {prediction.error}")
        self._progress(self.rows, self.failed)
        if self._beat is not None and time.monotonic() >= self._next_beat:
            self.beat()

    def fail(self, row: str) -> None:
        """Count a row without an answer, of this process or of another.

        Raises:
            TooManyFailuresError: it is one more than is borne.
        """
        self.failed += 1
        if self._most_failures is not None and self.failed > self._most_failures:
            raise TooManyFailuresError(
                f"{self.failed} row(s) have no answer, and run.max_failures is {self._most_failures}. "
                f"The last of them: {row}"
            )

    def beat(self) -> None:
        """Write the heart beat now."""
        if self._beat is None:
            return
        self._next_beat = time.monotonic() + BEAT_SECONDS
        now = HeartBeat(
            pid=os.getpid(),
            host=socket.gethostname(),
            began=round(self._began, 3),
            at=round(time.time(), 3),
            rows=self.rows,
            failed=self.failed,
            memory=resident_memory(),
        )
        write_json(self._beat, asdict(now))

    @contextlib.contextmanager
    def until_last_beat(self) -> Iterator[None]:
        """Write the heart beat also when the work in this block ends, however it does."""
        try:
            yield
        finally:
            # What ended the work is told, and not that its count could not be written.
            with contextlib.suppress(ResultError):
                self.beat()

    def require_whole(self) -> None:
        """End here if the run was stopped.

        Raises:
            RunStoppedError: rows were left out because of that.
        """
        if self._stopped:
            raise RunStoppedError(STOPPED)
