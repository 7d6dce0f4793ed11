"""Validation: teacher-forced loss and accuracy over a whole set, WER and chrF of real answers to some of it.

Every sample counts once, however many processes share the work. Answers come from the same path as every other answer
of the model (`inference.SalmonnLM`), on clips spread evenly over the set.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray
from sacrebleu import CHRF
from torch import nn

from salmonn.data.dataset import Sample, collate, in_order
from salmonn.data.unreadable import UnreadableClips
from salmonn.errors import AudioError, SalmonnError
from salmonn.inference.inference import Answer, SalmonnLM
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import Encoded
from salmonn.prompts import PromptBook
from salmonn.training.data_split import Split
from salmonn.training.processes import Engine
from salmonn.training.progress import Sums

SPOKEN = ("asr", "asr_de")
"""Tasks whose answers are compared word by word; all others by chrF."""
WER_PROTOCOL = "plain words"
"""What "wer" compares: `plain_words`. The evaluator's English normaliser also knows numbers, spellings and titles."""
LOWER_IS_BETTER = ("loss", "wer")


class Question(NamedTuple):
    """One clip of the answered part; it meets `inference.Request` by shape."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    audio: NDArray[np.float32]
    task: str
    question: str


def is_better(metric: str, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    """Whether a validation is the best so far: the first is; then by the metric; of equals the lower loss.

    One without a number, because no clip could be read, is never the best, and any other is better than it.

    Args:
        metric: "accuracy", "loss", "wer" or "chrf", a key of both.
        new: the figures at hand.
        old: those of the best so far, empty for none.
    """
    if metric not in new or isnan(new[metric]):
        return False
    if not old or isnan(old[metric]):
        return True
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return (sign * new[metric], -new["loss"]) > (sign * old[metric], -old["loss"])


@torch.no_grad()
def teacher_forced(
    model: nn.Module, split: Split, engine: Engine, *, batch_size: int, silence: Encoded
) -> dict[str, float]:
    """Measure loss and token accuracy over every readable sample of a set once, without dropout.

    Args:
        model: in evaluation mode, as `Engine.wrap` returned it; its forward takes encoded clips, prompts and targets.
        split: the set.
        engine: deals the batches out to the processes.
        batch_size: samples in a batch.
        silence: one encoded clip that stands in where a process has no batch while others have one.

    Returns:
        "loss", "accuracy" and "tokens".
    """
    sums = Sums()
    batches = list(in_order(len(split.samples), batch_size))
    rounds = -(-len(batches) // engine.world)
    mine = [batches[i] if i < len(batches) else [] for i in range(engine.rank, rounds * engine.world, engine.world)]
    for indices, encoded in split.source.stream(mine):
        batch = collate(split.samples, indices, split.book, rng=None, multi_prompt=False)
        with engine.autocast():
            if encoded is not None:
                sums.add(model(encoded, batch.prompts, batch.targets), len(indices))
            elif engine.sharded:
                # The others' forward passes gather parameters from this process, too.
                model(silence, *silent_text(split.book))
    means = sums.means(engine)
    return {"loss": means.loss, "accuracy": means.accuracy, "tokens": means.tokens}


def silent_text(book: PromptBook) -> tuple[tuple[str], tuple[str]]:
    """A prompt and a target for the encoded silence; what they say is never counted."""
    task, needs_question = next(iter(book.tasks().items()))
    return (book.prompt(task, "?" if needs_question else ""),), ("a",)


class AnswerScorer:
    """Scores real answers to a fixed part of the validation set.

    Args:
        lm: answers requests with the model being trained.
        split: the validation set.
        count: clips to answer, spread evenly over it.
        unreadable: where clips that cannot be read are noted.
    """

    def __init__(self, lm: SalmonnLM, split: Split, *, count: int, unreadable: UnreadableClips) -> None:
        self._lm = lm
        self._samples = split.samples
        asked, last = min(count, len(split.samples)), len(split.samples) - 1
        self._chosen = [round(place * last / max(asked - 1, 1)) for place in range(asked)]
        self._unreadable = unreadable

    def has_speech(self) -> bool:
        """Whether any chosen clip is scored by WER."""
        return any(self._samples[index].task in SPOKEN for index in self._chosen)

    def has_other(self) -> bool:
        """Whether any chosen clip is scored by chrF."""
        return any(self._samples[index].task not in SPOKEN for index in self._chosen)

    def score(self, model: SALMONN, engine: Engine) -> dict[str, float]:
        """Answer and score.

        Args:
            model: in evaluation mode.
            engine: deals the clips out; where the model itself is cut over the processes, all decode the same clips.

        Returns:
            "wer" (0 is perfect; above 1 is possible) where there is speech, "chrf" (0 to 100) for everything else.
        """
        return score_texts(self.answered(model, engine))

    def answered(self, model: SALMONN, engine: Engine) -> list[tuple[Sample, str]]:
        """Answer: every chosen sample whose clip can be read, with the answer to it; arguments as of `score`."""
        mine = self._chosen if engine.sharded else engine.share(self._chosen)
        # Without autocast: an answer is computed as it will be outside training.
        with engine.whole(model):
            answers = [_text_of(answer) for answer in self._lm.generate(self._questions(mine))]
        texts = dict(answers if engine.sharded else engine.gather(answers))
        return [(self._samples[index], texts[index]) for index in sorted(texts)]

    def _questions(self, indices: Sequence[int]) -> Iterator[Question]:
        for index in indices:
            sample = self._samples[index]
            try:
                wave = self._samples.load_audio(index, self._lm.sampling_rate)
            except AudioError as error:
                self._unreadable.add(sample.name, str(error))
                continue
            yield Question(index, wave, sample.task, sample.question)


def _text_of(answer: Answer) -> tuple[int, str]:
    """An answer's clip and text.

    Raises:
        SalmonnError: it has none; a score of fewer clips would be another score.
    """
    if answer.error is not None:
        raise SalmonnError(f"validation: clip {answer.index} has no answer: {answer.error}")
    return answer.index, answer.text


@dataclass(frozen=True, slots=True)
class Validation:
    """How a validation set is measured.

    Attributes:
        split: the set.
        scorer: answers some of it, None for none.
        batch_size: samples in a batch.
        metric: what the best checkpoint is best at, see `is_better`.
    """

    split: Split
    scorer: AnswerScorer | None
    batch_size: int
    metric: str

    def measure(self, model: SALMONN, wrapped: nn.Module, engine: Engine, *, silence: Encoded) -> dict[str, float]:
        """Measure a model in evaluation mode; arguments as of `teacher_forced` and `AnswerScorer.score`."""
        figures = teacher_forced(wrapped, self.split, engine, batch_size=self.batch_size, silence=silence)
        return figures | (self.scorer.score(model, engine) if self.scorer is not None else {})


def score_texts(pairs: Sequence[tuple[Sample, str]]) -> dict[str, float]:
    """Score answers against the samples they belong to."""
    spoken = [(plain_words(s.text), plain_words(text)) for s, text in pairs if s.task in SPOKEN and plain_words(s.text)]
    other = [(sample.text, text.strip()) for sample, text in pairs if sample.task not in SPOKEN]
    scores: dict[str, float] = {}
    if spoken:
        scores["wer"] = float(jiwer.wer([reference for reference, _ in spoken], [text for _, text in spoken]))
    if other:
        scores["chrf"] = float(CHRF().corpus_score([text for _, text in other], [[r for r, _ in other]]).score)
    return scores


def plain_words(text: str) -> str:
    """Lower-case and drop punctuation: "Turn left, please." -> "turn left please"."""
    return " ".join(re.sub(r"[^\w\s']", " ", text.lower()).split())
