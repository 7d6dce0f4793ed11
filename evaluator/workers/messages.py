"""What a worker and the process that deals leases say to each other.

In and out: values that are pickled through a socket between processes of one command, never read from a file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evaluator.annotation.annotation import Sample
from evaluator.workers.worker import WorkerReport


@dataclass(frozen=True, slots=True)
class Assignment:
    """The first word to a worker: what it works on.

    Attributes:
        folder: the run's.
        attempt: the number of the launch's work on it.
        worker: its own number, from 1.
        identity: what is run; what the worker can check of it is checked.
    """

    folder: Path
    attempt: int
    worker: int
    identity: dict[str, str]


class Rows(NamedTuple):
    """An answer to `Want`: the next rows. None of them: there are none now, and for an idle worker never again."""

    samples: tuple[Sample, ...]


class Ready(NamedTuple):
    """The model is loaded; how many seconds of a clip it hears, None where it does not say."""

    heard_seconds: float | None


class Want(NamedTuple):
    """More rows are wanted; whether all that were given are answered."""

    idle: bool


class RowFailed(NamedTuple):
    """A row has no answer."""

    id: str
    reason: str


class Finished(NamedTuple):
    """The worker has nothing left to do."""

    report: WorkerReport


class Refused(NamedTuple):
    """The worker ends with an error that no other worker would be spared: the name of its class, and its words."""

    kind: str
    text: str


class Fell(NamedTuple):
    """The worker ends because something raised that another may be spared."""

    reason: str


class Ended(NamedTuple):
    """The worker's process is over, without a last word of its own."""

    reason: str


Message = Ready | Want | RowFailed | Finished | Refused | Fell | Ended
