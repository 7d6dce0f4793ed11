"""Bringing an open file onto the disk in a thread, so that whoever writes does not wait for the disk.

In: the descriptor of a file, and word of each write. Out: what was written is on the disk about a second later, where a
power cut leaves it; what the disk refuses is raised by the next call.
"""

import os
import threading

SYNC_SECONDS = 1.0


class DiskSync:
    """One file's way to the disk.

    Args:
        descriptor: of a file that stays open until `close`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = threading.Event()
        self._ending = threading.Event()
        self._error: OSError | None = None
        self._started = False
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)

    def written(self) -> None:
        """Note that there is something new to bring onto the disk; does not wait for it.

        Raises:
            OSError: what the disk refused since the last call.
        """
        self._raise_error()
        self._written.set()
        if not self._started:
            self._started = True
            self._thread.start()

    def now(self) -> None:
        """Bring everything onto the disk before this returns.

        Raises:
            OSError: what the disk refuses, or refused since the last call.
        """
        self._raise_error()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """End the thread, and bring everything onto the disk before this returns.

        Raises:
            OSError: as `now`.
        """
        self._ending.set()
        self._written.set()
        if self._started:
            self._thread.join()
        self.now()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._written.wait()
            if self._ending.wait(SYNC_SECONDS):
                return
            # Cleared before: what is written meanwhile is brought onto the disk by the next turn.
            self._written.clear()
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                self._error = error
                return

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
