"""Pausing and stopping a run from outside: two files among its parts, which every process of it looks for.

In: the folder of a run's parts. Out: whether the run may go on. Files reach every machine that shares the folder, and
need nobody to be listening.
"""

import contextlib
import time
from pathlib import Path

from evaluator.errors import JournalError

PAUSE = "pause"
STOP = "stop"
LOOK_SECONDS = 0.5
"""How old the last look at the folder may be."""


class Marks:
    """The marks of one run, looked at now and then.

    Args:
        parts: the folder of the run's parts.
    """

    def __init__(self, parts: Path) -> None:
        self._parts = parts
        self._looked = 0.0
        self._found: frozenset[str] = frozenset()

    def stops(self) -> bool:
        """Whether the run is to end; waits as long as it is paused."""
        while PAUSE in self._look() and STOP not in self._found:
            time.sleep(LOOK_SECONDS)
        return STOP in self._found

    def paused(self) -> bool:
        """Whether the run is paused."""
        return PAUSE in self._look()

    def _look(self) -> frozenset[str]:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._found = frozenset(name for name in (PAUSE, STOP) if (self._parts / name).exists())
        return self._found


def set_mark(parts: Path, name: str) -> None:
    """Make a mark.

    Raises:
        JournalError: the folder cannot be written.
    """
    try:
        (parts / name).touch()
    except OSError as error:
        raise JournalError(f"Cannot make {parts / name}: {error.strerror}.") from error


def clear_marks(parts: Path, *names: str) -> None:
    """Remove marks that are there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in names:
            (parts / name).unlink(missing_ok=True)
