"""Asks a SALMONN about recordings: `python cli_inference.py --cfg-path configs/decode_config.yaml`.

Asks for an audio file and a question, prints the answer, asks again; Ctrl-D ends it. With --wav-path and
--prompt it answers that one question and exits. The audio slot and the template are put around the
question by the model.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from salmonn.config import load_config
from salmonn.config_file import spread_options
from salmonn.errors import AudioError, SalmonnError

if TYPE_CHECKING:
    from salmonn.inference import SalmonnLM

INTERRUPTED = 130


class InferenceCommand(click.Command):
    """A command whose --options takes every value up to the next flag."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the flag before each of its values, the form click knows."""
        return super().parse_args(ctx, spread_options(args))


@click.command(cls=InferenceCommand)
@click.option(
    "--cfg-path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file.",
)
@click.option("--device", help="cpu, cuda, cuda:1 or auto; default: run.device of the configuration.")
@click.option("--options", multiple=True, metavar="KEY=VALUE...", help="Overrides, e.g. generate.num_beams=1.")
@click.option("--wav-path", "--wav_path", type=click.Path(path_type=Path), help="Ask about this file, once.")
@click.option("--prompt", help="The question about --wav-path.")
def main(
    cfg_path: Path, device: str | None, options: tuple[str, ...], wav_path: Path | None, prompt: str | None
) -> None:
    """Ask a SALMONN about recordings.

    \b
    Examples:
      python cli_inference.py --cfg-path configs/decode_config.yaml
      python cli_inference.py --cfg-path configs/decode_config.yaml --wav-path dog.wav --prompt "What is it?"
    """
    if (wav_path is None) != (prompt is None):
        raise click.UsageError("--wav-path and --prompt belong together: give both, or neither to be asked.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = load_config(cfg_path, options, purpose="answer")
        if wav_path is not None:
            # Read before the model is loaded: a wrong path is found out at once.
            read(wav_path)
        from salmonn.inference import load_language_model

        model = load_language_model(config, device or config.run.device)
        if wav_path is not None and prompt is not None:
            click.echo(answer(model, wav_path, prompt))
        else:
            converse(model)
    except SalmonnError as error:
        stop(error)
    except KeyboardInterrupt:
        click.echo(err=True)
        sys.exit(INTERRUPTED)


def converse(model: "SalmonnLM") -> None:
    """Ask for a file and a question and answer, until the input ends."""
    click.echo("Ctrl-D ends.", err=True)
    while (path := ask("Audio file: ")) is not None:
        try:
            read(Path(path).expanduser())
        except AudioError as error:
            click.echo(f"{error}", err=True)
            continue
        question = ask("Prompt: ")
        if question is None:
            break
        click.echo(answer(model, Path(path).expanduser(), question))
    click.echo(err=True)


def ask(label: str) -> str | None:
    """Read one line that is not blank; None when the input has ended."""
    while True:
        try:
            line = input(label).strip()
        except EOFError:
            return None
        if line:
            return line


def read(path: Path) -> object:
    """Read a clip.

    Raises:
        AudioError: the file cannot be read; the message is a sentence that names it.
    """
    from salmonn.audio import load_audio

    return load_audio(path)


def answer(model: "SalmonnLM", path: Path, question: str) -> str:
    """Return the answer to a question about a file, control characters made visible."""
    from salmonn.audio import load_audio

    text = model.answer(load_audio(path, model.sampling_rate), question).strip()
    shown = [letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text]
    return "".join(shown)


def stop(error: SalmonnError) -> NoReturn:
    """End with the error's sentences and the exit code of its kind."""
    click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
