"""Time of the features of both encoders: `python benchmarks/front_end.py [--quick] [--device cuda]`.

One process, made-up speech: noise of log-normal length (median 6.4 s, at least 1.3, at most 30 s), the same clips for
both ways, in batches of 1, 8 and 32. A run is one pass over all clips, from waveforms in the host's memory to features
on the device:

    before    transformers' extractor, which transforms its whole window for every clip and gives the result back in the
              host's memory; the filter bank clip by clip
    now       salmonn.frontend.features: one copy of a batch's samples, frames of all clips at once, only those that
              touch a clip

The ways run in turn, before, now, now, before, in every repeat. Each row says how far the numbers of both lie apart
at most. On a shared machine CPU time is the one to compare; with `--device cuda` every clock waits for the device, and
wall time is.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor

from salmonn.audio.loading import SAMPLING_RATE, pad_to_minimum
from salmonn.frontend.fbank import (
    FBANK_MEAN,
    FBANK_STD,
    FFT_LENGTH,
    FRAME_LENGTH,
    FRAME_SHIFT,
    PCM_SCALE,
    PRE_EMPHASIS,
    mel_filters,
    povey_window,
)
from salmonn.frontend.features import FrontEnd
from salmonn.frontend.packed_waves import WaveStrip

PATCH_FRAMES = 16
Batch = list[NDArray[np.float32]]
Way = Callable[[Batch], list[Tensor]]


class Seconds(NamedTuple):
    """Of one pass over all clips."""

    cpu: float
    wall: float


class Before:
    """The features as they were computed."""

    def __init__(self, extractor: WhisperFeatureExtractor, device: torch.device) -> None:
        self.extractor = extractor
        self.device = device

    def mel(self, waves: Batch) -> list[Tensor]:
        """Whisper's log-mel by transformers' extractor."""
        clips = [pad_to_minimum(wave[: self.extractor.n_samples], SAMPLING_RATE) for wave in waves]
        found = self.extractor(
            clips,
            sampling_rate=SAMPLING_RATE,
            return_tensors="pt",
            padding="max_length",
            device=str(self.device),
        )
        return [found.input_features.to(self.device)]

    def fbank(self, waves: Batch) -> list[Tensor]:
        """Kaldi's filter bank, one clip after the other."""
        banks = [self._clip(wave[: self.extractor.n_samples]) for wave in waves]
        return [pad_sequence([bank[: len(bank) // PATCH_FRAMES * PATCH_FRAMES] for bank in banks], batch_first=True)]

    def both(self, waves: Batch) -> list[Tensor]:
        """All that the encoders need."""
        return self.mel(waves) + self.fbank(waves)

    def _clip(self, wave: NDArray[np.float32]) -> Tensor:
        samples = torch.from_numpy(pad_to_minimum(wave, SAMPLING_RATE)).to(self.device)
        frames = (samples.double() * PCM_SCALE).unfold(0, FRAME_LENGTH, FRAME_SHIFT)
        frames = frames - frames.mean(dim=1, keepdim=True)
        past = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        frames = (frames - PRE_EMPHASIS * past) * povey_window(self.device)
        energies = torch.fft.rfft(frames, n=FFT_LENGTH).abs().square() @ mel_filters(self.device)
        logs = energies.clamp(min=torch.finfo(torch.float32).eps).log()
        return ((logs - FBANK_MEAN) / (2 * FBANK_STD)).float()


class Now:
    """The features as `salmonn` computes them; a part alone pays for laying and copying the samples, too."""

    def __init__(self, extractor: WhisperFeatureExtractor, device: torch.device) -> None:
        self.front_end = FrontEnd(extractor, patch_frames=PATCH_FRAMES)
        self.device = device

    def mel(self, waves: Batch) -> list[Tensor]:
        """Whisper's log-mel."""
        return [self.front_end.log_mel(self._strip(waves))]

    def fbank(self, waves: Batch) -> list[Tensor]:
        """Kaldi's filter bank."""
        return [self.front_end.fbank(self._strip(waves))]

    def both(self, waves: Batch) -> list[Tensor]:
        """All that the encoders need."""
        features = self.front_end(waves, self.device)
        return [features.mel, features.fbank]

    def _strip(self, waves: Batch) -> WaveStrip:
        return self.front_end.lay(waves, pinned=self.device.type == "cuda").to(self.device)


def main() -> None:
    """Measure every part with every batch size and print a row for each."""
    options = parse_options()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU is here that PyTorch can use: nothing was measured")
    clips = draw_clips(4 if options.quick else options.clips, median=options.median_seconds)
    sizes = (1, 4) if options.quick else (1, 8, 32)
    repeats = 1 if options.quick else options.repeats
    describe(clips, device, repeats)
    extractor = WhisperFeatureExtractor(feature_size=options.mel_bins)
    before, now = Before(extractor, device), Now(extractor, device)
    print("| features | batch | before, CPU s | now, CPU s | times as fast, CPU | wall | largest difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for part, name in (("mel", "log-mel"), ("fbank", "filter bank"), ("both", "both")):
        for size in sizes:
            batches = [clips[start : start + size] for start in range(0, len(clips), size)]
            print(row(f"{name} | {size}", getattr(before, part), getattr(now, part), batches, repeats, device))
    print(f"\nload average {os.getloadavg()[0]:.1f}")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="4 clips, one repeat")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--median-seconds", type=float, default=6.4, help="of the clips; none is longer than 30")
    parser.add_argument("--mel-bins", type=int, default=80, choices=(80, 128))
    return parser.parse_args()


def draw_clips(number: int, *, median: float) -> Batch:
    """Noise as long as speech is."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(median), 0.6, size=number), 1.3, 30.0)
    return [(0.1 * rng.standard_normal(round(s * SAMPLING_RATE))).astype(np.float32) for s in lengths]


def describe(clips: Batch, device: torch.device, repeats: int) -> None:
    """Say what is measured on what."""
    seconds = [clip.size / SAMPLING_RATE for clip in clips]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, load average "
        f"{os.getloadavg()[0]:.1f}; {len(clips)} clips of {min(seconds):.1f} to {max(seconds):.1f} s, "
        f"{statistics.mean(seconds):.1f} s on average; {repeats} repeats, median (range)\n"
    )


def row(name: str, before: Way, now: Way, batches: list[Batch], repeats: int, device: torch.device) -> str:
    """Measure one part with one batch size in both ways, in turn."""
    # The comparison warms both up.
    apart = max(difference(before(batch), now(batch)) for batch in batches)
    old, new = [], []
    for _ in range(repeats):
        for way, times in ((before, old), (now, new), (now, new), (before, old)):
            times.append(run_pass(way, batches, device))
    cpu = [one.cpu / other.cpu for one, other in zip(old, new, strict=True)]
    wall = [one.wall / other.wall for one, other in zip(old, new, strict=True)]
    seconds = [spread([run.cpu for run in runs], digits=3) for runs in (old, new)]
    return f"| {name} | {seconds[0]} | {seconds[1]} | {spread(cpu)} | {spread(wall)} | {apart:.1e} |"


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest distance of any number of two lists of equal shapes.

    Raises:
        SystemExit: the shapes differ.
    """
    if [tensor.shape for tensor in one] != [tensor.shape for tensor in other]:
        raise SystemExit("both ways give other shapes: their times cannot be compared")
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def run_pass(way: Way, batches: list[Batch], device: torch.device) -> Seconds:
    """One pass over all clips."""
    with_device = device.type == "cuda"
    if with_device:
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        way(batch)
    if with_device:
        torch.cuda.synchronize(device)
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def spread(values: list[float], *, digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
