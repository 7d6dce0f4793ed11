"""The latency of a model as an evaluation measured it: a value, and how run.json says it.

In: figures of a few clips of the run that were asked alone. Out: the same names and shapes as in efficiency.json, one
round instead of several; or the reason why nothing was measured.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluator.run.timing import Spread, present_name

LATENCY_OFF = "run.latency_clips is 0"
LATENCY_ELSEWHERE = "the model ran in workers; --efficiency measures it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What was measured, or why nothing was.

    Attributes:
        reason: why there are no figures; None where there are. All else is empty then.
        interrupted: whether a signal is the reason.
        protocol: how it was measured.
        planned: how many clips should have been asked.
        ids: the clips that were asked, in the annotation's order; fewer than planned where the time was up.
        audio_seconds: of each clip.
        tokens: of each clip's answer.
        different_texts: of how many clips the text was another one than the run's.
        figures: name -> figure, one round.
        device_batch1: the accelerator's peak meanwhile, in bytes; None where it is not known. run.json has it beside
            the other peaks.
        model_figures: what the model counts of itself for the longest of the clips.
        settings: what the model says the figures hold for.
        missing: name of a figure -> why it is not there.
        notes: what a reader should know, in sentences.
    """

    reason: str | None = None
    interrupted: bool = False
    protocol: Mapping[str, Any] = field(default_factory=dict)
    planned: int = 0
    ids: tuple[str, ...] = ()
    audio_seconds: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    different_texts: int = 0
    figures: Mapping[str, Spread] = field(default_factory=dict)
    device_batch1: int | None = None
    model_figures: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What run.json says under "latency": "reason" alone, with "interrupted" if it is so, or None and the rest."""
        if self.reason is not None:
            return {"reason": self.reason, **({"interrupted": True} if self.interrupted else {})}
        return {
            "reason": None,
            "protocol": dict(self.protocol),
            "clips": {
                "planned": self.planned,
                "measured": len(self.ids),
                "ids": list(self.ids),
                "seconds": [round(seconds, 4) for seconds in self.audio_seconds],
                "tokens": list(self.tokens),
            },
            "texts": {"compared": len(self.ids), "different": self.different_texts},
            "settings": dict(self.settings),
            "figures": {name: asdict(spread) for name, spread in self.figures.items()},
            "model_figures": dict(self.model_figures),
            "missing": dict(self.missing),
            "notes": list(self.notes),
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Latency":
        """What `facts` gave, read back; something else is a reason."""
        try:
            return cls(reason=str(facts["reason"])) if facts["reason"] is not None else _measured(facts)
        except (KeyError, TypeError) as error:
            return cls(reason=f"run.json does not tell ({type(error).__name__}: {error})")


UNDER_WAY = Latency(reason="the process ended before it was measured", interrupted=True)
"""What run.json says until the pass has ended; whoever finds it knows that the process did not live so long."""


def _measured(facts: Mapping[str, Any]) -> Latency:
    clips = facts["clips"]
    figures = {
        present_name(name): Spread(figure["median"], figure["lowest"], figure["highest"], tuple(figure["rounds"]))
        for name, figure in facts["figures"].items()
    }
    return Latency(
        protocol=facts["protocol"],
        planned=clips["planned"],
        ids=tuple(clips["ids"]),
        audio_seconds=tuple(clips["seconds"]),
        tokens=tuple(clips["tokens"]),
        different_texts=facts["texts"]["different"],
        figures=figures,
        model_figures=facts["model_figures"],
        settings=facts["settings"],
        missing=facts["missing"],
        notes=tuple(facts["notes"]),
    )
