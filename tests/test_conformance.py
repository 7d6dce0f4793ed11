"""Tests of evaluator/conformance.py: a good model passes, each kind of broken model fails its check."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_model import EchoLM, Reply, heard

from evaluator.conformance import QUESTION, Check, check_model
from evaluator.model import Request

TASKS = {"asr": False, "qa": True}


def failed(model: Any, tasks: dict[str, bool] = TASKS) -> dict[str, str]:
    """The failed checks: name -> detail."""
    return {check.name: check.detail for check in check_model(model, tasks) if not check.passed}


def test_good_model_passes_everything() -> None:
    checks = check_model(EchoLM(), TASKS)
    assert [check for check in checks if not check.passed] == []
    assert [check.name for check in checks] == [
        "sampling rate",
        "1 s of silence, alone",
        "0.1 s of noise, alone",
        "31 s of noise, alone",
        "3.17 s of a tone, alone",
        "1.01 s of a tone, alone",
        "7.3 s of noise, alone",
        "no requests",
        "one and many",
        "another order",
        "the same again",
        "any index",
        "mixed tasks",
        "no special tokens",
    ]


def test_model_hears_what_the_names_say() -> None:
    model = EchoLM()
    check_model(model, TASKS)
    silence, tenth, long, *_ = model.pulled
    assert np.array_equal(silence.audio, np.zeros(16000, dtype=np.float32))
    assert (len(tenth.audio), len(long.audio)) == (1600, 31 * 16000)
    assert {request.audio.dtype for request in model.pulled} == {np.dtype(np.float32)}
    questions = {(request.task, request.question) for request in model.pulled}
    assert questions == {("asr", ""), ("qa", QUESTION)}


class Batched(EchoLM):
    """A model that takes everything as one batch, through a function of all requests."""

    def __init__(self, answer: Callable[[list[Request]], Iterable[object]]) -> None:
        super().__init__()
        self.answer = answer

    def generate(self, requests: Iterable[Request]) -> Iterator[Any]:
        yield from self.answer(list(requests))


def padded(requests: list[Request]) -> Iterator[Reply]:
    """The text depends on the longest clip of the batch."""
    longest = max((len(request.audio) for request in requests), default=0)
    for request in requests:
        yield Reply(request.index, f"{len(request.audio)} of {longest}", 1, "stop")


def by_position(requests: list[Request]) -> Iterator[Reply]:
    """Answers carry the position instead of the index."""
    for position, request in enumerate(requests):
        yield Reply(position, heard(request), 1, "stop")


def first_task_for_all(requests: list[Request]) -> Iterator[Reply]:
    """The whole batch gets the prompt of its first request."""
    for request in requests:
        yield Reply(request.index, f"{requests[0].task} {len(request.audio)}", 1, "stop")


def with_specials(requests: list[Request]) -> Iterator[Reply]:
    """A special token is left in the text."""
    for request in requests:
        yield Reply(request.index, "<|begin_of_text|>" + heard(request), 1, "stop")


def crashes_on_short(requests: list[Request]) -> Iterator[Reply]:
    """A convolution is longer than the clip."""
    for request in requests:
        if len(request.audio) < 3200:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        yield Reply(request.index, heard(request), 1, "stop")


def drops_last(requests: list[Request]) -> Iterator[Reply]:
    """Only full batches are answered."""
    for request in requests if len(requests) == 1 else requests[:-1]:
        yield Reply(request.index, heard(request), 1, "stop")


def needs_requests(requests: list[Request]) -> Iterator[Reply]:
    """Stacking nothing fails."""
    _ = requests[0]
    for request in requests:
        yield Reply(request.index, heard(request), 1, "stop")


def normalises_in_place(requests: list[Request]) -> Iterator[Reply]:
    """The caller's audio is changed."""
    for request in requests:
        request.audio[...] = 1.0
        yield Reply(request.index, heard(request), 1, "stop")


class OwnError(Exception):
    """A model package's own."""


def raises_its_own(requests: list[Request]) -> Iterator[Reply]:
    """Short clips are refused with an error class of its own."""
    for request in requests:
        if len(request.audio) < 4000:
            raise OwnError("too short for the encoder")
        yield Reply(request.index, heard(request), 1, "stop")


def counts_in_text(requests: list[Request]) -> Iterator[Reply]:
    """num_tokens is not a number."""
    for request in requests:
        yield Reply(request.index, heard(request), "many", "stop")


BROKEN = [
    (padded, "one and many", "texts differ from the clip's text alone"),
    (padded, "another order", "texts differ"),
    (by_position, "1.01 s of a tone, alone", "index 0, which no request has"),
    (first_task_for_all, "mixed tasks", "3 of 6 texts differ"),
    (with_specials, "no special tokens", "texts contain <|begin_of_text|>"),
    (crashes_on_short, "0.1 s of noise, alone", "RuntimeError: Kernel size"),
    (raises_its_own, "0.1 s of noise, alone", "OwnError: too short for the encoder"),
    (drops_last, "one and many", "left index [5] unanswered"),
    (needs_requests, "no requests", "IndexError"),
    (normalises_in_place, "1 s of silence, alone", "changed the audio"),
    (counts_in_text, "1 s of silence, alone", "num_tokens is 'many'"),
]


@pytest.mark.parametrize(("answer", "check", "detail"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_broken_model_fails_its_check(answer: Any, check: str, detail: str) -> None:
    found = failed(Batched(answer))
    assert detail in found[check]


def test_random_model_fails_the_same_again() -> None:
    random = np.random.default_rng(0)
    assert "the same again" in failed(EchoLM(say=lambda request: str(random.random())))


def test_comparisons_need_every_clip_alone() -> None:
    found = failed(Batched(crashes_on_short))
    assert set(found) == {"0.1 s of noise, alone", "comparisons"}


def test_one_task_has_nothing_to_mix() -> None:
    checks = {check.name: check for check in check_model(EchoLM(), {"asr": False})}
    assert checks["mixed tasks"] == Check("mixed tasks", True, "not applicable: the model knows one task")


def test_model_without_a_sampling_rate() -> None:
    [check] = check_model(EchoLM(sampling_rate=0), TASKS)
    assert not check.passed
    assert "sampling_rate" in check.detail


def test_signals_pass_through() -> None:
    def interrupted(requests: list[Request]) -> Iterator[Reply]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        check_model(Batched(interrupted), TASKS)
