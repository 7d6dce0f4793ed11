"""A conversation about one clip: the clip, the turns so far, and the prompt that the next turn is asked with.

SALMONN hears a clip through one slot in its prompt. The first turn holds it; later turns follow in the same template,
so that every question is asked of the same audio with everything said before in view. Command line and web page share
this.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salmonn.audio.loading import READ_SECONDS, audio_facts, load_audio
from salmonn.errors import AudioError, PromptError
from salmonn.prompts import AUDIO_PREFIX, AUDIO_SLOT, PromptBook, fill_template, free_wording, without_slot

if TYPE_CHECKING:
    from salmonn.decoding.transformers_decoding import GenerationSettings
    from salmonn.inference.inference import SalmonnLM

FREE = ""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip as the model hears it.

    Attributes:
        name: what people call it.
        audio: float32 [N], cut to what is heard.
        seconds: length of the whole file.
        heard: seconds of it that the model hears.
    """

    name: str
    audio: NDArray[np.float32]
    seconds: float
    heard: float

    def describe(self) -> str:
        """Say how much of the clip is heard.

        Example:
            "heard: the first 30 s of 74 s", or "heard: all 2.7 s"
        """
        if self.seconds - self.heard >= 0.05:
            return f"heard: the first {self.heard:.3g} s of {_seconds(self.seconds)}"
        return f"heard: all {_seconds(self.seconds)}"


class Turn(NamedTuple):
    """One question with its answer.

    Attributes:
        request: a wording with the audio slot, without the template.
        answer: the answer's text.
        finish_reason: "stop", or "length" for one that was cut at the token limit.
    """

    request: str
    answer: str
    finish_reason: str = "stop"


class Conversation:
    """Asks a model about one clip, turn after turn.

    Args:
        model: the model.
        clip: what it is asked about; see `read_clip`.
    """

    def __init__(self, model: "SalmonnLM", clip: Clip) -> None:
        self.model = model
        self.clip = clip
        self.turns: list[Turn] = []

    def ask(
        self, request: str, settings: "GenerationSettings | None" = None, *, afresh: bool = False
    ) -> Generator[str, None, Turn]:
        """Ask the next question.

        Args:
            request: a wording with the audio slot; see `find_request`.
            settings: how to decode; None for the configuration's own.
            afresh: without what was said before: a task is asked as it was trained, alone.

        Yields:
            The answer so far. Only a turn that was answered to its end is remembered.

        Returns:
            The turn.

        Raises:
            SalmonnError: the model cannot answer; the conversation is as it was.
        """
        earlier = [] if afresh else self.turns
        prompt = conversation_prompt(earlier, request, self.model.prompts.template)
        answer = yield from self.model.stream(self.clip.audio, prompt, settings)
        turn = Turn(request, answer.text.strip(), answer.finish_reason)
        self.turns.append(turn)
        return turn

    def answer(self, request: str, settings: "GenerationSettings | None" = None, *, afresh: bool = False) -> Turn:
        """Ask the next question and wait for the whole answer; see `ask`."""
        growing = self.ask(request, settings, afresh=afresh)
        while True:
            try:
                next(growing)
            except StopIteration as end:
                turn: Turn = end.value
                return turn


def conversation_prompt(turns: Sequence[Turn], request: str, template: str = "") -> str:
    """Lay out everything said and the next request as one prompt.

    Args:
        turns: earlier questions with their answers.
        request: the next one.
        template: the chat template around every request, {} marks its place.

    Returns:
        Text with the audio slot once, in the first turn.

    Example:
        "USER: <Speech><SpeechHere></Speech> What is it?\\nASSISTANT: a dog\\nUSER: How many?\\nASSISTANT:"
    """
    lines: list[str] = []
    for place, (asked, answer) in enumerate([*((turn.request, turn.answer) for turn in turns), (request, None)]):
        text = fill_template(template, asked if place == 0 else spoken_part(asked))
        gap = "" if text[-1:].isspace() else " "
        lines.append(text if answer is None else text + gap + without_slot(answer))
    return "\n".join(lines)


def spoken_part(request: str) -> str:
    """Leave the audio slot and its marks out of a request.

    Example:
        >>> spoken_part("<Speech><SpeechHere></Speech> What is it?")
        'What is it?'
    """
    return request.replace(AUDIO_PREFIX, "").replace(AUDIO_PREFIX.strip(), "").replace(AUDIO_SLOT, "").strip()


def find_request(book: PromptBook, *, task: str = FREE, text: str = "") -> str:
    """Word a request: a task of the book with its question, or free text.

    Args:
        book: task -> wording.
        task: a task's name; "" for free text.
        text: the question of a task that needs one, or the free text.

    Raises:
        PromptError: the task is unknown, or text is needed and there is none.
    """
    if task != FREE:
        if book.tasks().get(task) and not text.strip():
            raise PromptError(f"task {task} needs a question: type one")
        return book.wording(task, text.strip())
    if not without_slot(text).strip():
        raise PromptError("there is no question: type one, or choose a task")
    return free_wording(text.strip())


def read_clip(path: Path, model: "SalmonnLM", *, name: str = "", longest: float = float("inf")) -> Clip:
    """Read a clip as a model hears it.

    Args:
        path: an audio file.
        model: whose sampling rate and window count.
        name: what to call it, also in errors; "" for the path.
        longest: seconds of the longest file that is taken at all.

    Raises:
        AudioError: the file cannot be used; the sentence calls it by `name`.
    """
    name = name or str(path)
    try:
        audio = load_audio(path, model.sampling_rate)
        facts = audio_facts(path)
    except AudioError as error:
        raise AudioError(str(error).replace(repr(str(path)), repr(name))) from error
    # A stream that states no length was decoded as far as it is heard.
    seconds = facts.seconds if math.isfinite(facts.seconds) else float(READ_SECONDS)
    if seconds > longest:
        raise AudioError(
            f"audio file {name!r} lasts {_seconds(seconds)}, more than the {_seconds(longest)} that are taken: cut it"
        )
    heard = min(seconds, model.max_seconds)
    return Clip(name, audio[: int(model.max_seconds * model.sampling_rate)], seconds, heard)


def _seconds(seconds: float) -> str:
    """2.673 -> "2.7 s", 74.2 -> "74 s", 754 -> "12 min 34 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
