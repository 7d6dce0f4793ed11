"""Saying that a model has not answered for long: a thread that looks at the clock while this process predicts.

In: the books of this process. Out: a warning for each time it stands still. It cannot end a call that hangs; workers,
which another process watches, can be ended (evaluator/workers/driver.py).
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from evaluator.run.watch import Watch

logger = logging.getLogger(__name__)


@contextmanager
def warns_of_stalls(watch: Watch, seconds: float) -> Iterator[None]:
    """Warn whenever clips are in hand and no row was done for so many seconds; 0: never.

    Args:
        watch: of this process.
        seconds: to wait.
    """
    over = threading.Event()

    def look() -> None:
        rows, since = watch.rows, time.monotonic()
        while not over.wait(min(1.0, seconds / 4)):
            if watch.rows != rows or not watch.in_hand or watch.is_paused():
                rows, since = watch.rows, time.monotonic()
            elif time.monotonic() - since > seconds:
                logger.warning(
                    "No answer for %g s (run.clip_timeout_s); %d clip(s) are in hand. "
                    "With --supervise a model that hangs is ended, and the run goes on.",
                    seconds,
                    watch.in_hand,
                )
                since = time.monotonic()

    thread = threading.Thread(target=look, name="stall watch", daemon=True)
    if seconds:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if seconds:
            thread.join()
