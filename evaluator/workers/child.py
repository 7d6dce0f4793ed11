"""A worker's process, seen from the one that started it: the same command again, with a socket to talk through.

In: the command line of this process. Out: messages of the worker, and at last that it is over and why.
"""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

from evaluator.workers.launch import SOCKET_VARIABLE
from evaluator.workers.messages import Assignment, Ended, Message, Rows

PATIENCE_SECONDS = 5.0
"""Of a worker that is asked to end."""


def own_command() -> list[str]:
    """The command line that started this process, to be given again."""
    return [sys.executable, *sys.orig_argv[1:]]


class Child:
    """One worker's process.

    Args:
        command: what to start.
        environment: its environment variables.
        folder: its working directory.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
        here, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(
                command,
                env={**environment, SOCKET_VARIABLE: str(there.fileno())},
                cwd=folder,
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                # Results are printed by one process alone; whatever a model prints is no result.
                stdout=2,
                # Ctrl-C ends workers by way of the process that deals to them.
                start_new_session=True,
            )
        self.connection = Connection(here.detach())

    def receive(self) -> Message:
        """The next message; waits for it."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return Ended(_how(self._process.wait()))
        return message

    def send(self, message: Assignment | Rows) -> None:
        """Say something; that nobody is there any more will be known from `receive`."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does."""
        with contextlib.suppress(OSError):
            self._process.terminate()

    def kill(self, patience: float = 0.0) -> None:
        """End it, at the latest after `patience` seconds, and return when it is over."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.connection.close()


def _how(code: int) -> str:
    """How a process ended: -9 -> "killed by SIGKILL"."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
