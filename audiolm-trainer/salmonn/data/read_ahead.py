"""Waveforms of batches, read ahead in threads.

The waveforms that could be read come in order. A clip that cannot be read is noted and missing from its batch; no other
clip takes its place.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from salmonn.data.dataset import Samples
from salmonn.data.unreadable import UnreadableClips
from salmonn.errors import AudioError

BATCHES_AHEAD = 2

Wave = NDArray[np.float32]


class Waves(NamedTuple):
    """What could be read of a batch.

    Attributes:
        indices: places of the readable samples, in the batch's order.
        waves: their waveforms, float32 [N] each.
    """

    indices: list[int]
    waves: list[Wave]


def stream_waves(
    samples: Samples,
    batches: Iterable[Sequence[int]],
    *,
    sampling_rate: int,
    workers: int,
    unreadable: UnreadableClips,
) -> Iterator[Waves]:
    """Read the clips of each batch, the next batches ahead in threads.

    Args:
        samples: all samples.
        batches: places of each batch's samples, pulled BATCHES_AHEAD ahead; empty ones are allowed.
        sampling_rate: Hz of the waveforms.
        workers: threads; 0 reads in the caller's thread.
        unreadable: where clips that cannot be read are noted.

    Yields:
        One for each batch, in order.

    Raises:
        AudioError: more clips cannot be read than `unreadable` allows.
    """
    if workers == 0:
        for indices in batches:
            clips = [_outcome(samples, index, sampling_rate) for index in indices]
            yield _readable(samples, indices, clips, unreadable)
        return
    waiting: deque[tuple[list[int], list[Future[Wave | AudioError]]]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="audio")
    try:
        for indices in batches:
            futures = [executor.submit(_outcome, samples, index, sampling_rate) for index in indices]
            waiting.append((list(indices), futures))
            if len(waiting) > BATCHES_AHEAD:
                yield _finished(samples, *waiting.popleft(), unreadable)
        while waiting:
            yield _finished(samples, *waiting.popleft(), unreadable)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _finished(
    samples: Samples, indices: list[int], futures: list[Future[Wave | AudioError]], unreadable: UnreadableClips
) -> Waves:
    return _readable(samples, indices, [future.result() for future in futures], unreadable)


def _outcome(samples: Samples, index: int, sampling_rate: int) -> Wave | AudioError:
    """Read a clip; only what is wrong with its audio is an outcome, everything else is an error as usual."""
    try:
        return samples.load_audio(index, sampling_rate)
    except AudioError as error:
        return error


def _readable(
    samples: Samples, indices: Sequence[int], clips: Sequence[Wave | AudioError], unreadable: UnreadableClips
) -> Waves:
    found = Waves([], [])
    for index, clip in zip(indices, clips, strict=True):
        if isinstance(clip, AudioError):
            unreadable.add(samples[index].name, str(clip))
        else:
            found.indices.append(index)
            found.waves.append(clip)
    return found
