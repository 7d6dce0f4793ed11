"""Looking before a run: `audiolm-evaluator doctor`, and --doctor of every command that runs a model."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.commands.command_line import SETTINGS, ManyValues, escape_what_cannot_be_printed, version_option
from evaluator.commands.session import session
from evaluator.tasks import MODES, Mode

if TYPE_CHECKING:
    from evaluator.config.config import Config
    from evaluator.doctor.finding import Finding
    from evaluator.model import ModelProvider


@click.command(cls=ManyValues, context_settings=SETTINGS)
@click.option("--cfg-path", type=click.Path(path_type=Path), metavar="FILE", help="Look at this configuration too.")
@click.option("--mode", type=click.Choice(MODES), help="Look at this mode's annotation and clips too.")
@click.option("--options", multiple=True, metavar="KEY=VALUE ...", help="Override settings of the configuration.")
@version_option
def doctor_command(cfg_path: Path | None, mode: Mode | None, options: tuple[str, ...]) -> None:
    """Say what is wrong or missing here, and what a run will need.

    Looks at Python, the optional parts, processor, memory, GPUs, Java and SPICE's files; with --cfg-path at the
    configuration and the output folder, with --mode at annotation, clips and disk. The model's own files need the
    model's package: `python evaluate_salmonn.py --doctor`.
    """
    if cfg_path is None and (mode is not None or options):
        raise click.UsageError("--mode and --options belong to a configuration: give --cfg-path too.")
    with session(None):
        # Here, so that --help need not wait for it.
        from evaluator.config.config import load_config

        load = partial(load_config, cfg_path, options) if cfg_path is not None else None
        raise SystemExit(report(load, None, mode))


def report(
    load: "Callable[[], Config] | None",
    provider: "ModelProvider | None",
    mode: Mode | None,
    num_gpus: Callable[[], int] | None = None,
) -> int:
    """Print what was found; returns 0, or what a run would end with for the first thing that is wrong.

    Args:
        load: reads the configuration; None: the machine alone.
        provider: the model package.
        mode: what will be run.
        num_gpus: counts the GPUs that the model's library sees.
    """
    from evaluator.doctor.examine import examine
    from evaluator.doctor.finding import lines

    escape_what_cannot_be_printed()
    found = list(examine(load, provider, mode, num_gpus))
    click.echo("\n".join([*lines(found), "", verdict(found)]))
    return next((finding.exit_code for finding in found if finding.exit_code), 0)


def verdict(found: "Iterable[Finding]") -> str:
    """The last line: how many things are wrong, and how many a run can do without."""
    states = [finding.state for finding in found]
    ends = states.count("WRONG")
    said = f"{ends} of {len(states)} are WRONG and would end a run" if ends else "Nothing that ends a run was found"
    notes = states.count("note")
    return f"{said}; {notes} marked note can be done without." if notes else f"{said}."
