"""Spectral features of both encoders: Whisper's log-mel and BEATs' Kaldi filter bank.

A list of waveforms goes in; one batch of features comes out. Every clip's features are computed from its own unpadded
samples and padded afterwards, so they do not depend on the other clips of the batch.

Legend of the package: B batch, N audio samples, M mel bins, F fbank frames (100 Hz), T encoder frames (50 Hz),
W windows, Q queries per window, S text tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import WhisperFeatureExtractor

from salmonn.audio import SAMPLING_RATE, pad_to_minimum

FRAME_LENGTH = SAMPLING_RATE * 25 // 1000
FRAME_SHIFT = SAMPLING_RATE * 10 // 1000
FFT_LENGTH = 512
FBANK_BINS = 128
LOW_HZ, HIGH_HZ = 20.0, SAMPLING_RATE / 2
PRE_EMPHASIS = 0.97
PCM_SCALE = 2.0**15
# Mean and half spread of AudioSet's filter bank, with which the released BEATs was trained.
FBANK_MEAN, FBANK_STD = 15.41663, 6.55582


@dataclass(frozen=True, slots=True)
class Features:
    """Features of B clips.

    Attributes:
        mel: float32 [B, M, 2T], Whisper's log-mel padded to the extractor's full window.
        fbank: float32 [B, F, 128], zeros past each clip's own frames; F is a multiple of the patch size.
        fbank_frames: int64 [B], valid frames of each clip, a multiple of the patch size.
    """

    mel: Tensor
    fbank: Tensor
    fbank_frames: Tensor


def mel_scale(hertz: Tensor) -> Tensor:
    """Kaldi's mel scale, 1127 ln(1 + f / 700)."""
    return 1127.0 * torch.log1p(hertz / 700.0)


@lru_cache(maxsize=4)
def mel_filters(device: torch.device) -> Tensor:
    """Kaldi's triangles, float64 [257, 128]: equal steps in mel from 20 to 8000 Hz, weight 0 at Nyquist."""
    low, high = mel_scale(torch.tensor([LOW_HZ, HIGH_HZ], dtype=torch.float64))
    edges = torch.linspace(float(low), float(high), FBANK_BINS + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = torch.arange(FFT_LENGTH // 2, dtype=torch.float64) * (SAMPLING_RATE / FFT_LENGTH)
    mel = mel_scale(bins)[:, None]
    triangles = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0.0)
    return torch.cat([triangles, triangles.new_zeros(1, FBANK_BINS)]).to(device)


@lru_cache(maxsize=4)
def povey_window(device: torch.device) -> Tensor:
    """Kaldi's default window, float64 [400]: a symmetric Hann window to the power 0.85."""
    return torch.hann_window(FRAME_LENGTH, periodic=False, dtype=torch.float64, device=device) ** 0.85


def fbank(wave: Tensor) -> Tensor:
    """Kaldi's log filter bank of one clip as BEATs reads it.

    Computed in float64 like the original, whose waveform was float64.

    Args:
        wave: float32 [N] in -1..1 at 16 kHz, N >= 400.

    Returns:
        float32 [F, 128], F = 1 + (N - 400) // 160, normalised with AudioSet's mean and spread.
    """
    frames = (wave.double() * PCM_SCALE).unfold(0, FRAME_LENGTH, FRAME_SHIFT)
    frames = frames - frames.mean(dim=1, keepdim=True)
    # The first sample stands in for its own past.
    past = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - PRE_EMPHASIS * past) * povey_window(wave.device)
    power = torch.fft.rfft(frames, n=FFT_LENGTH).abs().square()
    energies = power @ mel_filters(wave.device)
    log_energies: Tensor = energies.clamp(min=torch.finfo(torch.float32).eps).log()
    return ((log_energies - FBANK_MEAN) / (2 * FBANK_STD)).float()


class FrontEnd:
    """Turns waveforms into the features of both encoders.

    Args:
        extractor: Whisper's feature extractor; its window (30 s for the released models) limits a clip.
        patch_frames: fbank frames per BEATs patch (16), or 0 when there is no BEATs.
    """

    def __init__(self, extractor: WhisperFeatureExtractor, *, patch_frames: int) -> None:
        self.extractor = extractor
        self.patch_frames = patch_frames

    @property
    def max_samples(self) -> int:
        """Samples of the longest clip that is heard whole."""
        return int(self.extractor.n_samples)

    def __call__(self, waves: Sequence[NDArray[np.float32]], device: torch.device) -> Features:
        """Compute the features of B waveforms (float32 [N] each, 16 kHz), cut to the window, at least one second."""
        clips = [pad_to_minimum(wave[: self.max_samples], SAMPLING_RATE) for wave in waves]
        mel = self.extractor(
            clips, sampling_rate=SAMPLING_RATE, return_tensors="pt", padding="max_length", device=str(device)
        ).input_features.to(device)
        if not self.patch_frames:
            empty = torch.zeros(len(clips), 0, FBANK_BINS, device=device)
            return Features(mel=mel, fbank=empty, fbank_frames=torch.zeros(len(clips), dtype=torch.int64))
        banks = [self._whole_patches(fbank(torch.from_numpy(clip).to(device))) for clip in clips]
        lengths = torch.tensor([bank.shape[0] for bank in banks], device=device)
        return Features(mel=mel, fbank=torch.nn.utils.rnn.pad_sequence(banks, batch_first=True), fbank_frames=lengths)

    def _whole_patches(self, bank: Tensor) -> Tensor:
        """Drop the frames of a partly filled last patch, as the original does for a clip alone."""
        return bank[: bank.shape[0] // self.patch_frames * self.patch_frames]
