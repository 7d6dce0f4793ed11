"""Flags of the original that --mode has replaced: understood, with a notice."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from evaluator.tasks import MODES, TASKS, Mode

Function = TypeVar("Function", bound=Callable[..., Any])


def deprecated_options(function: Function) -> Function:
    """Add --task and --skip_scoring to a command."""
    task = click.option("--task", type=click.Choice([task.name for task in TASKS]), help="Deprecated: use --mode.")
    skip = click.option("--skip_scoring", "--skip-scoring", is_flag=True, help="Deprecated: use --mode.")
    return task(skip(function))


def chosen_mode(mode: str | None, task: str | None, *, skip_scoring: bool) -> tuple[Mode | None, tuple[str, ...]]:
    """The mode that was asked for, and notices about deprecated flags.

    The deprecated flags mean what their names say: `--task asr` is valid_asr, with `--skip_scoring`
    submission_asr.

    Raises:
        click.UsageError: if --mode and the deprecated flags contradict each other, or --skip_scoring stands
        alone.
    """
    if task is None and not skip_scoring:
        return cast("Mode | None", mode), ()
    if task is None:
        if mode is None:
            raise click.UsageError("--skip_scoring needs --task; better: --mode " + " or ".join(MODES[:2]))
        task = mode.partition("_")[2]
    meant = f"{'submission' if skip_scoring else 'valid'}_{task}"
    if mode is not None and mode != meant and (skip_scoring or not mode.endswith(f"_{task}")):
        raise click.UsageError(f"--mode {mode} contradicts the deprecated flags, which mean --mode {meant}.")
    chosen = mode or meant
    return cast("Mode", chosen), (f"--task and --skip_scoring are deprecated; this is --mode {chosen}.",)
