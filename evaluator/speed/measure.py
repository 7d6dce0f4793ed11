"""Measuring a model's latency and throughput on clips that are in memory.

In: a loaded model and requests. Out: a Measurement: named figures with median and range over rounds, what the model
says of itself, and why a figure is missing. docs/efficiency.md defines every figure.

A round asks every clip alone and, before and after, for its first token, then all clips at once. The first round is
the warm-up and is not counted. Inside the clock is everything between a request's waveform and its text; reading files
is outside.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluator.machine import process_peak_memory
from evaluator.model import AudioLM, Request
from evaluator.provider.probe import ModelProbe, Setting
from evaluator.run.predict import checked_sampling_rate
from evaluator.run.timing import Spread, ratio
from evaluator.speed.figures import (
    NOT_OFFERED,
    batch1_figures,
    batch1_missing,
    batch1_notes,
    model_figures,
    no_device_memory,
)
from evaluator.speed.stopwatch import Clock, SingleClip, Stopwatch, TimedAnswers

WARM_UP_ROUNDS = 1

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
        different_texts: clips whose text, in any counted round, was another one alone than among all.
    """

    figures: dict[str, Spread]
    peak_memory: dict[str, int | None]
    model_figures: dict[str, float]
    settings: dict[str, Setting]
    missing: dict[str, str]
    notes: tuple[str, ...]
    audio_seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    different_texts: int


@dataclass(frozen=True, slots=True)
class _Round:
    """All measurements of one round."""

    alone: list[SingleClip]
    together: TimedAnswers
    device_alone: int | None
    device_together: int | None


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
    watch = Stopwatch(probe, clock, _Counter(progress, _clips_to_measure(probe, requests, repeats)))
    rounds = [_round(watch, requests) for _ in range(repeats + WARM_UP_ROUNDS)][WARM_UP_ROUNDS:]
    # Before anything is counted: counting works in other ways than answering, and takes memory of its own.
    process = process_peak_memory()
    audio = tuple(len(request.audio) / rate for request in requests)
    last = rounds[-1]
    missing = {name: reason for current in rounds for name, reason in batch1_missing(current.alone).items()}
    peaks = _peaks(probe, rounds, missing)
    longest = max(requests, key=lambda request: len(request.audio))
    different = _different_texts(rounds)
    notes = batch1_notes(probe, last.alone)
    if different:
        notes.append(f"{different} of {len(requests)} texts differ between a clip alone and all together.")
    return Measurement(
        figures=_figures(rounds, audio),
        peak_memory={"process_since_start": process, **peaks},
        model_figures=model_figures(probe, longest, missing),
        settings=probe.settings(),
        missing=missing,
        notes=tuple(notes),
        audio_seconds=audio,
        tokens=tuple(clip.whole.tokens for clip in last.alone),
        different_texts=different,
    )


def _clips_to_measure(probe: ModelProbe, requests: Sequence[Request], repeats: int) -> int:
    # A clip alone, its first token twice, and all together.
    parts = 4 if probe.offers("first_token") else 2
    return len(requests) * parts * (repeats + WARM_UP_ROUNDS)


class _Counter:
    """Adds up the clips that are measured and tells how far it is."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def __call__(self, clips: int) -> None:
        self._done += clips
        self._progress(self._done, self._total)


def _round(watch: Stopwatch, requests: Sequence[Request]) -> _Round:
    """Measure everything once."""
    watch.probe.reset_peak_memory()
    alone = [watch.alone(request) for request in requests]
    device_alone = watch.probe.peak_memory()
    watch.probe.reset_peak_memory()
    together = watch.together(requests)
    return _Round(alone, together, device_alone, watch.probe.peak_memory())


def _figures(rounds: Sequence[_Round], audio: Sequence[float]) -> dict[str, Spread]:
    """Every figure over all rounds."""
    found: dict[str, list[float]] = {}
    for current in rounds:
        for name, value in (batch1_figures(current.alone, audio) | _full(current, audio)).items():
            found.setdefault(name, []).append(value)
    # A round whose clips did not allow a figure has left its reason; the others alone are no figure of all rounds.
    return {name: Spread.of(values) for name, values in found.items() if len(values) == len(rounds)}


def _full(current: _Round, audio: Sequence[float]) -> dict[str, float]:
    """All clips in one call."""
    seconds = current.together.seconds
    found = {
        "full_seconds": seconds,
        "full_rtfx": ratio(sum(audio), seconds),
        "full_rtf": ratio(seconds, sum(audio)),
        "full_clips_per_second": ratio(len(audio), seconds),
        "full_tokens_per_second": ratio(current.together.tokens, seconds),
    }
    return {name: value for name, value in found.items() if value is not None}


def _peaks(probe: ModelProbe, rounds: Sequence[_Round], missing: dict[str, str]) -> dict[str, int]:
    """The accelerator's peak in each half; with a peak that cannot begin anew only the peak since the start."""
    alone = [current.device_alone for current in rounds if current.device_alone is not None]
    together = [current.device_together for current in rounds if current.device_together is not None]
    if not together:
        missing["device memory"] = no_device_memory(probe)
        return {}
    if not probe.offers("reset_peak_memory"):
        missing["device memory at batch 1"] = f"{NOT_OFFERED} (probe().reset_peak_memory)"
        return {"device_since_start": max(together)}
    return {"device_batch1": max(alone), "device_full": max(together)}


def _different_texts(rounds: Sequence[_Round]) -> int:
    """How many clips had another text alone than among all, in any round."""
    different = {
        place
        for current in rounds
        for place, (clip, answer) in enumerate(zip(current.alone, current.together.answers, strict=True))
        if clip.text != answer.text
    }
    return len(different)
