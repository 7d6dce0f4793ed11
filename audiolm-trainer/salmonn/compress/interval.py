"""How far a score of a few clips can be trusted: its interval when the clips are drawn anew, with replacement."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
DRAWS = 1000


def interval(score: Callable[[Sequence[T]], float], clips: Sequence[T]) -> tuple[float, float]:
    """The middle 95 % of a score over draws of as many clips; the same clips, the same interval.

    Args:
        score: of clips, at least one.
        clips: what was scored, at least one.

    Returns:
        tuple[float, float]: its two ends.
    """
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(clips), size=(DRAWS, len(clips)))
    scores = [score([clips[place] for place in draw]) for draw in draws]
    low, high = np.percentile(scores, (2.5, 97.5))
    return float(low), float(high)
