"""One process or several: what a launcher (torchrun, accelerate launch) says of this process.

In: environment variables. Out: a Launch: which of how many processes this is, and which GPU of its machine it gets.
No process group is made and no tensor library is asked: the processes of a run share nothing but its folder.
"""

import hashlib
import socket
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass

from evaluator.errors import ConfigError

SOCKET_VARIABLE = "AUDIOLM_WORKER_SOCKET"
"""In a worker's environment: the number of its end of the socket to the process that started it."""

_LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Launch:
    """The place of this process in its launch.

    Attributes:
        rank: which process this is, from 0; only process 0 speaks, merges and scores.
        world_size: how many there are.
        local_rank: which of the processes of this machine this is, from 0.
        key: the same for all processes of a launch. Another launch may have it too (launchers reuse ports), so it says
            where processes look for each other, never which run they belong to.
        restarted: whether the launcher has started this process again after a failure.
        launched: whether a launcher has started this process and waits for it: where that dies, nobody does.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    key: str = ""
    restarted: bool = False
    launched: bool = False


SINGLE = Launch()


def launch_of(environment: Mapping[str, str]) -> Launch:
    """Read the launcher's variables RANK, WORLD_SIZE and LOCAL_RANK.

    Args:
        environment: usually `os.environ`.

    Returns:
        Launch: `SINGLE` where WORLD_SIZE is not set or is 1.

    Raises:
        ConfigError: a variable is missing or no number, or RANK is not below WORLD_SIZE.

    Example:
        {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", ...} -> rank 3 of 4, the second process of its machine.
    """
    if environment.get("WORLD_SIZE", "1") == "1":
        return Launch(restarted=_restarted(environment), launched=_launched(environment))
    numbers = {}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        text = environment.get(name, "")
        if not text.isascii() or not text.isdigit():
            raise ConfigError(
                f"The environment variable {name} is {text!r} while WORLD_SIZE is {environment['WORLD_SIZE']!r}. "
                "Start several processes with torchrun or accelerate launch, or unset WORLD_SIZE for one."
            )
        numbers[name] = int(text)
    if numbers["RANK"] >= numbers["WORLD_SIZE"]:
        raise ConfigError(f"RANK is {numbers['RANK']}, which is not below WORLD_SIZE, {numbers['WORLD_SIZE']}.")
    return Launch(
        rank=numbers["RANK"],
        world_size=numbers["WORLD_SIZE"],
        local_rank=numbers["LOCAL_RANK"],
        key=_key(environment),
        restarted=_restarted(environment),
        launched=_launched(environment),
    )


def worker_socket(environment: MutableMapping[str, str]) -> int | None:
    """A worker's end of its socket, taken out of the environment; None in a process that is no worker."""
    number = environment.pop(SOCKET_VARIABLE, None)
    return None if number is None else int(number)


def worker_launch(environment: Mapping[str, str]) -> Launch:
    """The place of a worker: its number, and which of its machine's it is; it ends soon after whoever started it."""
    return Launch(rank=int(environment["RANK"]), world_size=2, local_rank=int(environment["LOCAL_RANK"]), launched=True)


def device_of(device: str, launch: Launch, num_gpus: Callable[[], int] | None) -> str:
    """The device of this process: of several processes on one machine each gets a GPU of its own.

    Args:
        device: as configured: "auto", "cpu", "cuda" or "cuda:1"; only "auto" and "cuda" leave a choice.
        launch: the place of this process.
        num_gpus: counts the GPUs of this machine; None: nobody here can, "auto" stays as it is.

    Returns:
        str: for example "cuda:1" for "auto" in the second process of a machine with two GPUs; "auto" without a GPU.

    Raises:
        ConfigError: this machine has GPUs, but fewer than processes.
    """
    if launch.world_size == 1 or device not in ("auto", "cuda"):
        return device
    count = num_gpus() if num_gpus is not None else None
    if device == "auto" and not count:
        return device
    if count is not None and launch.local_rank >= count:
        raise ConfigError(
            f"Process {launch.rank} is number {launch.local_rank + 1} on this machine, which has {count} GPU(s). "
            "Launch one process for each GPU (torchrun --nproc_per_node), or give --device cpu."
        )
    return f"cuda:{launch.local_rank}"


def _key(environment: Mapping[str, str]) -> str:
    address = environment.get("MASTER_ADDR", "")
    # Two machines that share a disk both call themselves localhost.
    host = socket.gethostname() if address in _LOOPBACK else address
    names = ("MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "WORLD_SIZE")
    told = "\n".join([host, *(environment.get(name, "") for name in names)])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _restarted(environment: Mapping[str, str]) -> bool:
    return environment.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def _launched(environment: Mapping[str, str]) -> bool:
    # torchrun and accelerate launch set it; processes that a script has started in the background outlive that script.
    return bool(environment.get("TORCHELASTIC_RUN_ID"))
