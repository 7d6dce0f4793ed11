"""A worker: loads the model once, and answers the rows of one lease after the other until there are none.

In: a socket to the process that deals leases (driver.py). Out: a journal and a heart beat of its own among the run's
parts, and messages. Rows arrive ready to be asked, so a worker reads no annotation.
"""

import contextlib
import logging
import struct
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.config.config import Config
from evaluator.errors import AudioLMError, ModelLoadError, ProcessError, ends_by_signal
from evaluator.model import AudioLM, ModelProvider
from evaluator.provider.loading import load_model
from evaluator.provider.probe import heard_seconds
from evaluator.run.folder import differences, paths_of
from evaluator.run.journal import Journal
from evaluator.run.marks import Marks
from evaluator.run.watch import Watch
from evaluator.workers.launch import Launch
from evaluator.workers.messages import Assignment, Fell, Finished, Message, Ready, Refused, RowFailed, Rows, Want
from evaluator.workers.worker import Attempt, answer_rows

logger = logging.getLogger(__name__)

ROW = struct.Struct("<q")
"""A row in the file of rows whose clip a worker has begun to read."""


def serve(provider: ModelProvider, config: Config, identity: dict[str, str], connection: Connection) -> int:
    """Answer rows until there are none.

    Args:
        provider: the model package.
        config: the validated config, its device that of this worker.
        identity: what is run here, as far as it is known without the annotation.
        connection: to the process that deals leases.

    Returns:
        int: the exit code; why it is not 0 has been said through the connection.
    """
    desk = _Desk(connection)
    try:
        assignment: Assignment = connection.recv()
        _require_same(assignment.identity, identity)
        model = load_model(provider, config)
        desk.say(Ready(heard_seconds(model)))
        _answer(model, config, assignment, desk)
    except AudioLMError as error:
        if isinstance(error, ModelLoadError) and error.__cause__ is not None:
            logger.error("%s", "".join(traceback.format_exception(error.__cause__)))
        desk.say(Refused(type(error).__name__, str(error)))
        return error.exit_code
    # Whatever the model package raises; another worker is tried before a row is given up.
    except (Exception, SystemExit) as error:
        if ends_by_signal(error):
            raise
        logger.error("%s", traceback.format_exc())
        desk.say(Fell(f"{type(error).__name__}: {error}"))
        return 1
    return 0


def _require_same(theirs: dict[str, str], own: dict[str, str]) -> None:
    wrong = differences({name: value for name, value in theirs.items() if name in own}, own)
    if wrong:
        raise ProcessError(f"A worker runs something else than what was started: {', '.join(wrong)} differ(s).")


def _answer(model: AudioLM, config: Config, assignment: Assignment, desk: "_Desk") -> None:
    worker = assignment.worker
    attempt = Attempt(paths_of(assignment.folder), assignment.attempt, Launch(rank=worker), workers=True)
    with Journal(attempt.journal(worker)) as journal, attempt.begun(worker).open("wb", buffering=0) as begun:
        watch = Watch(
            beat=attempt.mark(worker, "beat"),
            marks=Marks(attempt.paths.parts),
            begun=lambda sample: begun.write(ROW.pack(sample.index)),
            failed=lambda prediction: desk.say(RowFailed(prediction.id, prediction.error or "")),
        )
        watch.beat()
        report = answer_rows(model, config, desk.leases(), journal, rank=worker, watch=watch)
        journal.sync()
    desk.say(Finished(report))


class _Desk:
    """The other end: one question and its answer at a time, whichever thread the model pulls its requests in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, message: Message) -> None:
        """Say something that needs no answer; if nobody is there any more, this process ends of itself."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(message)

    def leases(self) -> Iterator[Iterator[Sample]]:
        """Streams of rows, each to be asked to its end: one goes on from lease to lease as long as there is one."""
        while rows := self._next(idle=True):
            yield self._stream(rows)

    def _stream(self, rows: tuple[Sample, ...]) -> Iterator[Sample]:
        while rows:
            yield from rows
            rows = self._next(idle=False)

    def _next(self, *, idle: bool) -> tuple[Sample, ...]:
        with self._lock:
            self._connection.send(Want(idle))
            answer: Rows = self._connection.recv()
        return answer.samples


def begun_rows(path: Path) -> set[int]:
    """The rows whose clip a worker had begun to read; a torn last entry is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return set()
    whole = len(data) // ROW.size * ROW.size
    return {row for (row,) in ROW.iter_unpack(data[:whole])}
