"""Workers on a Ray cluster: an actor for each, which starts the same command on its node and passes messages on.

In: the cluster's address and the number of workers. Out: what the workers say. Journals lie in the run's folder, which
all nodes share; through Ray go only the rows of a lease and short messages. An actor or node that dies is a worker that
died. Nodes may join: as long as the number of workers is left to the cluster, each new GPU gets one.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.errors import ConfigError
from evaluator.extras import check_installed
from evaluator.workers.child import PATIENCE_SECONDS, Child
from evaluator.workers.messages import Assignment, Ended, Message, Rows

COUNT_SECONDS = 2.0
"""How long a count of the cluster's GPUs holds."""
CONNECT_SECONDS = 10.0


class Host:
    """What runs in an actor: one worker's process on this node.

    Args:
        arguments: of the command, without the interpreter.
        told: environment variables that are added to the node's own.
        folder: working directory.
    """

    def __init__(self, arguments: Sequence[str], told: Mapping[str, str], folder: str) -> None:
        self._child = Child([sys.executable, *arguments], {**os.environ, **told}, folder)

    def receive(self) -> Message:
        """The next message."""
        return self._child.receive()

    def send(self, message: Assignment | Rows) -> None:
        """Say something."""
        self._child.send(message)

    def end(self, patience: float) -> None:
        """End the process, at the latest after so many seconds."""
        if patience:
            self._child.stop()
        self._child.kill(patience)


class RayPool:
    """Actors of a cluster.

    Args:
        address: of the cluster: "auto", "head-node:6379".
        workers: how many; 0: one for each GPU, or where there are none for each node with a CPU.
        environment: of this process.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str, workers: int, environment: Mapping[str, str]) -> None:
        check_installed("ray")
        import ray

        self._ray: Any = ray
        _require_somebody(address)
        path = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))  # noqa: PTH109
        try:
            ray.init(address=address, log_to_driver=True, runtime_env={"env_vars": {"PYTHONPATH": path}})
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--ray: no cluster answers at {address}: {error}.") from error
        self._workers = workers
        self._threads = {name: environment[name] for name in ("OMP_NUM_THREADS",) if name in environment}
        self._actors: dict[int, Any] = {}
        self._waiting: dict[Any, int] = {}
        self._counted: tuple[float, int] = (0.0, 0)

    def wanted(self) -> int:
        """How many workers there should be now."""
        if self._workers:
            return self._workers
        at, count = self._counted
        if not count or time.monotonic() - at > COUNT_SECONDS:
            count = self._gpus() or sum(
                bool(node["Alive"] and node["Resources"].get("CPU", 0) >= 1) for node in self._ray.nodes()
            )
            self._counted = (time.monotonic(), count)
        return max(1, count)

    def _gpus(self) -> int:
        return int(self._ray.cluster_resources().get("GPU", 0))

    def start(self, worker: int) -> None:
        """Ask for an actor; it starts when the cluster has a place for it."""
        places = {"num_cpus": 1, "num_gpus": 1 if self._gpus() else 0}
        actor = self._ray.remote(max_restarts=0, max_concurrency=3, **places)(Host)
        told = {**self._threads, "RANK": str(worker), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        self._actors[worker] = actor.remote(sys.orig_argv[1:], told, os.getcwd())  # noqa: PTH109
        self._listen(worker)

    def receive(self, seconds: float) -> list[tuple[int, Message]]:
        """What workers have said."""
        if not self._waiting:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=seconds)
        if ready:
            # What has come meanwhile as well.
            ready, _ = self._ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
        heard: list[tuple[int, Message]] = []
        for reference in ready:
            worker = self._waiting.pop(reference)
            try:
                heard.append((worker, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                heard.append((worker, Ended(f"its actor or node is gone ({type(error).__name__})")))
            if not isinstance(heard[-1][1], Ended):
                self._listen(worker)
        return heard

    def send(self, worker: int, message: Assignment | Rows) -> None:
        """Say something to a worker."""
        self._actors[worker].send.remote(message)

    def kill(self, worker: int) -> None:
        """End a worker at once; of one whose node is gone nothing more is heard."""
        self._end([worker], patience=0.0)

    def close(self) -> None:
        """End all workers, and leave the cluster."""
        self._end(list(self._actors), patience=PATIENCE_SECONDS)
        self._ray.shutdown()

    def _end(self, workers: Sequence[int], patience: float) -> None:
        actors = [self._actors.pop(worker) for worker in workers if worker in self._actors]
        self._waiting = {reference: worker for reference, worker in self._waiting.items() if worker not in workers}
        ended = [actor.end.remote(patience) for actor in actors]
        if ended:
            self._ray.wait(ended, num_returns=len(ended), timeout=2 * PATIENCE_SECONDS)
        for actor in actors:
            self._ray.kill(actor)

    def _listen(self, worker: int) -> None:
        self._waiting[self._actors[worker].receive.remote()] = worker


def _require_somebody(address: str) -> None:
    """Refuse an address where nobody listens, for which Ray would wait minutes.

    Raises:
        ConfigError: it is one of a host and a port, and nobody answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray: no cluster answers at {address}: {error}.") from error
