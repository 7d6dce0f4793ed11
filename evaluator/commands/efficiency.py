"""`audiolm-evaluator efficiency`: figures of finished runs side by side; and the options of measuring them.

Measuring needs a model, so it is where the model is: `python evaluate_salmonn.py --efficiency`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from evaluator.commands.command_line import SETTINGS, version_option
from evaluator.errors import AudioLMError
from evaluator.speed.plan import PROTOCOLS

Function = TypeVar("Function", bound=Callable[..., Any])

DEFAULT_CLIPS = 32
DEFAULT_REPEATS = 3
DEFAULT_PROCESSES = 5
_OF_CLIPS = ("clips", "repeats", "noise")


@click.command("efficiency", context_settings=SETTINGS)
@click.argument("results", metavar="RESULT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@version_option
def efficiency_command(results: tuple[Path, ...]) -> None:
    """Show speed and memory of finished runs side by side.

    RESULT is an efficiency.json, a run.json, or a folder with one of them. Conditions that differ are listed.
    To measure a model: python evaluate_salmonn.py --efficiency (docs/efficiency.md).
    """
    from evaluator.speed.table import read_column, table

    try:
        columns = [read_column(path) for path in results]
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    click.echo("\n".join(table(columns)))


def efficiency_options(function: Function) -> Function:
    """Add the options of measuring to a command: efficiency, protocol, processes, clips, repeats, noise."""
    options = (
        click.option("--efficiency", is_flag=True, help="Measure latency, throughput and memory, and end."),
        click.option(
            "--protocol",
            type=click.Choice(PROTOCOLS),
            default="clips",
            show_default=True,
            help="With --efficiency: clips alone and together, or the challenge's 10 s of noise by component.",
        ),
        click.option(
            "--processes",
            type=click.IntRange(min=1),
            default=DEFAULT_PROCESSES,
            show_default=True,
            help="With --protocol challenge: fresh processes that measure, one after the other.",
        ),
        click.option(
            "--clips",
            type=click.IntRange(min=1),
            default=DEFAULT_CLIPS,
            show_default=True,
            help="With --efficiency: at most so many clips of the annotation, evenly spread.",
        ),
        click.option(
            "--repeats",
            type=click.IntRange(min=1),
            default=DEFAULT_REPEATS,
            show_default=True,
            help="With --efficiency: rounds that count, after one to warm up.",
        ),
        click.option(
            "--noise",
            metavar="SECONDS,...",
            callback=_lengths,
            help="With --efficiency: made-up clips of these lengths instead of the annotation's, for example 5,10,30.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def refuse_stray_options(context: click.Context) -> None:
    """Refuse the options of measuring where nothing is measured.

    Raises:
        click.UsageError: if one of them was typed.
    """
    for name in ("protocol", "processes", *_OF_CLIPS):
        if _was_typed(context, name):
            raise click.UsageError(f"--{name} belongs to --efficiency.")


def refuse_other_protocol(context: click.Context, protocol: str) -> None:
    """Refuse the options of another protocol than the one that is measured by.

    Raises:
        click.UsageError: if one of them was typed.
    """
    stray = ("processes",) if protocol == "clips" else _OF_CLIPS
    other = "challenge" if protocol == "clips" else "clips"
    for name in stray:
        if _was_typed(context, name):
            raise click.UsageError(f"--{name} belongs to --protocol {other}.")


def _was_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _lengths(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    """ "5,10.5" -> (5.0, 10.5); None -> ()."""
    if value is None:
        return ()
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"expected lengths in seconds like 5,10,30, found {value!r}") from None
