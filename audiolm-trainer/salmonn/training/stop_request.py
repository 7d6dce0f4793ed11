"""A request from outside to stop: SIGTERM (a cluster's scheduler) or SIGINT (Ctrl-C), noted and not obeyed at once.

The training loop looks at it between optimizer steps, saves, and ends. A second Ctrl-C interrupts at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal asked for an end, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def note(self, number: int, _frame: FrameType | None = None) -> None:
        """Remember a signal; the second interrupt is one.

        Raises:
            KeyboardInterrupt: SIGINT came before.
        """
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the signals while inside; outside the main thread, which alone gets signals, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
