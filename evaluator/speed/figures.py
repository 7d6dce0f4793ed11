"""Figures of clips that were asked alone: first token, further tokens, whole text, RTFx.

In: what a stopwatch measured. Out: name -> figure, by the names that docs/efficiency.md defines; the reason for each
that is missing; sentences that a reader should know. efficiency.json and run.json have the same ones.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from evaluator.model import Request
from evaluator.provider.probe import ModelProbe
from evaluator.run.timing import MEDIAN_CLIPS, TOO_FEW, quantile, ratio
from evaluator.speed.stopwatch import SingleClip

NOT_OFFERED = "not offered by this model"
P95_CLIPS = 20
# Part of each file's protocol.
HOW_IT_IS_CLOCKED: Mapping[str, str] = MappingProxyType(
    {
        "clock": "time.perf_counter, the device waited for on both sides where the model offers synchronize()",
        "inside_the_clock": "waveform in memory to text: features, copies to the device, encoders, decoding, tokenizer",
        "outside_the_clock": "loading the model, reading and resampling files, warming up, checking the answers",
        "mac": "one multiplication with its addition, two FLOPs",
    }
)


def batch1_figures(alone: Sequence[SingleClip], audio: Sequence[float]) -> dict[str, float]:
    """Put clips that were asked alone together.

    Args:
        alone: what was measured of each clip, at least one.
        audio: seconds of each clip.

    Returns:
        dict[str, float]: the figures that these clips allow; those in `batch1_missing` are left out.
    """
    seconds = [clip.whole.seconds for clip in alone]
    tokens = sum(clip.whole.tokens for clip in alone)
    found = {
        **_quantiles("batch1_final_text_seconds", seconds),
        "batch1_rtfx": ratio(sum(audio), sum(seconds)),
        "batch1_rtf": ratio(sum(seconds), sum(audio)),
        "batch1_tokens_per_second": ratio(tokens, sum(seconds)),
        **_first_tokens(alone),
    }
    return {name: value for name, value in found.items() if value is not None}


def batch1_missing(alone: Sequence[SingleClip]) -> dict[str, str]:
    """Name of a figure that these clips do not allow -> why."""
    missing: dict[str, str] = {}
    if alone[0].first is None:
        for name in ("batch1_first_step", "batch1_first_token", "batch1_further_token"):
            missing[f"{name}_seconds"] = f"{NOT_OFFERED} (probe().first_token)"
    else:
        missing |= _too_few("batch1_first_step_seconds", len(alone), "clips")
        missing |= _too_few("batch1_first_token_seconds", len(alone), "clips")
        missing |= _missing_further_tokens(alone)
    missing |= _too_few("batch1_final_text_seconds", len(alone), "clips")
    if not any(clip.whole.tokens for clip in alone):
        missing["tokens_per_second"] = "no answer has a token"
    return missing


def batch1_notes(probe: ModelProbe, alone: Sequence[SingleClip]) -> list[str]:
    """What a reader of these figures should know."""
    notes = []
    if not probe.offers("synchronize"):
        notes.append(
            "The model offers no synchronize(): the clock stops when the text is there, without asking a device."
        )
    if any(clip.first is not None and not clip.first.certain for clip in alone):
        notes.append(
            "Beam search: the first token is certain only with the last, so the time to the first token is the time to "
            "the final text; first_step is the time until the first step was computed."
        )
    if MEDIAN_CLIPS <= len(alone) < P95_CLIPS:
        notes.append(f"With fewer than {P95_CLIPS} clips p95 is the slowest clip.")
    return notes


def model_figures(probe: ModelProbe, request: Request, missing: dict[str, str]) -> dict[str, float]:
    """What the model counts of itself for a request, once everything is measured.

    Args:
        probe: the model's.
        request: a clip.
        missing: gets the reason where there is nothing: what was measured before is not lost by that.
    """
    if not probe.offers("figures"):
        missing["parameters, MACs"] = f"{NOT_OFFERED} (probe().figures)"
        return {}
    try:
        return probe.figures(request)
    except Exception as error:  # noqa: BLE001 - foreign code; the reason stands where the figures would
        missing["parameters, MACs"] = f"{type(error).__name__}: {error}"
        return {}


def no_device_memory(probe: ModelProbe) -> str:
    """Why there is no figure of an accelerator's memory."""
    known = hasattr(probe.model, "peak_memory")
    return "the model knows no accelerator" if known else f"{NOT_OFFERED} (peak_memory)"


def _first_tokens(alone: Sequence[SingleClip]) -> dict[str, float | None]:
    """First tokens, and the time of each further one; of what may still change the first is known with the last."""
    pairs = [(clip.first, clip.whole) for clip in alone if clip.first is not None]
    if not pairs:
        return {}
    known = [first.seconds if first.certain else whole.seconds for first, whole in pairs]
    longer = _further_tokens(alone)
    found = {
        **_quantiles("batch1_first_step_seconds", [first.seconds for first, _ in pairs]),
        **_quantiles("batch1_first_token_seconds", known),
    }
    if longer:
        found |= _quantiles("batch1_further_token_seconds", [seconds / tokens for seconds, tokens in longer])
        total = sum(tokens for _, tokens in longer)
        found["batch1_further_token_seconds_mean"] = sum(seconds for seconds, _ in longer) / total
    return found


def _further_tokens(alone: Sequence[SingleClip]) -> list[tuple[float, int]]:
    """Seconds and number of the tokens after the first, of each clip that tells them.

    A clip tells them whose whole answer took longer than its first token by more than two measurements of that token
    differ. The time of the others is below what can be measured; their difference may be nothing or negative, which no
    step can cost.
    """
    return [
        (clip.whole.seconds - clip.first.seconds, clip.whole.tokens - 1)
        for clip in alone
        if clip.first is not None
        and clip.whole.tokens > 1
        and clip.whole.seconds - clip.first.seconds > clip.first.doubt
    ]


def _missing_further_tokens(alone: Sequence[SingleClip]) -> dict[str, str]:
    if all(clip.whole.tokens < 2 for clip in alone):
        return {"batch1_further_token_seconds": "no answer has a second token"}
    telling = len(_further_tokens(alone))
    return _too_few(
        "batch1_further_token_seconds", telling, "clips whose further tokens take longer than the clock errs"
    )


def _too_few(name: str, number: int, what: str) -> dict[str, str]:
    if number >= MEDIAN_CLIPS:
        return {}
    return {name: f"{TOO_FEW}: {number} {what}, and a median needs {MEDIAN_CLIPS}"}


def _quantiles(name: str, values: Sequence[float]) -> dict[str, float | None]:
    if len(values) < MEDIAN_CLIPS:
        return {}
    return {f"{name}_p50": quantile(values, 0.50), f"{name}_p95": quantile(values, 0.95)}
