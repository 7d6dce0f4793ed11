"""Which layers a model can do without: the validation loss with each of them left out.

One layer after the other is dropped, always the one whose loss is lowest without it, and the rest weighed again: two
layers that do the same are each dispensable, but not both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from salmonn.compress.layers import Part, only


@dataclass(frozen=True, slots=True)
class Round:
    """One weighing.

    Attributes:
        part: "llm" or "whisper".
        loss: validation loss with all layers that were left.
        without: layer, counted in the original -> loss without it, too.
        dropped: the layer with the lowest of these.
    """

    part: Part
    loss: float
    without: dict[int, float]
    dropped: int


def choose_layers(
    part: Part, holder: Any, loss: Callable[[], float], *, drop: int, progress: Callable[[str], None]
) -> list[Round]:
    """Choose which layers to drop.

    Args:
        part: whose layers they are.
        holder: the module that has them.
        loss: measures the model as it is.
        drop: how many to choose, fewer than there are.
        progress: told a line for each loss.

    Returns:
        list[Round]: one for each dropped layer.
    """
    left = list(range(len(holder.layers)))
    rounds = []
    for _ in range(drop):
        with only(holder, left):
            base = loss()
        without = {}
        for layer in left:
            with only(holder, [other for other in left if other != layer]):
                without[layer] = loss()
            progress(f"{part} without layer {layer}: loss {without[layer]:.4f}, with it {base:.4f}")
        dropped = min(without, key=lambda layer: without[layer])
        rounds.append(Round(part, base, without, dropped))
        left.remove(dropped)
    return rounds


def kept_layers(total: int, rounds: Sequence[Round]) -> list[int]:
    """The layers that are left, in their order."""
    dropped = {each.dropped for each in rounds}
    return [layer for layer in range(total) if layer not in dropped]
