"""Every text that a task gives a language model, as the model cuts it: prompts around the audio, answers.

In goes a configuration of training; out come distinct texts.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from salmonn.config.schema import Config
from salmonn.data.dataset import Sample
from salmonn.errors import ConfigError
from salmonn.prompts import (
    QUESTION_SLOT,
    PromptBook,
    fill_template,
    split_at_audio,
    test_prompts,
    train_prompts,
    without_slot,
)


def task_texts(config: Config, samples: Iterable[Sample], further: str) -> list[str]:
    """List the texts of the training set with its questions, of all prompts, and the lines of a file.

    Args:
        config: of a training.
        samples: the training set.
        further: path of a text file whose lines count, too; "" for none.

    Raises:
        ConfigError: the file is no text in UTF-8.
        PromptError: a file of prompts is wrong.
    """
    found: dict[str, None] = dict.fromkeys((config.model.end_sym, config.end_sym))
    questions: set[tuple[str, str]] = set()
    for sample in samples:
        found[sample.text] = None
        questions.add((sample.task, sample.question))
    books = [train_prompts(config), *([test_prompts(config)] if config.model.test_prompt_path else ())]
    for book in books:
        for task in book.wordings:
            asked = {question for named, question in questions if named == task} or {""}
            found |= dict.fromkeys(part for prompt in _prompts(book, task, asked) for part in split_at_audio(prompt))
    return [*found, *(_lines(further) if further else ())]


def _prompts(book: PromptBook, task: str, questions: Iterable[str]) -> Iterator[str]:
    """Fill every wording of a task with every question that it has a place for."""
    for wording in book.wordings[task]:
        for question in questions if QUESTION_SLOT in wording else ("",):
            yield fill_template(book.template, wording.replace(QUESTION_SLOT, without_slot(question), 1))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the vocabulary cannot be made smaller", [("compress.vocabulary_texts", f"{path} cannot be read: {error}")]
        ) from error
