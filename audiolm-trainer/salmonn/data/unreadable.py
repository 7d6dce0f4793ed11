"""Clips that cannot be read: named, counted, left out, and no more of them than allowed.

Each clip is one warning; once they are too many there is an error. No other clip ever takes the place of one.
"""

import logging
import threading
from collections.abc import Sequence

from salmonn.errors import AudioError
from salmonn.wording import counted

logger = logging.getLogger(__name__)

SHOWN_CLIPS = 10


class UnreadableClips:
    """Keeps count of the clips of a run that cannot be read; threads may share it.

    Args:
        limit: how many distinct clips are left out before one more stops the run.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def names(self) -> list[str]:
        """The clips so far, sorted."""
        return sorted(self._reasons)

    def reason(self, name: str) -> str:
        """Say why a clip that was added cannot be read."""
        return self._reasons[name]

    def add(self, name: str, reason: str) -> None:
        """Note a clip; the first time with a warning, later silently.

        Args:
            name: the clip, the same whenever it is met.
            reason: a sentence for the warning.

        Raises:
            AudioError: there are now more than `limit`; every later new clip raises as well.
        """
        with self._lock:
            if name in self._reasons:
                return
            self._reasons[name] = reason
            count = len(self._reasons)
        logger.warning("left out %s (%d of at most %d): %s", name, count, self.limit, reason)
        if count > self.limit:
            raise AudioError(f"{too_many(self.names, self.limit)}. The last one: {reason}")


def too_many(names: Sequence[str], limit: int) -> str:
    """Say that more clips cannot be read than are left out, and name the first ones."""
    more = len(names) - SHOWN_CLIPS
    shown = ", ".join([*names[:SHOWN_CLIPS], *([f"and {more} more"] if more > 0 else [])])
    return f"{counted(len(names), 'clip')} cannot be read, run.max_unreadable allows {limit}: {shown}"
