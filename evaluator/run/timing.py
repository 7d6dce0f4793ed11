"""Figures of speed, and how repeated measurements are put together.

In: seconds, seconds of audio, tokens. Out: quantiles, RTFx (audio seconds for each second of work) and its inverse
RTF, and the median and range of rounds; what run.json and efficiency.json share.
"""

import math
import statistics
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluator.run.journal import Prediction

_DIGITS = 6
# Below this a median and a 95th percentile say nothing: they are one clip's time.
MEDIAN_CLIPS = 4
# How the reason begins that a figure is missing for want of clips.
TOO_FEW = "too few"
# Names in files of before -> names now.
FORMER_NAMES = MappingProxyType({"real_time_factor": "rtfx", "seconds_per_audio_second": "rtf"})


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure, measured in several rounds: the median is the figure, the range says how far to trust it."""

    median: float
    lowest: float
    highest: float
    rounds: tuple[float, ...]

    @classmethod
    def of(cls, rounds: Sequence[float]) -> "Spread":
        """Put rounds together, at least one: [3.0, 1.0, 2.0] -> median 2.0, from 1.0 to 3.0."""
        kept = tuple(round(value, _DIGITS) for value in rounds)
        return cls(round(statistics.median(kept), _DIGITS), min(kept), max(kept), kept)


@dataclass(frozen=True, slots=True)
class AnswerSpeed:
    """How fast the answers of an evaluation came: reading audio, waiting and the journal included.

    Attributes:
        rtfx: seconds of audio for each second of predicting; more is faster.
        rtf: its inverse, the real-time factor.
        clips_per_second: answers for each second of predicting.
        tokens: new tokens of all answers.
        tokens_per_second: of all answers, for each second of predicting.
        pull_to_answer_seconds_p50: from the moment the model pulled a clip until its answer, half of the clips wait
            no longer. Models pull ahead of their work, so this is mostly waiting, and no latency.
        pull_to_answer_seconds_p95: the same for 95 of 100 clips. Both are None for fewer than MEDIAN_CLIPS answers.
    """

    rtfx: float | None
    rtf: float | None
    clips_per_second: float | None
    tokens: int
    tokens_per_second: float | None
    pull_to_answer_seconds_p50: float | None
    pull_to_answer_seconds_p95: float | None


def answer_speed(*, seconds: float, audio_seconds: float, waits: Sequence[float], tokens: Sequence[int]) -> AnswerSpeed:
    """Compute the speed of an evaluation.

    Args:
        seconds: of predicting, all clips together.
        audio_seconds: of the audio that the model was given.
        waits: for each answer the seconds from pull to answer; clips that could not be read have none.
        tokens: new tokens of each answer.

    Returns:
        AnswerSpeed: None where there is nothing to divide by.
    """
    return AnswerSpeed(
        rtfx=ratio(audio_seconds, seconds),
        rtf=ratio(seconds, audio_seconds),
        clips_per_second=ratio(len(waits), seconds) if waits else None,
        tokens=sum(tokens),
        tokens_per_second=ratio(sum(tokens), seconds),
        pull_to_answer_seconds_p50=round(quantile(waits, 0.50), _DIGITS) if len(waits) >= MEDIAN_CLIPS else None,
        pull_to_answer_seconds_p95=round(quantile(waits, 0.95), _DIGITS) if len(waits) >= MEDIAN_CLIPS else None,
    )


def speed_of(predictions: "Iterable[Prediction]", seconds: float) -> AnswerSpeed:
    """The speed of the predictions of one attempt, made in so many seconds; rows without an answer do not count."""
    audio_seconds, waits, tokens = array("d"), array("d"), array("q")
    for prediction in predictions:
        if prediction.error is None:
            audio_seconds.append(prediction.audio_seconds)
            waits.append(prediction.seconds)
            tokens.append(prediction.num_tokens)
    return answer_speed(seconds=seconds, audio_seconds=sum(audio_seconds), waits=waits, tokens=tokens)


def ratio(above: float, below: float) -> float | None:
    """Divide: (300.0, 20.0) -> 15.0; None where either is nothing."""
    return round(above / below, _DIGITS) if above and below else None


def present_name(name: str) -> str:
    """What a figure of an older file is called now: "batch1_real_time_factor" -> "batch1_rtfx"."""
    for former, now in FORMER_NAMES.items():
        if name == former or name.endswith(f"_{former}"):
            return name.removesuffix(former) + now
    return name


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least a share of them does not exceed (nearest rank, nothing interpolated).

    Example:
        ([4.0, 1.0, 3.0, 2.0], 0.5) -> 2.0; with 0.95 -> 4.0: of fewer than 20 values p95 is the largest.
    """
    # Rounded first: 0.95 * 20 is 19 and a little in floating point.
    rank = math.ceil(round(share * len(values), 9))
    return sorted(values)[max(rank, 1) - 1]
