"""Where a batch's frozen-encoder outputs come from: computed when they are needed, or kept in memory or on disk.

What could be read of each batch comes encoded and in order. On a CPU the frozen half of the model costs several times
the trained half: a small set is best encoded once and kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from salmonn.data.dataset import Samples
from salmonn.data.read_ahead import stream_waves
from salmonn.data.unreadable import UnreadableClips
from salmonn.model.salmonn import SALMONN
from salmonn.training.encoded_batch import EncodedBatch, EncodedSource
from salmonn.training.feature_cache import fill_memory, open_on_disk

__all__ = ["EncodedBatch", "EncodedSource", "LiveEncoded", "build_source"]


class LiveEncoded:
    """Reads and encodes each batch when it is needed; the waveforms of the next ones are read ahead.

    Args:
        encoder: the model, of which the frozen half is used.
        samples: the set.
        workers: threads that read; 0 reads in the caller's.
        unreadable: where clips that cannot be read are noted.
    """

    def __init__(self, encoder: SALMONN, samples: Samples, *, workers: int, unreadable: UnreadableClips) -> None:
        self._encoder = encoder
        self._samples = samples
        self._workers = workers
        self._unreadable = unreadable

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[EncodedBatch]:
        """Yield what could be read of each batch, one for each, in order.

        Raises:
            AudioError: more clips cannot be read than allowed.
        """
        read = stream_waves(
            self._samples,
            batches,
            sampling_rate=self._encoder.sampling_rate,
            workers=self._workers,
            unreadable=self._unreadable,
        )
        for indices, waves in read:
            yield EncodedBatch(indices, self._encoder.encode(waves) if waves else None)


def build_source(
    encoder: SALMONN,
    samples: Samples,
    *,
    cache: bool | Literal["disk"],
    cache_dir: Path,
    workers: int,
    batch_size: int,
    unreadable: UnreadableClips,
    encoder_identity: str,
) -> EncodedSource:
    """Choose where a set's encoded clips come from.

    Args:
        encoder: the model, of which the frozen half is used.
        samples: the set.
        cache: False encodes every batch when it is needed, True keeps all clips in memory, "disk" under `cache_dir`.
        cache_dir: the cache's folder.
        workers: threads that read; 0 reads in the caller's.
        batch_size: clips that are encoded at once to fill a cache.
        unreadable: where clips that cannot be read are noted.
        encoder_identity: a digest of the encoders' weights; clips encoded by others are not used.

    Raises:
        AudioError: more clips cannot be read than allowed (while a cache is filled).
        DatasetError: the encoded clips do not fit on the disk.
    """
    live = LiveEncoded(encoder, samples, workers=workers, unreadable=unreadable)
    if cache is False:
        return live
    if cache is True:
        return fill_memory(live, samples, batch_size=batch_size)
    # A cache that is already there does not tell where the encoders are.
    silence = encoder.encode([np.zeros(encoder.sampling_rate, dtype=np.float32)])
    return open_on_disk(
        live,
        samples,
        folder=cache_dir / "features",
        batch_size=batch_size,
        unreadable=unreadable,
        encoder_identity=encoder_identity,
        device=silence.whisper.device,
    )
