"""What every command of the evaluator has: -h beside --help, and --version."""

import io
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

PACKAGE = "audiolm-evaluator"
# For `context_settings` of a command.
SETTINGS = {"help_option_names": ["-h", "--help"]}


class ManyValues(click.Command):
    """A command whose --options takes every value up to the next flag: `--options a.b=1 c.d=2 --mode valid_asr`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spread the values, then parse as usual."""
        # Here, so that the validator starts without YAML.
        from evaluator.config.yaml import spread_values

        return super().parse_args(ctx, spread_values(args))


def version_option(function: Function) -> Function:
    """Add --version to a command: the package's, also where only its files are there."""
    return click.option(
        "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show, help="Show the version and end."
    )(function)


def escape_what_cannot_be_printed() -> None:
    """Let a terminal that is not UTF-8 show "\\uae30" for a character that it lacks: that is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _show(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    try:
        click.echo(f"{PACKAGE} {metadata.version(PACKAGE)}")
    except metadata.PackageNotFoundError:
        click.echo(f"{PACKAGE}, version unknown: it is not installed (pip install -e .)")
    context.exit()
