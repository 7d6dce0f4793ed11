"""Where a batch's frozen-encoder outputs come from: computed when they are needed, or kept in memory.

In go samples and batches of their indices; out comes the `Encoded` of each batch, in order. On a CPU the
frozen half of the model costs several times the trained half: a small set is best encoded once and kept.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from salmonn.dataset import Sample, in_order, stream_waves
from salmonn.speech_encoder import Encoded

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """The frozen half of the model."""

    sampling_rate: int

    def encode(self, waves: Sequence[NDArray[np.float32]]) -> Encoded:
        """Run the frozen encoders on B waveforms, float32 [N] each."""
        ...


class EncodedSource(Protocol):
    """Gives the encoded clips of batches."""

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[tuple[list[int], Encoded]]:
        """Yield each batch's indices and its Encoded, in order."""
        ...


class LiveEncoded:
    """Reads and encodes each batch when it is needed; the waveforms of the next ones are read ahead."""

    def __init__(self, encoder: Encoder, samples: Sequence[Sample], *, workers: int) -> None:
        self._encoder = encoder
        self._samples = samples
        self._workers = workers

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[tuple[list[int], Encoded]]:
        """Yield each batch's indices and its Encoded, in order.

        Raises:
            AudioError: a clip cannot be read.
        """
        rate = self._encoder.sampling_rate
        for indices, waves in stream_waves(self._samples, batches, sampling_rate=rate, workers=self._workers):
            yield indices, self._encoder.encode(waves)


class CachedEncoded:
    """Every clip's encoder outputs in memory as float16; build one with `fill`.

    Args:
        whisper: float16 [samples, T, Dw].
        beats: for each sample float16 [its tokens, Db].
        device: where batches are wanted.
    """

    def __init__(self, whisper: Tensor, beats: Sequence[Tensor], *, device: torch.device) -> None:
        self._whisper = whisper
        self._beats = beats
        self._device = device

    @classmethod
    def fill(cls, source: EncodedSource, *, num_samples: int, batch_size: int) -> "CachedEncoded":
        """Encode every sample once.

        Raises:
            AudioError: a clip cannot be read.
        """
        whisper = torch.empty(0)
        beats: list[Tensor] = []
        device = torch.device("cpu")
        for number, (indices, encoded) in enumerate(source.stream(in_order(num_samples, batch_size))):
            if number == 0:
                device = encoded.whisper.device
                whisper = torch.empty((num_samples, *encoded.whisper.shape[1:]), dtype=torch.float16)
                gigabytes = 1e-9 * whisper.numel() * whisper.element_size()
                logger.info("keeping encoded audio in memory: %.2f GB for Whisper, less for BEATs", gigabytes)
            whisper[indices[0] : indices[-1] + 1] = encoded.whisper
            lengths = encoded.beats_tokens.tolist()
            beats += [
                tokens[:length].to("cpu", torch.float16, copy=True)
                for tokens, length in zip(encoded.beats, lengths, strict=True)
            ]
            if number % 20 == 0:
                logger.info("encoded %d of %d clips", len(beats), num_samples)
        return cls(whisper, beats, device=device)

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[tuple[list[int], Encoded]]:
        """Yield each batch's indices and its Encoded, in order."""
        for indices in batches:
            chosen = [self._beats[index] for index in indices]
            yield (
                list(indices),
                Encoded(
                    whisper=self._whisper[torch.as_tensor(indices)].to(self._device),
                    beats=pad_sequence(chosen, batch_first=True).to(self._device),
                    beats_tokens=torch.tensor([tokens.shape[0] for tokens in chosen]),
                ),
            )
