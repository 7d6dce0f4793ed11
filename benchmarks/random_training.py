"""A made-up training set for a random SALMONN: what `bench_training.py` measures on.

Lengths are made up to be like those of the sets that SALMONN is trained with: speech of 1.5 to 30 s with 3.6 tokens a
second, captions of 10 s clips with 10 to 20 tokens, short answers to questions. The words mean nothing, the audio is
noise.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from random_salmonn import PROMPTS, WORDS

from salmonn.audio.loading import SAMPLING_RATE
from salmonn.data.dataset import Sample, Samples


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A set in memory.

    Attributes:
        samples: texts and tasks; their files do not exist.
        waves: float32 [N] of each at 16 kHz.
    """

    samples: Samples
    waves: list[NDArray[np.float32]]

    def batch(self, indices: list[int]) -> tuple[list[NDArray[np.float32]], list[str], list[str]]:
        """Waveforms, prompts and targets of a batch."""
        rows = [self.samples[index] for index in indices]
        return [self.waves[index] for index in indices], [PROMPTS[row.task] for row in rows], [row.text for row in rows]


def draw_training_set(number: int, *, seed: int = 0) -> TrainingSet:
    """Draw clips of three tasks with their texts."""
    rng = np.random.default_rng(seed)
    rows, waves = [], []
    for index in range(number):
        task = str(rng.choice(["asr", "audiocaption", "QA"], p=[0.6, 0.25, 0.15]))
        seconds = float(np.clip(rng.lognormal(np.log(9.0), 0.6), 1.5, 30.0)) if task == "asr" else 10.0
        tokens = {"asr": round(3.6 * seconds), "audiocaption": rng.integers(10, 21), "QA": rng.integers(1, 9)}[task]
        text = " ".join(rng.choice(WORDS, size=max(int(tokens), 1)))
        rows.append(Sample(Path(f"{index}.flac"), text, task, ""))
        waves.append((0.1 * rng.standard_normal(round(seconds * SAMPLING_RATE))).astype(np.float32))
    return TrainingSet(Samples.of(rows), waves)
