"""What the commands of this package share: many values behind --options, -h and --version, and how errors end them.

In: a function with click parameters. Out: its command. Only command files import this one.
"""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from salmonn import __version__
from salmonn.config.yaml import spread_values
from salmonn.cpu_threads import prepare_cpu_threads
from salmonn.errors import SalmonnError

INTERRUPTED = 130
TERMINATED = 143
HELP_FLAGS = {"help_option_names": ["-h", "--help"]}

with_version = click.version_option(__version__, prog_name="salmonn")


class OptionsCommand(click.Command):
    """A command whose --options takes every value up to the next flag: `--options a.b=1 c.d=2 --dryrun`.

    It chooses PyTorch's threads, so what it calls imports PyTorch no earlier.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the flag before each of its values, the form click knows."""
        return super().parse_args(ctx, spread_values(args))

    def invoke(self, ctx: click.Context) -> object:
        """Choose the threads, then run as usual."""
        prepare_cpu_threads()
        return super().invoke(ctx)


def options_command(function: Callable[..., None]) -> click.Command:
    """Make a command with --options, -h and --version of a function."""
    make: Callable[[Any], click.Command] = click.command(cls=OptionsCommand, context_settings=HELP_FLAGS)
    return make(with_version(function))


def stop(error: SalmonnError) -> NoReturn:
    """End with the error's sentences and the exit code of its kind."""
    click.echo(f"Error: {error}", err=True)
    sys.exit(error.exit_code)
