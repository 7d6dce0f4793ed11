"""How far a run has come: steps, the sums behind its mean losses, its best validation.

Everything here is stored in a checkpoint and put back from it; a resumed run's figures are those of a run that was
never interrupted.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from salmonn.model.predicted import LossOutput
from salmonn.training.processes import Engine


@dataclass(frozen=True, slots=True)
class Means:
    """What some batches came to, over all processes.

    Attributes:
        loss: mean cross-entropy per target token; nan for no tokens.
        accuracy: share of target tokens predicted right, 0 to 1.
        tokens: target tokens.
        truncated: targets that were cut.
        clips: samples.
    """

    loss: float
    accuracy: float
    tokens: int
    truncated: int
    clips: int


class Sums:
    """Adds up batches of one process; reads them back from the device only when somebody looks."""

    def __init__(self) -> None:
        self._device: list[Tensor | float] = [0.0, 0.0]
        self._host = [0, 0, 0]

    def add(self, output: LossOutput, clips: int) -> None:
        """Add a batch of some clips."""
        measured = (output.loss_sum.detach().double(), output.correct.double())
        self._device = [total + value for total, value in zip(self._device, measured, strict=True)]
        for place, count in enumerate((output.total, output.truncated, clips)):
            self._host[place] += count

    def reduce(self, engine: Engine) -> list[float]:
        """Add up over all processes: loss, right tokens, tokens, truncated targets, clips. All must call this."""
        return engine.sum([*(float(value) for value in self._device), *self._host])

    def restore(self, sums: list[float], engine: Engine) -> None:
        """Go on from sums over all processes: the first one carries them."""
        mine = sums if engine.is_main else [0.0] * 5
        self._device = [torch.tensor(value, dtype=torch.float64, device=engine.device) for value in mine[:2]]
        self._host = [int(value) for value in mine[2:]]

    def means(self, engine: Engine) -> Means:
        """Return the means over all processes. All must call this."""
        loss, correct, tokens, truncated, clips = self.reduce(engine)
        divisor = tokens or float("nan")
        return Means(loss / divisor, correct / divisor, int(tokens), int(truncated), int(clips))


@dataclass(slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: steps done, over the whole run.
        best_step: steps done at the best validation, None before the first.
        best: its figures, by name.
        unreadable: names of the clips that were left out so far.
        epoch_sums: the sums of the current epoch over all processes, when this was stored.
        recent_sums: those since the last line of the log.
    """

    step: int = 0
    best_step: int | None = None
    best: dict[str, float] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    epoch_sums: list[float] = field(default_factory=lambda: [0.0] * 5)
    recent_sums: list[float] = field(default_factory=lambda: [0.0] * 5)

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Progress":
        """Read what `to_plain` gave."""
        return cls(**values)
