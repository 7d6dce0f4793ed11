"""Asks a SALMONN about recordings: `python cli_inference.py --cfg-path configs/decode_config.yaml`.

Asks for an audio file and a question, prints the answer, asks for the next question about the same clip; an
empty line goes on to another clip, Ctrl-D ends it. With --wav-path and --prompt (or --task) it answers that
one question and exits. The audio slot and the template are put around the question.
"""

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salmonn.command_line import INTERRUPTED, options_command, stop
from salmonn.config.config import load_config
from salmonn.config.schema import Config
from salmonn.errors import AudioError, MissingPackageError, PromptError, SalmonnError

if TYPE_CHECKING:
    from salmonn.inference.conversation import Conversation
    from salmonn.inference.inference import SalmonnLM
    from salmonn.prompts import PromptBook

HELP = "/tasks lists the tasks, /task NAME asks one; an empty line or /new goes on to another file."


@options_command
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
@click.option("--task", metavar="NAME", help="A task of the prompt file instead of --prompt, e.g. asr.")
@click.option("--question", default="", help="The question of a --task that needs one, e.g. QA.")
def main(
    cfg_path: Path,
    device: str | None,
    options: tuple[str, ...],
    wav_path: Path | None,
    prompt: str | None,
    task: str | None,
    question: str,
) -> None:
    """Ask a SALMONN about recordings.

    Without --wav-path it asks for a file, then for questions about it, each asked with what was said
    before in view. An empty line or /new goes on to another file, /tasks lists the tasks of the prompt
    file, /task NAME asks one of them, Ctrl-D ends.

    \b
    Examples:
      python cli_inference.py --cfg-path configs/decode_config.yaml
      python cli_inference.py --cfg-path configs/decode_config.yaml --wav-path dog.wav --prompt "What is it?"
      python cli_inference.py --cfg-path configs/decode_config.yaml --wav-path talk.wav --task asr
      python cli_inference.py --cfg-path configs/decode_config.yaml --wav-path dog.wav --task QA --question "Near?"
    """
    check_flags(wav_path, prompt, task, question)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = load_config(cfg_path, options, purpose="answer")
        # Read before the model is loaded: a wrong path or task is found out at once.
        request = find_flagged(config, prompt, task, question)
        if wav_path is not None:
            read(wav_path)
        from salmonn.inference.inference import load_language_model

        model = load_language_model(config, device or config.run.device)
        if wav_path is not None:
            click.echo(answer(begin(model, wav_path), request))
        else:
            converse(model)
    except SalmonnError as error:
        stop(error)
    except ModuleNotFoundError as error:
        stop(MissingPackageError(error))
    except KeyboardInterrupt:
        click.echo(err=True)
        sys.exit(INTERRUPTED)


def check_flags(wav_path: Path | None, prompt: str | None, task: str | None, question: str) -> None:
    """Refuse flags that do not go together.

    Raises:
        click.UsageError: with what to give.
    """
    if prompt is not None and task is not None:
        raise click.UsageError("--prompt and --task exclude each other: give one of them.")
    if (wav_path is None) != (prompt is None and task is None):
        raise click.UsageError(
            "--wav-path and --prompt (or --task) belong together: give both, or neither to be asked."
        )
    if question and task is None:
        raise click.UsageError("--question belongs to --task.")


def find_flagged(config: Config, prompt: str | None, task: str | None, question: str) -> str:
    """Word what the flags ask; "" where they ask nothing."""
    from salmonn.inference.conversation import find_request
    from salmonn.prompts import answer_prompts

    if task is not None:
        return find_request(answer_prompts(config), task=task, text=question)
    return "" if prompt is None else find_request(answer_prompts(config), text=prompt)


def converse(model: "SalmonnLM") -> None:
    """Ask for files and talk about each, until the input ends."""
    with suppress(ImportError):  # not on every system
        # Arrow keys and the lines typed before, for everything that is asked.
        import readline  # noqa: F401
    click.echo("Ctrl-D ends.", err=True)
    while (path := ask("Audio file: ")) is not None:
        try:
            conversation = begin(model, Path(path).expanduser())
        except AudioError as error:
            click.echo(f"{error}", err=True)
            continue
        click.echo(f"{conversation.clip.describe()}. {HELP}", err=True)
        if not talk(conversation):
            break
    click.echo(err=True)


def talk(conversation: "Conversation") -> bool:
    """Answer questions about one clip; return whether another clip is wanted, False when the input has ended."""
    while (line := ask("Prompt: ", empty=True)) is not None:
        if line in ("", "/new"):
            return True
        if line == "/tasks":
            list_tasks(conversation.model.prompts)
            continue
        try:
            request = find_typed(conversation.model.prompts, line)
            if request is None:
                return False
            click.echo(answer(conversation, request, afresh=line.startswith("/")))
        except SalmonnError as error:
            click.echo(f"{error}", err=True)
    return False


def find_typed(book: "PromptBook", line: str) -> str | None:
    """Word what was typed: a question, or `/task NAME` with its question; None when the input has ended.

    Raises:
        PromptError: the task is unknown, or the command.
    """
    from salmonn.inference.conversation import find_request

    if not line.startswith("/"):
        return find_request(book, text=line)
    command, _, rest = line.partition(" ")
    name, _, question = rest.strip().partition(" ")
    if command != "/task" or not name:
        raise PromptError(f"there is no command {line!r}. {HELP}")
    if book.tasks().get(name) and not question:
        typed = ask("Question: ")
        return None if typed is None else find_request(book, task=name, text=typed)
    return find_request(book, task=name, text=question)


def list_tasks(book: "PromptBook") -> None:
    """Print the tasks with their titles, and which need a question."""
    from salmonn.demo.task_titles import in_reading_order, title_of

    needs = book.tasks()
    for task in in_reading_order(needs):
        click.echo(f"{task:<26}{title_of(task)}{' (with a question)' if needs[task] else ''}")
    if not needs:
        click.echo("There are none: model.test_prompt_path is empty.")


def ask(label: str, *, empty: bool = False) -> str | None:
    """Read a line; None when the input has ended. Blank lines are passed over unless `empty` gives them a meaning."""
    while True:
        try:
            line = input(label).strip()
        except EOFError:
            return None
        if line or empty:
            return line


def read(path: Path) -> object:
    """Read a clip.

    Raises:
        AudioError: the file cannot be read; the message is a sentence that names it.
    """
    from salmonn.audio.loading import load_audio

    return load_audio(path)


def begin(model: "SalmonnLM", path: Path) -> "Conversation":
    """Begin a conversation about a file.

    Raises:
        AudioError: the file cannot be read.
    """
    from salmonn.inference.conversation import Conversation, read_clip

    return Conversation(model, read_clip(path, model))


def answer(conversation: "Conversation", request: str, *, afresh: bool = False) -> str:
    """Return the answer to a request, control characters made visible; a task is asked afresh."""
    text = conversation.answer(request, afresh=afresh).answer
    shown = [letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text]
    return "".join(shown)


if __name__ == "__main__":
    main()
