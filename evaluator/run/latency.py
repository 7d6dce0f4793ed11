"""The latency of a model as an evaluation measured it: a value, and how run.json says it.

In: figures of a few clips of the run that were asked alone. Out: the same names and shapes as in efficiency.json, one
round instead of several; or the reason why nothing was measured.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from evaluator.run.timing import Spread, present_name

LATENCY_OFF = "run.latency_clips is 0"
# How the reason of a pass begins that a signal ended.
INTERRUPTED = "interrupted"
# What run.json says until the pass has ended; whoever finds it knows that the process did not live so long.
UNDER_WAY: Mapping[str, Any] = MappingProxyType(
    {"reason": "the process ended before it was measured", "interrupted": True}
)


@dataclass(frozen=True, slots=True)
class Latency:
    """What was measured.

    Attributes:
        planned: how many clips should have been asked.
        ids: the clips that were asked, in the annotation's order; fewer than planned where the time was up.
        budget_seconds: the time after which no further clip was begun.
        audio_seconds: of each clip.
        tokens: of each clip's answer.
        different_texts: of how many clips the text was another one than the run's.
        figures: name -> figure, one round.
        device_batch1: the accelerator's peak meanwhile, in bytes; None where it is not known.
        model_figures: what the model counts of itself for the longest of the clips.
        settings: what the model says the figures hold for.
        missing: name of a figure -> why it is not there.
        notes: what a reader should know, in sentences.
    """

    planned: int
    ids: tuple[str, ...]
    budget_seconds: float
    audio_seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    different_texts: int
    figures: Mapping[str, Spread]
    device_batch1: int | None
    model_figures: Mapping[str, float]
    settings: Mapping[str, str | int | float | bool | None]
    missing: Mapping[str, str]
    notes: tuple[str, ...]


def latency_facts(latency: "Latency | str", protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says under "latency".

    Args:
        latency: what was measured, or why nothing was.
        protocol: how it is measured.

    Returns:
        dict[str, Any]: "reason" is None where there are figures, and the only key where there are none; "interrupted"
        beside it says that a signal was the reason.
    """
    if isinstance(latency, str):
        return {"reason": latency, **({"interrupted": True} if latency.startswith(INTERRUPTED) else {})}
    return {
        "reason": None,
        "protocol": {"rounds": 1, **protocol, "budget_seconds": round(latency.budget_seconds, 3)},
        "clips": {
            "planned": latency.planned,
            "measured": len(latency.ids),
            "ids": list(latency.ids),
            "seconds": [round(seconds, 4) for seconds in latency.audio_seconds],
            "tokens": list(latency.tokens),
        },
        "texts": {"compared": len(latency.ids), "different": latency.different_texts},
        "settings": dict(latency.settings),
        "figures": {name: asdict(spread) for name, spread in latency.figures.items()},
        "model_figures": dict(latency.model_figures),
        "missing": dict(latency.missing),
        "notes": list(latency.notes),
    }


def read_latency(facts: Mapping[str, Any]) -> "Latency | str":
    """What `latency_facts` wrote, read back as far as a summary shows it."""
    try:
        return str(facts["reason"]) if facts["reason"] is not None else _read(facts)
    except (KeyError, TypeError) as error:
        return f"run.json does not tell ({type(error).__name__}: {error})"


def _read(facts: Mapping[str, Any]) -> Latency:
    clips = facts["clips"]
    figures = {
        present_name(name): Spread(figure["median"], figure["lowest"], figure["highest"], tuple(figure["rounds"]))
        for name, figure in facts["figures"].items()
    }
    return Latency(
        planned=clips["planned"],
        ids=tuple(clips["ids"]),
        budget_seconds=facts["protocol"]["budget_seconds"],
        audio_seconds=tuple(clips["seconds"]),
        tokens=tuple(clips["tokens"]),
        different_texts=facts["texts"]["different"],
        figures=figures,
        device_batch1=None,
        model_figures=facts["model_figures"],
        settings=facts["settings"],
        missing=facts["missing"],
        notes=tuple(facts["notes"]),
    )
