"""A batch's waveforms one behind the other on one strip of memory, which reaches the model's device in one copy.

Both encoders' frames are plain cuts of one strip that holds all clips, without padding between clips of different
length. Around each clip lies what Whisper's extractor would see there: the beginning mirrored before it, padding behind
it, the end mirrored behind one that fills the window. Lengths are known before the copy and stay known here, so that
nobody has to ask the device for them.

    region of a clip   | mirrored, n_fft / 2 | the clip, N samples | padding that its last frame touches |
    the strip          | region | region | ... | padding for one frame: silence | numbers, int64 [3, B] |
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salmonn.frontend.fbank import FRAME_SHIFT

NUMBERS = 3
FLOATS_PER_INT64 = 2


@dataclass(frozen=True, slots=True)
class MelWindow:
    """What Whisper's extractor looks through.

    Attributes:
        samples: of the whole window; 480,000 for 30 s.
        fft: samples of a frame.
        hop: samples from one frame to the next.
        padding: the value behind a clip.
    """

    samples: int
    fft: int
    hop: int
    padding: float = 0.0

    @property
    def half(self) -> int:
        """Samples of a frame before its centre; the first frame's centre is the clip's first sample."""
        return self.fft // 2

    @property
    def frames(self) -> int:
        """Frames of the whole window. The frame centred behind the window is dropped: 3000 for 30 s, not 3001."""
        return (self.samples + 2 * self.half - self.fft) // self.hop

    def frames_of(self, samples: int) -> int:
        """Frames that touch a clip of N samples; all others see padding alone."""
        return min(self.frames, -(-(samples + self.half) // self.hop))


@dataclass(frozen=True, slots=True)
class WaveStrip:
    """B clips on a strip.

    Attributes:
        memory: float32 [S + 6 x B], the samples and then the bits of int64 [3, B]: see `starts` and the two below it.
        mel_frames: frames of Whisper's extractor that touch each clip.
        fbank_frames: valid rows of each clip's filter bank.
    """

    memory: Tensor
    mel_frames: tuple[int, ...]
    fbank_frames: tuple[int, ...]

    def to(self, device: torch.device) -> "WaveStrip":
        """Copy the strip; from pinned memory nobody waits for it."""
        return replace(self, memory=self.memory.to(device, non_blocking=True))

    @property
    def samples(self) -> Tensor:
        """All regions and the silence behind them, float32 [S]."""
        return self.memory[: -NUMBERS * FLOATS_PER_INT64 * len(self.mel_frames)]

    @property
    def starts(self) -> Tensor:
        """Where each clip's region begins, int64 [B]: a multiple of both encoders' hops."""
        return self._numbers()[0]

    @property
    def mel_counts(self) -> Tensor:
        """`mel_frames` on the strip's device, int64 [B]."""
        return self._numbers()[1]

    @property
    def fbank_counts(self) -> Tensor:
        """`fbank_frames` on the strip's device, int64 [B]."""
        return self._numbers()[2]

    def _numbers(self) -> Tensor:
        return self.memory[self.samples.shape[0] :].view(torch.int64).view(NUMBERS, -1)


def lay_strip(
    clips: Sequence[NDArray[np.float32]],
    window: MelWindow,
    *,
    mel_frames: Sequence[int],
    fbank_frames: Sequence[int],
    pinned: bool,
) -> WaveStrip:
    """Lay B clips on a strip in the host's memory.

    Args:
        clips: float32 [N] each, n_fft / 2 < N <= the window; at least one.
        window: what Whisper's extractor looks through.
        mel_frames: frames of the extractor that are wanted of each clip.
        fbank_frames: valid rows of each clip's filter bank.
        pinned: use memory from which a GPU copies while the host goes on.
    """
    unit = lcm(window.hop, FRAME_SHIFT)
    sizes = [
        _whole(max(window.half + clip.shape[0], (frames - 1) * window.hop + window.fft), unit)
        for clip, frames in zip(clips, mel_frames, strict=True)
    ]
    ends = np.cumsum(sizes)
    length = int(ends[-1]) + _whole(window.fft, unit)
    size = length + NUMBERS * FLOATS_PER_INT64 * len(clips)
    # Float32 on the host, whatever defaults the caller has set.
    memory = torch.empty(size, dtype=torch.float32, device="cpu", pin_memory=pinned)
    array = memory.numpy()
    for clip, own, end in zip(clips, sizes, ends.tolist(), strict=True):
        _fill(array[end - own : end], clip, window)
    array[ends[-1] : length] = window.padding
    array[length:].view(np.int64).reshape(NUMBERS, -1)[:] = np.array([ends - sizes, mel_frames, fbank_frames])
    return WaveStrip(memory, tuple(mel_frames), tuple(fbank_frames))


def _whole(samples: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-samples // unit) * unit


def _fill(region: NDArray[np.float32], clip: NDArray[np.float32], window: MelWindow) -> None:
    """Write a clip and its surroundings; mirrored ends leave the sample at the edge out, as `reflect` does."""
    half, end = window.half, window.half + window.samples
    region[half : half + clip.shape[0]] = clip
    region[half + clip.shape[0] :] = window.padding
    region[:half] = region[2 * half : half : -1]
    behind = max(0, region.shape[0] - end)
    if behind:
        region[end:] = region[end - 2 : end - 2 - behind : -1]
