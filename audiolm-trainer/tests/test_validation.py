"""Scores of real answers: which clips are asked, how WER and chrF are taken, what an unreadable clip does."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from salmonn.data.dataset import Sample
from salmonn.data.unreadable import UnreadableClips
from salmonn.errors import AudioError
from salmonn.inference.inference import Answer
from salmonn.prompts import PromptBook
from salmonn.training.data_split import Split
from salmonn.training.processes import Engine
from salmonn.training.validation import AnswerScorer, plain_words, score_texts

BOOK = PromptBook({"asr": ("<SpeechHere>",), "audiocaption": ("<SpeechHere>",)})


class Clips(list[Sample]):
    """Samples whose audio is their index; number 4 cannot be read."""

    def load_audio(self, index: int, sampling_rate: int) -> NDArray[np.float32]:
        if index == 4:
            raise AudioError("4 is broken")
        return np.full(sampling_rate, index, dtype=np.float32)


class Parrot:
    """Answers every clip with what it is told to say of its index."""

    sampling_rate = 16_000

    def __init__(self, answers: dict[int, str]) -> None:
        self.answers = answers
        self.asked: list[int] = []

    def generate(self, requests: Iterable[Any]) -> Iterator[Answer]:
        for request in requests:
            assert request.audio[0] == request.index
            self.asked.append(request.index)
            yield Answer(request.index, self.answers.get(request.index, ""), 1, "stop")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.start(torch.device("cpu"), precision=torch.float32)


def scorer_of(texts: list[tuple[str, str]], lm: Parrot, *, count: int) -> tuple[AnswerScorer, UnreadableClips]:
    samples = Clips(Sample(Path(f"{i}.wav"), text, task, "") for i, (task, text) in enumerate(texts))
    unreadable = UnreadableClips(10)
    split = Split(samples, BOOK, None)  # type: ignore[arg-type]
    return AnswerScorer(lm, split, count=count, unreadable=unreadable), unreadable  # type: ignore[arg-type]


def test_clips_are_spread_evenly_over_the_set(engine: Engine) -> None:
    lm = Parrot({})
    scorer_of([("asr", "a")] * 11, lm, count=3)[0].score(torch.nn.Identity(), engine)  # type: ignore[arg-type]
    assert lm.asked == [0, 5, 10]
    few = Parrot({})
    scorer_of([("asr", "a")] * 2, few, count=64)[0].score(torch.nn.Identity(), engine)  # type: ignore[arg-type]
    assert few.asked == [0, 1]


def test_speech_is_scored_by_words_and_the_rest_by_chrf(engine: Engine) -> None:
    lm = Parrot({0: "Turn left, please.", 1: "a dog barks", 2: "one three"})
    texts = [("asr", "turn left please"), ("audiocaption", "a dog barks"), ("asr", "one two")]
    scorer, _ = scorer_of(texts, lm, count=3)
    assert (scorer.has_speech(), scorer.has_other()) == (True, True)
    assert scorer.score(torch.nn.Identity(), engine) == {"wer": 0.2, "chrf": 100.0}  # type: ignore[arg-type]


def test_a_clip_that_cannot_be_read_is_named_and_left_out(engine: Engine) -> None:
    lm = Parrot(dict.fromkeys(range(5), "a"))
    scorer, unreadable = scorer_of([("asr", "a")] * 5, lm, count=5)
    assert scorer.score(torch.nn.Identity(), engine) == {"wer": 0.0}  # type: ignore[arg-type]
    assert lm.asked == [0, 1, 2, 3]
    assert unreadable.names == ["4.wav"]


def test_an_empty_answer_counts_as_all_wrong() -> None:
    sample = Sample(Path("x"), "one two", "asr", "")
    assert score_texts([(sample, "")]) == {"wer": 1.0}


def test_words_without_case_and_punctuation() -> None:
    assert plain_words("  It's OK -- Turn LEFT, please! ") == "it's ok turn left please"
