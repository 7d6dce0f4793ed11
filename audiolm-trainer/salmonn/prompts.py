"""The prompt book: which words a task is asked with, and where the audio goes among them.

A prompt file (training: several wordings a task; test: one) and the chat template give filled prompts such as "USER:
<Speech><SpeechHere></Speech> Recognize ...\\nASSISTANT:", to be split at the slot. A task's prompt may hold {} once:
the place of the annotation's question.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salmonn.chat_template import CHAT, chat_template
from salmonn.config.schema import Config
from salmonn.errors import PromptError
from salmonn.json_object import json_object
from salmonn.wording import did_you_mean

AUDIO_SLOT = "<SpeechHere>"
AUDIO_PREFIX = f"<Speech>{AUDIO_SLOT}</Speech> "
QUESTION_SLOT = "{}"


@dataclass(frozen=True, slots=True)
class PromptBook:
    """Wordings by task, each with the audio slot once, and the template around them.

    Attributes:
        wordings: task -> its wordings; a test book has one for each task.
        template: text around every prompt, {} marks its place; "" leaves a prompt as it is.
    """

    wordings: Mapping[str, tuple[str, ...]]
    template: str = ""

    @classmethod
    def from_files(cls, path: Path, template: str = "") -> "PromptBook":
        """Read a prompt file: {"task": "wording"} or {"task": ["wording", ...]}.

        As in the original, list entries without the audio slot are left out.

        Raises:
            PromptError: the file cannot be read, or has a task without a usable wording; all are listed.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=json_object)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise PromptError(f"prompt file {path} cannot be read: {error}") from error
        repeated = getattr(data, "repeated", ())
        if repeated:
            raise PromptError(f"prompt file {path} has tasks twice: {', '.join(repeated)}; keep one entry of each")
        if not isinstance(data, dict) or not data:
            raise PromptError(f'prompt file {path} must be an object {{"task": "prompt"}} with at least one task')
        wordings = {task: _usable(entry) for task, entry in data.items()}
        bad = [task for task, usable in wordings.items() if not usable]
        if bad:
            raise PromptError(f"prompt file {path}: no prompt with exactly one {AUDIO_SLOT} for {', '.join(bad)}")
        return cls(wordings=wordings, template=template)

    def tasks(self) -> dict[str, bool]:
        """Return task -> whether its prompt needs a question: whether every one of its wordings does."""
        return {task: all(QUESTION_SLOT in text for text in entry) for task, entry in self.wordings.items()}

    def prompt(self, task: str, question: str = "") -> str:
        """Fill the first wording of a task.

        Raises:
            PromptError: the task is unknown, or needs a question and has none.
        """
        return fill_template(self.template, self.wording(task, question))

    def wording(self, task: str, question: str = "") -> str:
        """Fill the first wording of a task that the question fits, without the template around it.

        Raises:
            PromptError: as for `prompt`.
        """
        return self._fill(task, self._fitting(task, question)[0], question)

    def draw(self, task: str, rng: random.Random, question: str = "") -> str:
        """Fill a wording chosen at random among those that need no question, or of all where there is one.

        Raises:
            PromptError: as for `prompt`.
        """
        return fill_template(self.template, self._fill(task, rng.choice(self._fitting(task, question)), question))

    def _fitting(self, task: str, question: str) -> Sequence[str]:
        """The wordings that can be filled; all of them where none can, so that the error is theirs."""
        entry = self._entry(task)
        without = [text for text in entry if QUESTION_SLOT not in text]
        return entry if question.strip() or not without else without

    def _entry(self, task: str) -> Sequence[str]:
        entry = self.wordings.get(task)
        if entry is None:
            known = f"known: {', '.join(sorted(self.wordings))}" if self.wordings else "model.test_prompt_path is empty"
            raise PromptError(f"no prompt for task {task!r}{did_you_mean(task, self.wordings)} ({known})")
        return entry

    def _fill(self, task: str, wording: str, question: str) -> str:
        if QUESTION_SLOT in wording:
            if not question.strip():
                raise PromptError(f"task {task!r} needs a question (the annotation's field Q)")
            wording = wording.replace(QUESTION_SLOT, without_slot(question), 1)
        return wording


def prompt_template(config: Config) -> str:
    """The text around every prompt: `model.prompt_template`, which may be "chat" for the tokenizer's own.

    Raises:
        PromptError: there is no chat template that can be used.
    """
    template = config.model.prompt_template
    return chat_template(config.model.llama_path, config.token) if template == CHAT else template


def answer_prompts(config: Config) -> PromptBook:
    """Read the book that questions are answered with; without a file it has no tasks, and free text needs none."""
    named = bool(config.model.test_prompt_path)
    return test_prompts(config) if named else PromptBook({}, prompt_template(config))


def test_prompts(config: Config) -> PromptBook:
    """Read the book that questions are answered with: `model.test_prompt_path`, one wording a task."""
    return PromptBook.from_files(Path(config.model.test_prompt_path), prompt_template(config))


def train_prompts(config: Config) -> PromptBook:
    """Read the book that training draws from: `model.prompt_path`, several wordings a task."""
    return PromptBook.from_files(Path(config.model.prompt_path), prompt_template(config))


def fill_template(template: str, prompt: str) -> str:
    """Put a prompt in its place in the template, braces taken literally.

    Example:
        >>> fill_template("USER: {}\\nASSISTANT:", "Hello {x}")
        'USER: Hello {x}\\nASSISTANT:'
    """
    return template.replace(QUESTION_SLOT, prompt, 1) if template else prompt


def free_prompt(text: str, template: str = "") -> str:
    """Wrap a user's own question: the audio slot in front, the template around.

    Example:
        >>> free_prompt("What is it?")
        '<Speech><SpeechHere></Speech> What is it?'
    """
    return fill_template(template, free_wording(text))


def free_wording(text: str) -> str:
    """Put the audio slot in front of a user's own question, as the wordings of a book have it."""
    return AUDIO_PREFIX + without_slot(text)


def split_at_audio(prompt: str) -> tuple[str, str]:
    """Split a filled prompt into the text before and after the audio slot.

    Raises:
        PromptError: the slot is not there exactly once.
    """
    if prompt.count(AUDIO_SLOT) != 1:
        raise PromptError(f"a prompt must hold {AUDIO_SLOT} exactly once: {prompt!r}")
    before, _, after = prompt.partition(AUDIO_SLOT)
    return before, after


def without_slot(text: str) -> str:
    """Take the audio slot out of text that a user or a model wrote, so that it cannot stand there twice.

    Example:
        >>> without_slot("a <Speech<SpeechHere>Here> b")
        'a  b'
    """
    while AUDIO_SLOT in text:
        text = text.replace(AUDIO_SLOT, "")
    return text


def _usable(entry: object) -> tuple[str, ...]:
    candidates = entry if isinstance(entry, list) else [entry]
    return tuple(text for text in candidates if isinstance(text, str) and text.count(AUDIO_SLOT) == 1)
