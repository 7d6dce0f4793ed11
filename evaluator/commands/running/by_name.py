"""`audiolm-evaluator run --model KIND:WHAT`: the evaluate command for a model that no script of its own brings.

In: the evaluate command as a function of the model package. Out: the same command with the options that choose one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from evaluator.commands.command_line import SETTINGS, ManyValues
from evaluator.errors import ConfigError
from evaluator.models.choose import FORMS, ModelChoice, annotation_option

PROGRAM = "audiolm-evaluator run"
_EXAMPLES = """\
\b
Examples:
  your own lines   audiolm-evaluator run --model python:my_model:load --mode valid_asr --annotation asr.json
  transformers     audiolm-evaluator run --model transformers:openai/whisper-tiny.en --mode valid_asr
  the contract     audiolm-evaluator run --model python:my_model:load --check
"""
_CHOOSING = ("model", "prompts", "trust_remote_code")


class RunCommand(ManyValues):
    """The evaluate command, with a model that is chosen by name.

    Args:
        build: makes the evaluate command of a model package; takes `num_gpus` too.
    """

    def __init__(self, build: Callable[..., click.Command]) -> None:
        self._build = build
        plain = build(ModelChoice("python:a:b").provider())
        super().__init__(
            "run",
            params=[*choosing_options(required=True), *plain.params],
            help="Run any model over an annotation: a CSV in submission modes, a CSV and scores in valid modes.",
            epilog=_EXAMPLES,
            context_settings=dict(SETTINGS),
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Choose the model, then do what its evaluate command does."""
        choice = ModelChoice(**taken_choice(ctx))
        try:
            command = self._build(choice.provider(), num_gpus=choice.num_gpus)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        return ctx.invoke(command.callback or (lambda: None), **ctx.params)


def taken_choice(ctx: click.Context) -> dict[str, Any]:
    """Take what chooses a model out of the parameters; --annotation joins their settings.

    Returns:
        dict[str, Any]: arguments of ModelChoice.

    Raises:
        click.UsageError: --annotation without a mode.
    """
    annotation, mode = ctx.params.pop("annotation"), ctx.params["mode"]
    if annotation is not None:
        if mode is None:
            raise click.UsageError("--annotation belongs to a mode: give --mode too.")
        ctx.params["options"] = (*ctx.params["options"], annotation_option(mode, annotation))
    return {name: ctx.params.pop(name) for name in _CHOOSING}


def choosing_options(*, required: bool) -> list[click.Parameter]:
    """The options that choose a model; `required` whether there is none without."""
    path = click.Path(path_type=Path)
    forms = ", ".join(FORMS.values())
    return [
        click.Option(["--model"], required=required, metavar="KIND:WHAT", help=f"The model: {forms}."),
        click.Option(["--annotation"], type=path, help="The annotation of the mode's task, instead of the YAML's."),
        click.Option(["--prompts"], type=path, help="What to ask for each task, as YAML: a prompt book."),
        click.Option(
            ["--trust-remote-code"],
            is_flag=True,
            help="Run the Python files that lie beside the model's weights, with all your rights. Read them first.",
        ),
    ]
