"""The latency pass of an evaluation: when all results are written, a few of its clips are asked once more, alone.

In: the loaded model, the rows that it answered, and their texts. Out: a Latency, with figures or a reason: nothing that
happens here may cost a run whose results are written. The pass is short: a second, or a share of the time that
predicting took.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from evaluator.annotation.annotation import Sample
from evaluator.audio.loading import load_audio
from evaluator.model import AudioLM, Request
from evaluator.provider.probe import MOST_SECONDS, ModelProbe, heard_seconds
from evaluator.run.latency import LATENCY_OFF, Latency
from evaluator.run.predict import checked_sampling_rate
from evaluator.run.timing import Spread
from evaluator.speed.clips import spread_places
from evaluator.speed.figures import (
    HOW_IT_IS_CLOCKED,
    NOT_OFFERED,
    batch1_figures,
    batch1_missing,
    batch1_notes,
    model_figures,
    no_device_memory,
)
from evaluator.speed.stopwatch import Clock, SingleClip, Stopwatch

logger = logging.getLogger(__name__)

SHARE_OF_PREDICTING = 0.05
# Enough for a median of short runs, and not to be noticed in any.
LEAST_SECONDS = 1.0
WARM_UP_CLIPS = 1
PROTOCOL: Mapping[str, Any] = MappingProxyType(
    {
        "rounds": 1,
        "warm_up_clips": WARM_UP_CLIPS,
        "share_of_predicting": SHARE_OF_PREDICTING,
        "least_seconds": LEAST_SECONDS,
        "when": "after the results were written, with the run's model; its clips had been answered before",
        **HOW_IT_IS_CLOCKED,
    }
)


@dataclass(frozen=True, slots=True)
class _Clip:
    """A clip that was asked: its row, its seconds of audio, what was measured."""

    sample: Sample
    audio_seconds: float
    alone: SingleClip


def latency_of_run(
    model: AudioLM | None,
    samples: Sequence[Sample],
    texts: Mapping[int, str],
    *,
    most: int,
    predict_seconds: float,
    clock: Clock = time.perf_counter,
) -> Latency:
    """Measure what a run's model needs for one clip alone.

    Args:
        model: the run's model; None where no row was left to ask, so that none was loaded.
        samples: the run's rows.
        texts: row -> the run's answer; rows that have none are not in it.
        most: the most clips to ask; 0 for none.
        predict_seconds: how long predicting took. No further clip is begun after a share of it, or LEAST_SECONDS.
        clock: gives seconds, never going back.

    Returns:
        Latency: what was measured, or why nothing was: an interruption and an error of the model are such reasons too.
    """
    answered = [sample for sample in samples if sample.index in texts]
    if most == 0:
        return Latency(reason=LATENCY_OFF)
    if model is None:
        return Latency(reason="no model was loaded: every row had its answer")
    if not answered:
        return Latency(reason="no row has an answer")
    chosen = [answered[place] for place in spread_places(len(answered), most)]
    logger.info("Asking up to %d clip(s) alone, to measure latency.", len(chosen))
    budget = max(SHARE_OF_PREDICTING * predict_seconds, LEAST_SECONDS)
    try:
        return measure_latency(model, chosen, texts, budget=budget, clock=clock)
    except (KeyboardInterrupt, SystemExit) as error:
        found = Latency(reason=f"interrupted ({str(error) or type(error).__name__})", interrupted=True)
    except Exception as error:  # noqa: BLE001 - foreign code; the results are written, and the reason is recorded
        found = Latency(reason=f"{type(error).__name__}: {error}")
    logger.warning("Latency was not measured: %s. The results are complete.", str(found.reason).rstrip("."))
    return found


def measure_latency(
    model: AudioLM,
    chosen: Sequence[Sample],
    texts: Mapping[int, str],
    *,
    budget: float,
    clock: Clock = time.perf_counter,
) -> Latency:
    """Ask clips alone until all are done or the time is up; the first is asked once more before, to warm up.

    Args:
        model: a loaded model.
        chosen: the rows to ask, at least one.
        texts: row -> the run's answer.
        budget: seconds after which no further clip is begun; one clip is measured whatever it takes.
        clock: gives seconds.

    Raises:
        AudioError: a clip can no longer be read.
        ContractError: the model breaks the contract.
    """
    begin = clock()
    rate = checked_sampling_rate(model)
    most_samples = int((heard_seconds(model) or MOST_SECONDS) * rate)
    probe = ModelProbe.of(model)
    watch = Stopwatch(probe, clock)
    measured: dict[int, _Clip] = {}
    longest: Request | None = None
    probe.reset_peak_memory()
    for place in still_spread(len(chosen)):
        sample = chosen[place]
        audio = load_audio(sample.clip, rate)[:most_samples]
        request = Request(sample.index, audio, sample.task, sample.question)
        for _ in range(0 if measured else WARM_UP_CLIPS):
            watch.alone(request)
        measured[place] = _Clip(sample, len(request.audio) / rate, watch.alone(request))
        if longest is None or len(request.audio) > len(longest.audio):
            longest = request
        if clock() - begin >= budget:
            break
    assert longest is not None, "at least one row is chosen"
    clips = [measured[place] for place in sorted(measured)]
    return _latency(probe, clips, texts, longest, planned=len(chosen), budget=budget)


def still_spread(number: int) -> list[int]:
    """All places of a list in an order of which every beginning is spread over it: 8 -> [0, 4, 2, 6, 1, 5, 3, 7]."""
    width = max(number - 1, 1).bit_length()
    return sorted(range(number), key=lambda place: int(f"{place:0{width}b}"[::-1], 2))


def _latency(
    probe: ModelProbe,
    clips: Sequence[_Clip],
    texts: Mapping[int, str],
    longest: Request,
    *,
    planned: int,
    budget: float,
) -> Latency:
    """Put together what was measured; the peak is read before anything is counted."""
    alone = [clip.alone for clip in clips]
    audio = [clip.audio_seconds for clip in clips]
    missing = batch1_missing(alone)
    peak = _device_peak(probe, missing)
    different = sum(clip.alone.text != texts[clip.sample.index] for clip in clips)
    return Latency(
        protocol={**PROTOCOL, "budget_seconds": round(budget, 3)},
        planned=planned,
        ids=tuple(clip.sample.id for clip in clips),
        audio_seconds=tuple(audio),
        tokens=tuple(clip.alone.whole.tokens for clip in clips),
        different_texts=different,
        figures={name: Spread.of([value]) for name, value in batch1_figures(alone, audio).items()},
        device_batch1=peak,
        model_figures=model_figures(probe, longest, missing),
        settings=probe.settings(),
        missing=missing,
        notes=(*batch1_notes(probe, alone), *_own_notes(len(clips), planned, different, budget)),
    )


def _device_peak(probe: ModelProbe, missing: dict[str, str]) -> int | None:
    peak = probe.peak_memory()
    if peak is None:
        missing["device memory"] = no_device_memory(probe)
    elif not probe.offers("reset_peak_memory"):
        missing["device memory at batch 1"] = f"{NOT_OFFERED} (probe().reset_peak_memory)"
        return None
    return peak


def _own_notes(measured: int, planned: int, different: int, budget: float) -> list[str]:
    notes = []
    if measured < planned:
        notes.append(f"{measured} of {planned} clips were asked: the {budget:.3g} s for it were used up.")
    if different:
        notes.append(f"{different} of {measured} texts are others than the run's, whose clips were asked together.")
    return notes
