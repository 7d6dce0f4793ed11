"""Whisper's log-mel spectrogram, computed in torch on the model's device.

A strip of waveforms goes in; a batch of spectrograms of the extractor's whole window comes out. transformers' extractor
gives the filters and sizes but does not compute: it would transform the silence behind every clip, and fetch a GPU's
result back into the host's memory.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import WhisperFeatureExtractor

from salmonn.frontend.framing import frame_blocks
from salmonn.frontend.packed_waves import MelWindow, WaveStrip

# OpenAI's Whisper: the least power, the decades kept below the loudest point, and a shift and scale to about -1..1.
LEAST_POWER = 1e-10
DECADES = 8.0
SHIFT, SCALE = 4.0, 4.0


class LogMel:
    """Computes what transformers' extractor computes, of the frames that touch a clip.

    Args:
        extractor: gives the filters, the window and the dither; it may be dithered, and then every frame is computed.
    """

    def __init__(self, extractor: WhisperFeatureExtractor) -> None:
        self.extractor = extractor
        self.window = MelWindow(
            samples=int(extractor.n_samples),
            fft=int(extractor.n_fft),
            hop=int(extractor.hop_length),
            padding=float(extractor.padding_value),
        )
        # By device, made when the first clip comes: the model may be built before anyone knows where it will run.
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def frames_of(self, samples: int) -> int:
        """Frames to compute for a clip of N samples."""
        return self.window.frames if self.extractor.dither else self.window.frames_of(samples)

    def __call__(self, strip: WaveStrip) -> Tensor:
        """Compute the spectrograms of B clips: float32 [B, M, 2T], M mel bins, 2T frames (3000 for 30 s)."""
        logs = self._log_power(strip.samples)
        # One place more than the longest clip has: there every clip is silent, as it is from there on.
        kept = min(max(strip.mel_frames) + 1, self.window.frames)
        places = torch.arange(kept, device=logs.device)
        silent = places >= strip.mel_counts[:, None]
        rows = (strip.starts[:, None] // self.window.hop + places).masked_fill(silent, logs.shape[0] - 1)
        # [B, kept, M]
        heard = functional.embedding(rows, logs)
        heard = torch.maximum(heard, heard.amax(dim=(1, 2), keepdim=True) - DECADES)
        heard = (heard + SHIFT) / SCALE
        mel = heard.new_empty(heard.shape[0], heard.shape[2], self.window.frames)
        mel[:, :, :kept] = heard.transpose(1, 2)
        mel[:, :, kept:] = heard[:, -1, :, None]
        return mel

    def _log_power(self, samples: Tensor) -> Tensor:
        """Log power in each mel bin of every frame of the strip: [S] -> [R, M]; the last frame is silence."""
        if self.extractor.dither:
            samples = samples + self.extractor.dither * torch.randn_like(samples)
        hann, filters = self._on(samples.device)
        logs = []
        for block in frame_blocks(samples, length=self.window.fft, shift=self.window.hop):
            spectrum = torch.fft.rfft(block * hann)
            power = spectrum.real.square() + spectrum.imag.square()
            # In float64, which neither autocast nor a GPU's TF32 makes coarser.
            bands = (power.double() @ filters).float()
            logs.append(bands.clamp(min=LEAST_POWER).log10())
        return torch.cat(logs)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Hann window, float32 [n_fft], and filters, float64 [n_fft // 2 + 1, M], on a device."""
        if device not in self._constants:
            # Rounded to float32 first, as the extractor uses them. Copied rather than computed on the device: they are
            # there when the copy is done, for whatever stream reads them.
            filters = torch.from_numpy(self.extractor.mel_filters).float().double()
            hann = torch.hann_window(self.window.fft, dtype=torch.float32, device="cpu")
            self._constants[device] = (hann.to(device), filters.to(device))
        return self._constants[device]
