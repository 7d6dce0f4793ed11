"""BEATs' features: Kaldi's log filter bank, normalised with AudioSet's mean and spread.

Samples at 16 kHz go in; one row of 128 numbers for every 10 ms comes out. Computed in float64 like the original, whose
waveform was float64.
"""

from functools import lru_cache

import torch
from torch import Tensor

from salmonn.audio.loading import SAMPLING_RATE
from salmonn.frontend.framing import frame_blocks

FRAME_LENGTH = SAMPLING_RATE * 25 // 1000
FRAME_SHIFT = SAMPLING_RATE * 10 // 1000
FFT_LENGTH = 512
FBANK_BINS = 128
LOW_HZ, HIGH_HZ = 20.0, SAMPLING_RATE / 2
PRE_EMPHASIS = 0.97
PCM_SCALE = 2.0**15
# Mean and half spread of AudioSet's filter bank, with which the released BEATs was trained.
FBANK_MEAN, FBANK_STD = 15.41663, 6.55582


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
    return (torch.hann_window(FRAME_LENGTH, periodic=False, dtype=torch.float64) ** 0.85).to(device)


def whole_frames(samples: int) -> int:
    """Frames that lie wholly within a clip: 1 + (N - 400) // 160."""
    return 1 + (samples - FRAME_LENGTH) // FRAME_SHIFT


def fbank(wave: Tensor) -> Tensor:
    """Kaldi's log filter bank as BEATs reads it.

    A frame's row depends on its 400 samples alone, so clips that lie one behind the other can be computed at once.

    Args:
        wave: float32 [N] in -1..1 at 16 kHz, N >= 400.

    Returns:
        float32 [F, 128], F = 1 + (N - 400) // 160, normalised with AudioSet's mean and spread.
    """
    return torch.cat([_rows(block) for block in frame_blocks(wave, length=FRAME_LENGTH, shift=FRAME_SHIFT)])


def _rows(block: Tensor) -> Tensor:
    """Frames float32 [r, 400] -> rows of the filter bank, float32 [r, 128]."""
    frames = block.double().mul_(PCM_SCALE)
    frames.sub_(frames.mean(dim=1, keepdim=True))
    past = frames * PRE_EMPHASIS
    frames[:, 1:].sub_(past[:, :-1])
    # The first sample stands in for its own past.
    frames[:, :1].sub_(past[:, :1])
    spectrum = torch.fft.rfft(frames.mul_(povey_window(block.device)), n=FFT_LENGTH)
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    energies = power @ mel_filters(block.device)
    log_energies: Tensor = energies.clamp_(min=torch.finfo(torch.float32).eps).log_()
    return log_energies.sub_(FBANK_MEAN).div_(2 * FBANK_STD).float()
