"""check_model(): runs the contract of evaluator/model.py on made-up audio, before GPU hours go into a fork.

In: a loaded model and the task labels it knows. Out: one Check for each promise: does the model survive
silence, a tenth of a second and 31 s; is a clip's text the same alone, in company, in another order and
beside other tasks; is there one well-formed answer for each request. Whether text was lower-cased cannot be
seen from outside and is not checked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluator.errors import ContractError
from evaluator.model import Answer, AudioLM, Request
from evaluator.run.predict import checked_answer, checked_answers, checked_sampling_rate, require_answer
from evaluator.submission.text import SPECIAL_TOKEN
from evaluator.tasks import QUESTION
from evaluator.wording import shown

# Memory and files are not the model's promises and pass through; whatever else it raises is a check's result.
NO_FAULTS_OF_MODELS = (MemoryError, OSError)
LOAD_CLIPS = 16
"""What a server is asked twice, by one request at a time and by several."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: its name, whether the model keeps it, and what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class _Clip:
    name: str
    audio: NDArray[np.float32]


def check_model(
    model: AudioLM,
    tasks: Mapping[str, bool],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Check]:
    """Check what a model promises.

    Args:
        model: a loaded model.
        tasks: the task labels it knows -> whether their prompt needs a question; at least one.
        progress: told (checks done, checks in all) after each.

    Returns:
        list[Check]: in a fixed order. A model without a usable sampling rate gets that one check only.
    """
    try:
        rate = checked_sampling_rate(model)
    except ContractError as error:
        return [Check("sampling rate", False, error.message)]
    checks = [Check("sampling rate", True, f"{rate} Hz")]
    clips = _clips(rate)
    requests = _requests(clips, [_first(tasks)])
    alone: dict[int, Answer] = {}
    comparisons: list[tuple[str, Callable[[], str]]] = [
        ("no requests", lambda: _nothing(model)),
        ("one and many", lambda: _together(model, requests, alone)),
        ("another order", lambda: _together(model, requests[::-1], alone)),
        ("the same again", lambda: _together(model, requests, alone)),
        ("any index", lambda: _renumbered(model, requests, alone)),
        ("mixed tasks", lambda: _mixed(model, clips, tasks)),
        ("no special tokens", lambda: _no_special_tokens(alone.values())),
    ]
    at_once: object = getattr(model, "at_once", 1)
    if isinstance(at_once, int) and at_once > 1:
        comparisons.append(("under load", lambda: _under_load(model, rate, _first(tasks), at_once)))
    total = len(checks) + len(clips) + len(comparisons)
    for clip, request in zip(clips, requests, strict=True):
        checks.append(_checked(f"{clip.name}, alone", partial(_alone, model, request, alone)))
        progress(len(checks), total)
    if len(alone) < len(requests):
        return [*checks, Check("comparisons", False, "left out, because clips failed alone")]
    for name, compare in comparisons:
        checks.append(_checked(name, compare))
        progress(len(checks), total)
    return checks


def _clips(rate: int) -> list[_Clip]:
    """Made-up clips of lengths that break padding: silence, a tenth of a second, odd lengths, beyond 30 s."""
    random = np.random.default_rng(0)

    def noise(seconds: float) -> NDArray[np.float32]:
        return (0.1 * random.standard_normal(round(seconds * rate))).astype(np.float32)

    def tone(seconds: float, hertz: float) -> NDArray[np.float32]:
        time = np.arange(round(seconds * rate)) / rate
        return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)

    return [
        _Clip("1 s of silence", np.zeros(rate, dtype=np.float32)),
        _Clip("0.1 s of noise", noise(0.1)),
        _Clip("31 s of noise", noise(31.0)),
        _Clip("3.17 s of a tone", tone(3.17, 440.0)),
        _Clip("1.01 s of a tone", tone(1.01, 1000.0)),
        _Clip("7.3 s of noise", noise(7.3)),
    ]


def _first(tasks: Mapping[str, bool]) -> tuple[str, bool]:
    return next(iter(tasks.items()))


def _requests(clips: Sequence[_Clip], tasks: Sequence[tuple[str, bool]]) -> list[Request]:
    """One request for each clip, the tasks in turn."""
    requests = []
    for index, clip in enumerate(clips):
        label, needs_question = tasks[index % len(tasks)]
        requests.append(Request(index, clip.audio, label, QUESTION if needs_question else ""))
    return requests


