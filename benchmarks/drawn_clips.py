"""Made-up clips: how long they are, how long their answers are forced to be, what they sound like and are asked.

Lengths are like LibriSpeech's: speech of log-normal length, 7.1 s on average, cut to 1.3 to 35 s, says 3.8 tokens a
second, give or take 20 %, that is 27 tokens on average. Sounds are noise of a colour and loudness of each clip's own.
Clips are asked for two tasks in turn, so that prompts of two lengths meet in a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from random_salmonn import PROMPTS
from torch import Tensor

from salmonn.audio.loading import MAX_SECONDS, SAMPLING_RATE

MEAN_SECONDS, SPREAD, SHORTEST, LONGEST = 7.1, 0.6, 1.3, 35.0
TOKENS_A_SECOND, TOKEN_SPREAD = 3.8, 0.2
MAX_NEW_TOKENS = 200
TASKS = ("asr", "QA")
PROMPT_TOKENS = (109, 115)
"""Of the two tasks' prompts where there is no tokenizer."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Seconds of each clip, and tokens of each answer, its end among them."""

    seconds: tuple[float, ...]
    tokens: tuple[int, ...]

    def longest_first(self, clips: Sequence[int]) -> list[int]:
        """Some clips, longest sound first."""
        return sorted(clips, key=lambda clip: -self.seconds[clip])

    def heard(self, clips: Sequence[int]) -> float:
        """Seconds of some clips that the model hears: 30 of each at most."""
        return sum(min(self.seconds[clip], float(MAX_SECONDS)) for clip in clips)


@dataclass(frozen=True, slots=True)
class Recording:
    """What is asked of a model, as `salmonn.inference.inference.Request` wants it: one clip and its task."""

    index: int
    audio: NDArray[np.float32]
    task: str
    question: str = ""

    @property
    def prompt(self) -> str:
        """The task's filled prompt."""
        return PROMPTS[self.task]


def draw_lengths(number: int, *, seed: int = 0) -> Lengths:
    """Draw lengths of clips and answers."""
    rng = np.random.default_rng(seed)
    # One clip from each of `number` equally likely parts of the distribution: few clips have its mean, too.
    places = (rng.permutation(number) + rng.uniform(size=number)) / number
    # A log-normal's mean lies half its variance above its median.
    logarithms = NormalDist(np.log(MEAN_SECONDS) - SPREAD**2 / 2, SPREAD)
    seconds = np.clip(np.exp([logarithms.inv_cdf(place) for place in places]), SHORTEST, LONGEST)
    tokens = np.clip(seconds * TOKENS_A_SECOND * rng.normal(1.0, TOKEN_SPREAD, size=number), 2, MAX_NEW_TOKENS)
    return Lengths(tuple(seconds.tolist()), tuple(tokens.astype(int).tolist()))


def draw_recordings(lengths: Lengths, *, seed: int = 0) -> list[Recording]:
    """Draw a sound for every clip: noise, filtered and made louder or softer."""
    rng = np.random.default_rng(seed)
    recordings = []
    for index, seconds in enumerate(lengths.seconds):
        noise = rng.standard_normal(round(seconds * SAMPLING_RATE))
        coloured = np.convolve(noise, rng.standard_normal(16), mode="same")
        loudness = 10 ** rng.uniform(-3.0, -0.5)
        audio = (coloured / np.abs(coloured).max() * loudness).astype(np.float32)
        recordings.append(Recording(index, audio, TASKS[index % len(TASKS)]))
    return recordings


def draw_prompts(number: int, *, width: int, device: torch.device, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Draw embeddings of whole prompts, [109 or 115, width] each, for the decoding stage alone."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [PROMPT_TOKENS[index % len(PROMPT_TOKENS)] for index in range(number)]
    return [(0.02 * torch.randn(length, width, generator=generator)).to(device, dtype) for length in lengths]
