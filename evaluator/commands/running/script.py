"""The command of a script with a model package of its own, such as evaluate_salmonn.py: others in its place.

In: the evaluate command as a function of the model package. Out: the same command with `--trainer PATH[:module.Class]`
and `--model KIND:WHAT`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evaluator.commands.command_line import SETTINGS, ManyValues
from evaluator.commands.running.by_name import choosing_options, taken_choice
from evaluator.errors import ConfigError
from evaluator.models.choose import RUN_CONFIG, ModelChoice

if TYPE_CHECKING:
    from evaluator.model import ModelProvider


class ScriptCommand(ManyValues):
    """The evaluate command of a model package, of a checkout that --trainer names, or of a model that --model names.

    Args:
        build: makes the evaluate command of a model package; takes `num_gpus` too.
        own: gives the package that answers without these options; asked for only then.
    """

    def __init__(self, build: "Callable[..., click.Command]", own: "Callable[[], ModelProvider]") -> None:
        self._build, self._own = build, own
        plain = build(ModelChoice("python:a:b").provider())
        option = click.Option(
            ["--trainer"],
            metavar="PATH[:module.Class]",
            help="A checkout in the original trainer's layout, run as it is in this environment (docs/forks.md).",
        )
        super().__init__(
            plain.name,
            params=[*plain.params, option, *choosing_options(required=False)],
            help=plain.help,
            epilog=plain.epilog,
            context_settings=dict(SETTINGS),
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Choose the model, then do what its evaluate command does."""
        trainer, typed = ctx.params.pop("trainer"), taken_choice(ctx)
        if typed["model"] is None:
            _refuse_stray(typed)
        elif trainer is not None:
            raise click.UsageError("--trainer and --model are two models: give one of them.")
        elif ctx.get_parameter_source("cfg_path") is ParameterSource.DEFAULT:
            # The script's own file is about the model of its own package.
            ctx.params["cfg_path"] = RUN_CONFIG
        if trainer is not None:
            typed["model"] = f"trainer:{trainer}"
        try:
            command = self._build(self._own()) if typed["model"] is None else self._of(ModelChoice(**typed))
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        return ctx.invoke(command.callback or (lambda: None), **ctx.params)

    def _of(self, choice: ModelChoice) -> click.Command:
        return self._build(choice.provider(), num_gpus=choice.num_gpus)


def _refuse_stray(typed: dict[str, Any]) -> None:
    for name in ("prompts", "trust_remote_code"):
        if typed[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} belongs to --model: give that too.")