def _checked(name: str, run: Callable[[], str]) -> Check:
    """Run one check; what the model raises is its result."""
    try:
        return Check(name, True, run())
    except _BrokenPromiseError as broken:
        return Check(name, False, str(broken))
    except NO_FAULTS_OF_MODELS:
        raise
    except Exception as error:  # noqa: BLE001 - the model is foreign code: its own error types are not known here
        text = error.message if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
        return Check(name, False, text)


class _BrokenPromiseError(Exception):
    """A promise that was not kept."""


def _answers(model: AudioLM, requests: Sequence[Request]) -> dict[int, Answer]:
    """The answers by index.

    Raises:
        ContractError: if they are not one well-formed answer for each request.
    """
    asked = {request.index for request in requests}
    answers: dict[int, Answer] = {}
    for given in checked_answers(model, iter(requests)):
        answer = require_answer(checked_answer(given))
        if answer.index not in asked:
            raise ContractError(f"The model answered index {answer.index}, which no request has.")
        if answer.index in answers:
            raise ContractError(f"The model answered index {answer.index} more than once.")
        answers[answer.index] = answer
    if len(answers) < len(asked):
        raise ContractError(f"The model left index {sorted(asked - set(answers))} unanswered.")
    return answers


def _alone(model: AudioLM, request: Request, alone: dict[int, Answer]) -> str:
    audio = request.audio.copy()
    alone.update(_answers(model, [request]))
    if not np.array_equal(audio, request.audio):
        raise _BrokenPromiseError("the model changed the audio it was given")
    return shown(alone[request.index].text)


def _nothing(model: AudioLM) -> str:
    _answers(model, [])
    return "no answers"


def _together(model: AudioLM, requests: Sequence[Request], alone: Mapping[int, Answer]) -> str:
    """Compare the texts of requests asked together with those asked alone."""
    answers = _answers(model, requests)
    return _equal({index: answers[index].text for index in alone}, alone)


def _renumbered(model: AudioLM, requests: Sequence[Request], alone: Mapping[int, Answer]) -> str:
    """Indices are names, not positions: they may be any, in any order."""
    offset = 1000
    answers = _answers(model, [request._replace(index=offset - request.index) for request in requests])
    return _equal({index: answers[offset - index].text for index in alone}, alone)


def _equal(texts: Mapping[int, str], alone: Mapping[int, Answer]) -> str:
    different = [index for index in sorted(alone) if texts[index] != alone[index].text]
    if different:
        index = different[0]
        raise _BrokenPromiseError(
            f"{len(different)} of {len(alone)} texts differ from the clip's text alone, "
            f"the first at index {index}: {shown(texts[index])}, alone {shown(alone[index].text)}"
        )
    return f"{len(alone)} texts equal"


def _mixed(model: AudioLM, clips: Sequence[_Clip], tasks: Mapping[str, bool]) -> str:
    """Ask clips of all tasks together and each alone."""
    if len(tasks) < 2:
        return "not applicable: the model knows one task"
    requests = _requests(clips, list(tasks.items()))
    alone = {request.index: _answers(model, [request])[request.index] for request in requests}
    return _together(model, requests, alone)


def _under_load(model: AudioLM, rate: int, task: tuple[str, bool], at_once: int) -> str:
    """Ask the same clips one after the other, and as many at a time as a run does."""
    random = np.random.default_rng(1)
    clips = [
        _Clip(str(number), (0.1 * random.standard_normal(rate // 2 * (1 + number % 8))).astype(np.float32))
        for number in range(LOAD_CLIPS)
    ]
    requests = _requests(clips, [task])
    single = {request.index: _answers(model, [request])[request.index] for request in requests}
    loaded = _answers(model, requests)
    different = [index for index in sorted(single) if loaded[index].text != single[index].text]
    told = f"{len(different)} of {len(requests)} rows differ between 1 and {min(at_once, LOAD_CLIPS)} at once"
    if different:
        index = different[0]
        texts = f"{shown(loaded[index].text)}, alone {shown(single[index].text)}"
        raise _BrokenPromiseError(f"{told}, the first at index {index}: {texts}")
    # Equal texts show nothing of a model that says the same of every clip.
    said = {answer.text for answer in single.values()}
    return told if len(said) > 1 else f"{told}, and all say {shown(said.pop())}"


def _no_special_tokens(answers: Iterable[Answer]) -> str:
    """Look for what tokenizers write for tokens that are not text."""
    found = sorted({token for answer in answers for token in SPECIAL_TOKEN.findall(answer.text)})
    if found:
        raise _BrokenPromiseError(f"texts contain {', '.join(found)}")
    return "none seen"
