"""Workers on this machine: how many, which GPU each gets, and their messages.

In: the number of workers. Out: processes of the same command (`Child`), and what they say. `Pool` is what the driver
asks of any place where workers run; on_ray.py has another.
"""

import os
from collections.abc import Mapping
from multiprocessing.connection import wait
from typing import Protocol

from evaluator.workers.child import PATIENCE_SECONDS, Child, own_command
from evaluator.workers.messages import Assignment, Message, Rows


class Pool(Protocol):
    """A place where workers run."""

    def wanted(self) -> int:
        """How many workers there should be now."""
        ...

    def start(self, worker: int) -> None:
        """Start a worker."""
        ...

    def receive(self, seconds: float) -> list[tuple[int, Message]]:
        """What workers have said, after waiting so long at most. After `Ended` nothing more comes from one."""
        ...

    def send(self, worker: int, message: Assignment | Rows) -> None:
        """Say something to a worker."""
        ...

    def kill(self, worker: int) -> None:
        """End a worker at once; it is over, and forgotten, when this returns."""
        ...

    def close(self) -> None:
        """End all workers, and give back the place."""
        ...


class LocalPool:
    """Processes of this machine.

    Args:
        workers: how many.
        environment: of this process.
    """

    def __init__(self, workers: int, environment: Mapping[str, str]) -> None:
        self._workers = workers
        self._environment = environment
        self._children: dict[int, Child] = {}
        self._slots: dict[int, int] = {}

    def wanted(self) -> int:
        """How many workers there should be."""
        return self._workers

    def start(self, worker: int) -> None:
        """Start a worker in the place, and with the GPU, of one that is gone."""
        slot = min(set(range(self._workers)) - set(self._slots.values()))
        self._slots[worker] = slot
        told = {"LOCAL_RANK": str(slot), "RANK": str(worker), "LOCAL_WORLD_SIZE": str(self._workers)}
        self._children[worker] = Child(own_command(), {**self._environment, **told}, os.getcwd())  # noqa: PTH109

    def receive(self, seconds: float) -> list[tuple[int, Message]]:
        """What workers have said."""
        ready = set(wait([child.connection for child in self._children.values()], seconds))
        return [
            (worker, child.receive()) for worker, child in list(self._children.items()) if child.connection in ready
        ]

    def send(self, worker: int, message: Assignment | Rows) -> None:
        """Say something to a worker."""
        self._children[worker].send(message)

    def kill(self, worker: int) -> None:
        """End a worker at once."""
        self._slots.pop(worker, None)
        child = self._children.pop(worker, None)
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End all workers: each has a moment to bring its journal onto the disk."""
        for child in self._children.values():
            child.stop()
        for worker in list(self._children):
            self._children.pop(worker).kill(PATIENCE_SECONDS)
