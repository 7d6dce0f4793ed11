"""`--trainer PATH[:module.Class]` of evaluate_salmonn.py: a checkout of the original trainer in the place of our own.

In: the evaluate command as a function of the model package. Out: the same command with this option.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from evaluator.commands.command_line import SETTINGS, ManyValues
from evaluator.errors import ConfigError
from evaluator.models.choose import ModelChoice

if TYPE_CHECKING:
    from evaluator.model import ModelProvider


class TrainerCommand(ManyValues):
    """The evaluate command of a model package, or of a checkout that --trainer names.

    Args:
        build: makes the evaluate command of a model package.
        own: gives the package that answers without --trainer; asked for only then.
    """

    def __init__(self, build: "Callable[[ModelProvider], click.Command]", own: "Callable[[], ModelProvider]") -> None:
        self._build, self._own = build, own
        plain = build(ModelChoice("python:a:b").provider())
        option = click.Option(
            ["--trainer"],
            metavar="PATH[:module.Class]",
            help="A checkout in the original trainer's layout, run as it is in this environment (docs/forks.md).",
        )
        super().__init__(
            plain.name,
            params=[*plain.params, option],
            help=plain.help,
            epilog=plain.epilog,
            context_settings=dict(SETTINGS),
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Choose the model, then do what its evaluate command does."""
        trainer = ctx.params.pop("trainer")
        try:
            provider = self._own() if trainer is None else ModelChoice(f"trainer:{trainer}").provider()
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        return ctx.invoke(self._build(provider).callback or (lambda: None), **ctx.params)
