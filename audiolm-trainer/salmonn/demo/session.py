"""One visitor's side of the web page, without the page: the clip that was chosen and what was said about it.

Files and choices come in; texts and chat messages go out. Whatever a visitor can do wrong is a `SalmonnError`, whose
sentence the page shows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from salmonn.demo.media import as_wav, media_is_read
from salmonn.demo.task_titles import in_reading_order, title_of
from salmonn.errors import AudioError, PromptError
from salmonn.inference.conversation import FREE, Conversation, find_request, read_clip

if TYPE_CHECKING:
    from salmonn.decoding.transformers_decoding import GenerationSettings
    from salmonn.inference.inference import SalmonnLM

WAITING = "…"
NO_WORDS = "(the model answered with no words)"
CUT = "(cut at the length that is set)"


class Message(TypedDict):
    """A message in the form that Gradio's chat takes."""

    role: str
    content: str


class DemoSession:
    """A conversation about one clip and its messages.

    Args:
        model: the model.
        path: the uploaded or recorded file.
        longest: seconds of the longest clip that is taken.

    Raises:
        AudioError: the file cannot be used.
    """

    def __init__(self, model: "SalmonnLM", path: Path, *, longest: float) -> None:
        try:
            clip = read_clip(as_wav(path, longest=longest), model, name=path.name, longest=longest)
        except AudioError as error:
            raise AudioError(f"{str(error).rstrip('.')}. {readable()}") from error
        self.conversation = Conversation(model, clip)
        self.messages: list[Message] = []

    @property
    def heard(self) -> str:
        """Say how much of the clip is heard, as a sentence."""
        text = self.conversation.clip.describe()
        return f"{text[:1].upper()}{text[1:]}."

    def forget(self) -> None:
        """Begin a new conversation about the same clip."""
        self.conversation = Conversation(self.conversation.model, self.conversation.clip)
        self.messages = []

    def ask(self, task: str, text: str, settings: "GenerationSettings") -> Iterator[list[Message]]:
        """Ask about the clip.

        Args:
            task: a task's name, "" for free text.
            text: the question or the free text.
            settings: how to decode.

        Yields:
            All messages with the answer so far; the first says that it is waited for.

        Raises:
            SalmonnError: it cannot be answered; nothing is remembered of it.
        """
        if task != FREE and self.conversation.model.prompts.tasks().get(task) and not text.strip():
            raise PromptError(f'"{title_of(task)}" needs a question: type one')
        request = find_request(self.conversation.model.prompts, task=task, text=text)
        asked: Message = {"role": "user", "content": shown_request(self.conversation.model, task, text)}
        yield [*self.messages, asked, {"role": "assistant", "content": WAITING}]
        growing = self.conversation.ask(request, settings, afresh=task != FREE)
        for answer in growing:
            yield [*self.messages, asked, {"role": "assistant", "content": answer.strip() or WAITING}]
        turn = self.conversation.turns[-1]
        said = turn.answer or NO_WORDS
        if turn.finish_reason == "length":
            said = f"{said} {CUT}"
        self.messages += [asked, {"role": "assistant", "content": said}]
        yield list(self.messages)


def offered_tasks(model: "SalmonnLM") -> list[str]:
    """The tasks that have a prompt, in reading order; only those it was trained with where its checkpoint says so."""
    return [task for task in in_reading_order(model.prompts.wordings) if task in (model.trained_tasks or (task,))]


def readable() -> str:
    """Say which files the page takes."""
    return f"The page takes WAV, FLAC, OGG, Opus{', MP3, m4a and webm' if media_is_read() else ' and MP3'}."


def shown_request(model: "SalmonnLM", task: str, text: str) -> str:
    """Say what was asked the way the page shows it: the task's title and its question, or the free text."""
    if task == FREE:
        return text.strip()
    needs_question = model.prompts.tasks()[task]
    return f"{title_of(task)}: {text.strip()}" if needs_question else title_of(task)
