"""The learning rate of the pretraining scripts."""

import math


def cosine(step: int, steps: int, *, peak: float, warmup: int, final: float = 0.02) -> float:
    """Linear warm-up to `peak`, then a cosine down to `final` x `peak` at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
