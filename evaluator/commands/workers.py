"""Options of the evaluate command that let workers run the model: --workers, --supervise and --ray.

In: what was typed. Out: a place where workers run, or None where the model runs in this process.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from evaluator.errors import ConfigError

if TYPE_CHECKING:
    from evaluator.workers.pool import Pool

Command = TypeVar("Command", bound=Callable[..., Any])


class _WorkerCount(click.ParamType[int]):
    """A number of workers, or "auto", which is 0."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "auto":
            return 0
        if str(value).isascii() and str(value).isdecimal() and 1 <= int(value) <= 4096:
            return int(value)
        return self.fail(f"{value!r} is neither auto nor a number from 1 to 4096.", param, ctx)


@dataclass(frozen=True, slots=True)
class Workers:
    """What was asked for.

    Attributes:
        count: how many workers; 0: as many as there are GPUs, or one.
        ray: the address of a Ray cluster, "" for this machine alone.
    """

    count: int
    ray: str = ""

    def pool(self, environment: Mapping[str, str], num_gpus: Callable[[], int] | None) -> "Pool":
        """Where the workers run.

        Raises:
            ConfigError: Ray is not installed, or no cluster answers.
        """
        if self.ray:
            from evaluator.workers.on_ray import RayPool

            return RayPool(self.ray, self.count, environment)
        from evaluator.workers.pool import LocalPool

        return LocalPool(self.count or (num_gpus() if num_gpus is not None else 0) or 1, environment)


def worker_options(command: Command) -> Command:
    """Add --workers, --supervise and --ray to a command."""
    for option in (
        click.option(
            "--ray",
            metavar="ADDRESS",
            help="Run the workers on a Ray cluster: its address, or auto. All its nodes share the output folder.",
        ),
        click.option("--supervise", is_flag=True, help="One worker: a clip that hangs or kills the model is left out."),
        click.option(
            "--workers", type=_WorkerCount(), help="Run the model in N processes; auto: one for each GPU.", default=None
        ),
    ):
        command = option(command)
    return command


def chosen_workers(workers: int | None, *, supervise: bool, ray: str | None, elsewhere: str | None) -> Workers | None:
    """What was asked for, or None.

    Args:
        workers: of --workers.
        supervise: whether --supervise was given.
        ray: of --ray.
        elsewhere: what else was asked for that runs the model in this process, such as "--check".

    Raises:
        click.UsageError: options do not belong together.
    """
    if workers is None and not supervise and ray is None:
        return None
    typed = "--workers" if workers is not None else "--ray" if ray is not None else "--supervise"
    if elsewhere is not None:
        raise click.UsageError(f"{elsewhere} runs the model in this process: leave {typed} out.")
    if supervise and (workers is not None or ray is not None):
        raise click.UsageError("--supervise is one worker of this machine: leave it or --workers and --ray out.")
    if ray == "":
        raise click.UsageError("--ray expects an address such as head-node:6379, or auto.")
    return Workers(1 if supervise else workers or 0, ray or "")


def refuse_launcher(world_size: int) -> None:
    """Refuse workers in a launch of several processes.

    Raises:
        ConfigError: there are several.
    """
    if world_size > 1:
        raise ConfigError("--workers starts its processes itself: leave the launcher (torchrun, accelerate) out.")
