"""Clips that cannot be read: named, counted, left out, and no more of them than allowed.

In go names and reasons; out come one warning for each clip and an error once they are too many. No other clip ever
takes the place of one.
"""

import logging
import threading

from salmonn.errors import AudioError

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
            more = [f"and {count - SHOWN_CLIPS} more"] if count > SHOWN_CLIPS else []
            shown = ", ".join([*self.names[:SHOWN_CLIPS], *more])
            what = "1 clip" if count == 1 else f"{count} clips"
            raise AudioError(
                f"{what} cannot be read, run.max_unreadable allows {self.limit}: {shown}. The last one: {reason}"
            )
