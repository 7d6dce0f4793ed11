"""How long one who waits waits: clips one by one, the time to the first step of the search and of each further one.

With beams the first token of the answer is certain only at its end: the first step is when the first tokens of all
beams are chosen. In go two ways to answer one clip, to the first step and to the end; out come seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from device_clock import clocked
from drawn_clips import Lengths


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of every clip: from the waveform to the first step, for each further token, to the whole answer."""

    first_step: tuple[float, ...]
    each_token: tuple[float, ...]
    whole: tuple[float, ...]

    def percentiles(self) -> dict[str, float]:
        """Milliseconds at the middle and at the slow end."""
        values = {"first_step": self.first_step, "each_token": self.each_token, "whole": self.whole}
        return {
            f"{name}_p{part}_ms": float(np.percentile(seconds, part)) * 1000
            for name, seconds in values.items()
            for part in (50, 95)
        }


def measure_latency(
    first: Callable[[int], object],
    whole: Callable[[int], object],
    *,
    clips: Sequence[int],
    lengths: Lengths,
    device: torch.device,
) -> Latency:
    """Answer clips one by one, each to its first step and then to its end.

    Args:
        first: answers a clip as far as its first step.
        whole: answers it to its end, at its forced length.
        clips: at least one; the first is answered once before, off the clock.
        lengths: of the answers; of one token, for which there is no further step, a clip says nothing of those.
        device: that answers.
    """
    first(clips[0])
    whole(clips[0])
    starts, steps, ends = [], [], []
    for clip in clips:
        start, end = (clocked(device, partial(way, clip))[1].wall for way in (first, whole))
        starts.append(start)
        ends.append(end)
        if lengths.tokens[clip] > 1:
            steps.append((end - start) / (lengths.tokens[clip] - 1))
    return Latency(tuple(starts), tuple(steps), tuple(ends))
