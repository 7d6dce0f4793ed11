"""The processes that count a large set's errors: batches of texts in, their ErrorRates in the same order out.

Each runs counting/process.py and speaks over its pipes. They are no forks of this process, which may hold a model, and
import nothing of its script. They end with the block that they are used in, and by themselves if this process is gone.
"""

import contextlib
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.wer import ErrorRate

Batch = tuple[list[str], list[str]]
_FIX = "score again with more free memory"


class CountingProcesses:
    """Processes that count; use it as a context.

    Args:
        number: how many.

    Example:
        with CountingProcesses(2) as workers:
            for errors in workers.count(["challenge_words"], batches): ...
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "CountingProcesses":
        with contextlib.ExitStack() as opened:
            # The threads wait for the processes: these are ended first.
            self._threads = opened.enter_context(ThreadPoolExecutor(self._number, "counting"))
            for _ in range(self._number):
                process = _start()
                opened.callback(_end, process)
                self._idle.put(process)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def count(self, compare: Sequence[str], batches: Iterable[Batch]) -> Iterator[list[ErrorRate]]:
        """Count batches, of which no more than are being counted, and one for each process, are held.

        Raises:
            MetricUnavailableError: what a process raised, or it ended early.
        """
        waiting: deque[Future[list[ErrorRate]]] = deque()
        try:
            for batch in batches:
                waiting.append(self._threads.submit(self._ask, compare, batch))
                if len(waiting) >= 2 * self._number:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _ask(self, compare: Sequence[str], batch: Batch) -> list[ErrorRate]:
        """In a thread: have a batch counted by the process that is idle."""
        process = self._idle.get()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump((list(compare), *batch), process.stdin)
            process.stdin.flush()
            answer: Any = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError, ValueError) as error:
            status = process.wait()
            raise MetricUnavailableError(
                f"a process that counts errors ended early (exit status {status})", fix=_FIX
            ) from error
        finally:
            self._idle.put(process)
        if isinstance(answer, Exception):
            raise answer
        found: list[ErrorRate] = answer
        return found


def _start() -> "subprocess.Popen[bytes]":
    """Start a process with this interpreter, from the folder that holds the package, wherever that is."""
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", "evaluator.scoring.counting.process"]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
