"""Spectral features of both encoders: Whisper's log-mel and BEATs' Kaldi filter bank.

A list of waveforms goes in; one batch of features comes out. Every clip's features are computed from its own unpadded
samples and padded afterwards, so they do not depend on the other clips of the batch. The waveforms reach the device in
one copy, and nothing is asked of it: what the host needs to know of lengths it knows before.

Legend of the package: B batch, N audio samples, M mel bins, F fbank frames (100 Hz), T encoder frames (50 Hz),
W windows, Q queries per window, S text tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor

from salmonn.audio.loading import SAMPLING_RATE, pad_to_minimum
from salmonn.frontend.fbank import FBANK_BINS, FBANK_STD, FRAME_SHIFT, fbank, whole_frames
from salmonn.frontend.log_mel import LogMel
from salmonn.frontend.packed_waves import WaveStrip, lay_strip

__all__ = ["FBANK_BINS", "FBANK_STD", "Features", "FrontEnd", "fbank"]


@dataclass(frozen=True, slots=True)
class Features:
    """Features of B clips.

    Attributes:
        mel: float32 [B, M, 2T], Whisper's log-mel padded to the extractor's full window.
        fbank: float32 [B, F, 128], zeros past each clip's own frames; F is a multiple of the patch size.
        fbank_frames: int64 [B], valid frames of each clip, a multiple of the patch size.
        fbank_lengths: the same numbers where the host can read them without waiting for the device.
        waves: float32 [B, N] and wave_lengths: int64 [B], the clips as they are heard, where an encoder wants these.
    """

    mel: Tensor
    fbank: Tensor
    fbank_frames: Tensor
    fbank_lengths: tuple[int, ...]
    waves: Tensor | None = None
    wave_lengths: Tensor | None = None


class FrontEnd:
    """Turns waveforms into the features of both encoders.

    Args:
        extractor: Whisper's feature extractor; its window (30 s for the released models) limits a clip.
        patch_frames: fbank frames per BEATs patch (16), or 0 when there is no BEATs.
        keeps_waves: whether features hold the waveforms, too.
    """

    def __init__(self, extractor: WhisperFeatureExtractor, *, patch_frames: int, keeps_waves: bool = False) -> None:
        self.keeps_waves = keeps_waves
        self.extractor = extractor
        self.patch_frames = patch_frames
        self.log_mel = LogMel(extractor)

    @property
    def max_samples(self) -> int:
        """Samples of the longest clip that is heard whole."""
        return self.log_mel.window.samples

    def __call__(self, waves: Sequence[NDArray[np.float32]], device: torch.device) -> Features:
        """Compute the features of B waveforms (float32 [N] each, 16 kHz), cut to the window, at least one second."""
        features = self.compute(self.lay(waves, pinned=device.type == "cuda").to(device))
        if not self.keeps_waves:
            return features
        clips = [torch.from_numpy(np.ascontiguousarray(clip, dtype=np.float32)) for clip in self._heard(waves)]
        lengths = torch.tensor([clip.shape[0] for clip in clips])
        return replace(
            features, waves=pad_sequence(clips, batch_first=True).to(device), wave_lengths=lengths.to(device)
        )

    def lay(self, waves: Sequence[NDArray[np.float32]], *, pinned: bool) -> WaveStrip:
        """Lay B waveforms on a strip in the host's memory, cut to the window, at least one second.

        Args:
            waves: float32 [N] each, 16 kHz; numbers of other types are converted as they are.
            pinned: use memory from which a GPU copies while the host goes on.

        Raises:
            ValueError: a waveform has several axes.
        """
        shape = next((wave.shape for wave in waves if wave.ndim != 1), None)
        if shape is not None:
            raise ValueError(f"a waveform is one row of samples, not an array of shape {shape}")
        clips = self._heard(waves)
        lengths = [clip.shape[0] for clip in clips]
        return lay_strip(
            clips,
            self.log_mel.window,
            mel_frames=[self.log_mel.frames_of(length) for length in lengths],
            fbank_frames=[self._whole_patches(whole_frames(length)) for length in lengths],
            pinned=pinned,
        )

    def _heard(self, waves: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [pad_to_minimum(wave[: self.max_samples], SAMPLING_RATE) for wave in waves]

    def compute(self, strip: WaveStrip) -> Features:
        """Compute the features of a strip on its device."""
        return Features(
            mel=self.log_mel(strip),
            fbank=self.fbank(strip),
            fbank_frames=strip.fbank_counts,
            fbank_lengths=strip.fbank_frames,
        )

    def fbank(self, strip: WaveStrip) -> Tensor:
        """Compute the filter banks of all clips, [B, F, 128], zeros past each clip's own frames."""
        if not self.patch_frames:
            return strip.memory.new_zeros(len(strip.fbank_frames), 0, FBANK_BINS)
        places = torch.arange(max(strip.fbank_frames), device=strip.memory.device)
        rows = fbank(strip.samples[self.log_mel.window.half :])
        beyond = places >= strip.fbank_counts[:, None]
        # A clip lies half a mel frame behind its region's start, and so does the first row here.
        chosen = (strip.starts[:, None] // FRAME_SHIFT + places).masked_fill(beyond, 0)
        return functional.embedding(chosen, rows).masked_fill(beyond[:, :, None], 0.0)

    def _whole_patches(self, frames: int) -> int:
        """Leave the frames of a partly filled last patch out, as the original does for a clip alone."""
        return frames // self.patch_frames * self.patch_frames if self.patch_frames else 0
