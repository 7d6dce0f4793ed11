"""Every random number generator that training could draw from, as tensors and plain values.

A checkpoint holds the states of all processes; a run that is resumed by more processes gives the
additional ones a state that follows from the seed, the step and their number.
"""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def capture_random_state() -> dict[str, Any]:
    """Copy the states of Python's, NumPy's and PyTorch's generators, those of this process's GPU included."""
    version, keys, gauss = random.getstate()
    name, words, place, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(keys), gauss],
        "numpy": [name, [int(word) for word in words], int(place), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put back what `capture_random_state` took."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, *rest = state["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int, *, step: int = 0, rank: int = 0) -> None:
    """Seed all generators from the run's seed, a step and a process's number."""
    mixed = int(np.random.SeedSequence((seed, step, rank)).generate_state(1, dtype=np.uint32)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
