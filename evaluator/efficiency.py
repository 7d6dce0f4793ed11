"""Measuring a model's latency and throughput on clips that are in memory.

In: a loaded model and requests. Out: a Measurement: named figures with median and range over rounds, what the model
says of itself, and why a figure is missing. docs/efficiency.md defines every figure.

A round asks every clip alone and for its first token, then all clips at once. The first round is the warm-up and
is not counted. Inside the clock is everything between a request's waveform and its text; reading files is outside.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluator.errors import ContractError
from evaluator.model import Answer, AudioLM, Request
from evaluator.model_probe import ModelProbe, Setting
from evaluator.predict import checked_answer, checked_sampling_rate
from evaluator.timing import Spread, quantile, ratio

WARM_UP_ROUNDS = 1
NOT_OFFERED = "not offered by this model"
P95_CLIPS = 20

Clock = Callable[[], float]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured.

    Attributes:
        figures: name -> spread over the counted rounds.
        peak_memory: name -> bytes, None where it is not known.
        model_figures: what the model counts of itself for the longest clip.
        settings: what the model says the figures hold for.
        missing: name of a figure -> why it is not there.
        notes: what a reader should know, in sentences.
        audio_seconds: of each clip.
        tokens: of each clip's answer, asked alone, in the last round.
    """

    figures: dict[str, Spread]
    peak_memory: dict[str, int | None]
    model_figures: dict[str, float]
    settings: dict[str, Setting]
    missing: dict[str, str]
    notes: tuple[str, ...]
    audio_seconds: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Timed:
    """Answers in the order of the requests, and the seconds they took together."""

    seconds: float
    answers: list[Answer]

    @property
    def tokens(self) -> int:
        return sum(answer.num_tokens for answer in self.answers)


@dataclass(frozen=True, slots=True)
class _First:
    """The first token of one clip: the seconds it took, and whether it was certain."""

    seconds: float
    certain: bool


@dataclass(frozen=True, slots=True)
class _Round:
    """All measurements of one round; `firsts` is empty where the model offers none."""

    alone: list[_Timed]
    firsts: list[_First]
    together: _Timed
    device_alone: int | None
    device_together: int | None


@dataclass(slots=True)
class _Watch:
    """A model, a clock, and how many clips are done."""

    probe: ModelProbe
    clock: Clock
    progress: Progress
    total: int
    done: int = field(default=0)

    def timed(self, requests: Sequence[Request]) -> _Timed:
        """Time one `generate`; the answers are checked after the clock has stopped."""
        self.probe.synchronize()
        begin = self.clock()
        given = list(self.probe.model.generate(iter(requests)))
        self.probe.synchronize()
        seconds = self.clock() - begin
        self._count(len(requests))
        return _Timed(seconds, _in_order(given, requests))

    def first(self, request: Request) -> _First:
        """Time one first token."""
        self.probe.synchronize()
        begin = self.clock()
        certain = self.probe.first_token(request)
        self.probe.synchronize()
        seconds = self.clock() - begin
        self._count(1)
        return _First(seconds, certain)

    def round(self, requests: Sequence[Request]) -> _Round:
        """Measure everything once."""
        self.probe.reset_peak_memory()
        alone, firsts = [], []
        for request in requests:
            alone.append(self.timed([request]))
            # At once, because the two are subtracted: a machine's speed drifts.
            firsts += [self.first(request)] if self.probe.offers("first_token") else []
        device_alone = self.probe.peak_memory()
        self.probe.reset_peak_memory()
        together = self.timed(requests)
        return _Round(alone, firsts, together, device_alone, self.probe.peak_memory())

    def _count(self, clips: int) -> None:
        self.done += clips
        self.progress(self.done, self.total)


def measure(
    model: AudioLM,
    requests: Sequence[Request],
    *,
    repeats: int,
    clock: Clock = time.perf_counter,
    progress: Progress = lambda done, total: None,
) -> Measurement:
    """Measure a model.

    Args:
        model: a loaded model that meets the contract, on an otherwise idle machine.
        requests: at least one; their indices are distinct.
        repeats: rounds that count, at least 1; one more before them is the warm-up.
        clock: gives seconds, never going back.
        progress: told (clips measured, clips to measure), a clip anew in every part of every round.

    Returns:
        Measurement: every figure that this model and these clips allow.

    Raises:
        ContractError: if the model breaks the contract.
    """
    rate = checked_sampling_rate(model)
    probe = ModelProbe.of(model)
    parts = 3 if probe.offers("first_token") else 2
    watch = _Watch(probe, clock, progress, total=len(requests) * parts * (repeats + WARM_UP_ROUNDS))
    rounds = [watch.round(requests) for _ in range(repeats + WARM_UP_ROUNDS)][WARM_UP_ROUNDS:]
    audio = tuple(len(request.audio) / rate for request in requests)
    missing: dict[str, str] = {}
    figures = _figures(rounds, audio, missing)
    longest = max(requests, key=lambda request: len(request.audio))
    return Measurement(
        figures=figures,
        peak_memory=_peaks(probe, rounds, missing),
        model_figures=_counted(probe, longest, missing),
        settings=probe.settings(),
        missing=missing,
        notes=tuple(_notes(probe, rounds)),
        audio_seconds=audio,
        tokens=tuple(timed.tokens for timed in rounds[-1].alone),
    )


