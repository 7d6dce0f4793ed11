"""What a measurement of efficiency is asked for: the command line's wishes as one value."""

from dataclasses import dataclass
from typing import Literal

from evaluator.tasks import Mode

Protocol = Literal["clips", "challenge"]
PROTOCOLS: tuple[Protocol, ...] = ("clips", "challenge")


@dataclass(frozen=True, slots=True)
class EfficiencyPlan:
    """What to measure.

    Attributes:
        mode: whose annotation, or whose task for noise; None: valid_asr's annotation, or the model's first task.
        noise: seconds of each made-up clip; empty for clips of the annotation.
        most_clips: of the annotation.
        repeats: rounds that count.
        protocol: clips alone and all together, or the challenge's protocol, which takes a clip of its own.
        processes: how many measure, one after the other; with the protocol "clips" this one does.
    """

    mode: Mode | None
    noise: tuple[float, ...]
    most_clips: int
    repeats: int
    protocol: Protocol = "clips"
    processes: int = 1