def _in_order(given: Sequence[object], requests: Sequence[Request]) -> list[Answer]:
    """The answers in the order of their requests.

    Raises:
        ContractError: if they are not one well-formed answer for each request.
    """
    answers = [checked_answer(answer) for answer in given]
    found = {answer.index: answer for answer in answers}
    asked = [request.index for request in requests]
    if len(answers) != len(asked) or set(found) != set(asked):
        got = sorted(answer.index for answer in answers)
        raise ContractError(f"The model was asked for index {sorted(asked)} and answered {got}.")
    return [found[index] for index in asked]


def _figures(rounds: Sequence[_Round], audio: Sequence[float], missing: dict[str, str]) -> dict[str, Spread]:
    """Every figure over all rounds; one that a round does not have is missing."""
    found: dict[str, list[float]] = {}
    for current in rounds:
        for name, value in (*_batch1(current, audio), *_first_tokens(current), *_full(current, audio)):
            if value is not None:
                found.setdefault(name, []).append(value)
    if not rounds[0].firsts:
        for name in ("batch1_first_step", "batch1_first_token", "batch1_further_token"):
            missing[f"{name}_seconds"] = f"{NOT_OFFERED} (probe().first_token)"
    elif "batch1_further_token_seconds_p50" not in found:
        missing["batch1_further_token_seconds"] = "no answer has a second token"
    if "batch1_tokens_per_second" not in found:
        missing["tokens_per_second"] = "no answer has a token"
    return {name: Spread.of(values) for name, values in found.items()}


def _batch1(current: _Round, audio: Sequence[float]) -> list[tuple[str, float | None]]:
    """Every clip alone: time to the final text, and the sums over all clips."""
    seconds = [timed.seconds for timed in current.alone]
    tokens = sum(timed.tokens for timed in current.alone)
    return [
        *_quantiles("batch1_final_text_seconds", seconds),
        ("batch1_real_time_factor", ratio(sum(audio), sum(seconds))),
        ("batch1_seconds_per_audio_second", ratio(sum(seconds), sum(audio))),
        ("batch1_tokens_per_second", ratio(tokens, sum(seconds))),
    ]


def _first_tokens(current: _Round) -> list[tuple[str, float | None]]:
    """First tokens, and the time of each further one; of what may still change the first is known with the last."""
    if not current.firsts:
        return []
    pairs = list(zip(current.firsts, current.alone, strict=True))
    known = [first.seconds if first.certain else timed.seconds for first, timed in pairs]
    # Not below 0 by any rule: where the clock is too coarse for so short an answer, that should be seen.
    longer = [(timed.seconds - first.seconds, timed.tokens - 1) for first, timed in pairs if timed.tokens > 1]
    found = [
        *_quantiles("batch1_first_step_seconds", [first.seconds for first in current.firsts]),
        *_quantiles("batch1_first_token_seconds", known),
    ]
    if longer:
        found += _quantiles("batch1_further_token_seconds", [seconds / tokens for seconds, tokens in longer])
        mean = sum(seconds for seconds, _ in longer) / sum(tokens for _, tokens in longer)
        found.append(("batch1_further_token_seconds_mean", mean))
    return found


def _full(current: _Round, audio: Sequence[float]) -> list[tuple[str, float | None]]:
    """All clips in one call."""
    seconds = current.together.seconds
    return [
        ("full_seconds", seconds),
        ("full_real_time_factor", ratio(sum(audio), seconds)),
        ("full_seconds_per_audio_second", ratio(seconds, sum(audio))),
        ("full_clips_per_second", ratio(len(audio), seconds)),
        ("full_tokens_per_second", ratio(current.together.tokens, seconds)),
    ]


def _quantiles(name: str, values: Sequence[float]) -> list[tuple[str, float | None]]:
    return [(f"{name}_p50", quantile(values, 0.50)), (f"{name}_p95", quantile(values, 0.95))]


def _peaks(probe: ModelProbe, rounds: Sequence[_Round], missing: dict[str, str]) -> dict[str, int | None]:
    """The accelerator's peak in each half; with a peak that cannot begin anew only the peak since the start."""
    alone = [current.device_alone for current in rounds if current.device_alone is not None]
    together = [current.device_together for current in rounds if current.device_together is not None]
    if not together:
        known = hasattr(probe.model, "peak_memory")
        missing["device memory"] = "the model knows no accelerator" if known else f"{NOT_OFFERED} (peak_memory)"
        return {}
    if not probe.offers("reset_peak_memory"):
        missing["device memory at batch 1"] = f"{NOT_OFFERED} (probe().reset_peak_memory)"
        return {"device_since_start": max(together)}
    return {"device_batch1": max(alone), "device_full": max(together)}


def _counted(probe: ModelProbe, request: Request, missing: dict[str, str]) -> dict[str, float]:
    if not probe.offers("figures"):
        missing["parameters, MACs"] = f"{NOT_OFFERED} (probe().figures)"
    return probe.figures(request)


def _notes(probe: ModelProbe, rounds: Sequence[_Round]) -> list[str]:
    """What a reader of the figures should know."""
    last = rounds[-1]
    notes = []
    if not probe.offers("synchronize"):
        notes.append(
            "The model offers no synchronize(): the clock stops when the text is there, without asking a device."
        )
    if any(not first.certain for first in last.firsts):
        notes.append(
            "Beam search: the first token is certain only with the last, so the time to the first token is the time to "
            "the final text; first_step is the time until the first step was computed."
        )
    if len(last.alone) < P95_CLIPS:
        notes.append(f"With fewer than {P95_CLIPS} clips p95 is the slowest clip.")
    different = sum(
        one.answers[0].text != answer.text for one, answer in zip(last.alone, last.together.answers, strict=True)
    )
    if different:
        notes.append(f"{different} of {len(last.alone)} texts differ between a clip alone and all together.")
    return notes
