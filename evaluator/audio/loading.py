"""Audio files: waveforms as the original computes them, and what a header tells without decoding.

In: files that libsndfile reads (WAV, FLAC, OGG, Opus, MP3, ...), one for a clip or several that are joined. Out:
float32 [N] at the model's rate: the first channel, zeros up to one second at the file's own rate, soxr HQ, at most
30 s. A file that cannot be used is an AudioError that names it; no other audio ever takes its place.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from evaluator.audio.clip import Clip, Stamp
from evaluator.audio.reading import (
    MAX_SECONDS,
    READ_SECONDS,
    WHOLE,
    Beginning,
    Span,
    UnusableAudioError,
    read_beginning,
    read_facts,
    waveform,
)
from evaluator.audio.regular_file import reason
from evaluator.audio.source import opened
from evaluator.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# Waveforms that are loaded and not yet asked for: 279 clips of 30 s at 16 kHz.
AHEAD_BYTES = 512 << 20
_SAMPLE_BYTES = 4

# To give a clip to a thread and take it back costs the processors about a quarter of a millisecond.
_QUICK_SECONDS = 0.0003
_PROBED_EVERY = 64
_PROBES = 3

# What is read for a digest: the whole of a clip of 30 s at 16 kHz and 16 bits, as much of a longer one.
_DIGESTED_BYTES = 1 << 20
_STRETCH_BYTES = 1 << 16
_DIGEST_DIGITS = 32

# Ends are often written in hundredths of a second, or rounded up to the frame of a coder.
_ROUNDED_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What a header says.

    Attributes:
        seconds: length; infinite where the header does not say and it is above the limit.
        warning: what is odd about the file, as a clause to put after its name; None if nothing is.
        stamp: what the file looks like from outside.
        digest: tells its content from another's: half the SHA-256 of its size and bytes, or of 16 stretches of them, 64
            KiB each, where it has more than 1 MiB; of a part of a file, half the SHA-256 of that and its times.
    """

    seconds: float
    warning: str | None
    stamp: Stamp
    digest: str


def check_audio(path: Path) -> AudioFacts:
    """Read a file's headers; a stream whose header does not know its length is decoded up to 31 s.

    Args:
        path: a file, or what else evaluator/audio/source.py lets a path name.

    Raises:
        AudioError: it is missing, no regular file, no audio, empty, or of a rate or channel count out of
            bounds; or the file ends before the part that is meant does.
    """
    try:
        with opened(path) as source:
            span = source.span
            until = span.start + READ_SECONDS if span.end == math.inf else max(span.end, READ_SECONDS)
            facts = read_facts(source.file, source.suffix, until)
            seconds = _seconds_within(span, facts.seconds)
            stamp = source.stamp
            digest = _digest_of_span(_digest(source.file, source.file.seek(0, os.SEEK_END)), span)
    except UnusableAudioError as error:
        raise _failed(path, str(error)) from error
    except OSError as error:
        raise _failed(path, reason(error)) from error
    return AudioFacts(
        seconds=seconds,
        warning=facts.warning,
        stamp=stamp,
        digest=digest,
    )


def load_audio(clip: Path | Clip, sampling_rate: int) -> NDArray[np.float32]:
    """Read a file, or several that are heard as one, as the model hears it.

    Args:
        clip: the file or files.
        sampling_rate: the rate wanted, in Hz.

    Returns:
        float32 [N], N from `sampling_rate` (one second) to 30 x `sampling_rate`: the first channel.

    Raises:
        AudioError: as `check_audio`; also if decoding fails, samples are not finite, or a file is not the one that was
            checked any more.

    Example:
        2.3 s at 8 kHz (18400 frames), wanted at 16 kHz -> 36800 samples. 0.4 s -> one second, the rest
        silence.
    """
    if isinstance(clip, Path):
        clip = Clip((clip,))
    stamps = clip.stamps or (None,) * len(clip.files)
    return waveform([_read(path, stamp) for path, stamp in zip(clip.files, stamps, strict=True)], sampling_rate)


def _read(path: Path, expected: Stamp | None) -> Beginning:
    try:
        with opened(path) as source:
            if expected is not None and source.stamp != expected:
                raise _failed(path, "was replaced or changed after it had been checked, when the run began")
            beginning = read_beginning(source.file, source.suffix, source.span)
    except UnusableAudioError as error:
        raise _failed(path, str(error)) from error
    except OSError as error:
        raise _failed(path, reason(error)) from error
    for warning in beginning.warnings:
        logger.warning("%r %s", str(path), warning)
    return beginning


def _seconds_within(span: Span, seconds: float) -> float:
    """The length of a part of a file that is so long.

    Raises:
        UnusableAudioError: the part ends behind it by more than rounding.
    """
    if span == WHOLE:
        return seconds
    if seconds <= span.start or (span.end != math.inf and seconds < span.end - _ROUNDED_SECONDS):
        raise UnusableAudioError(f"is not all there: the file ends at {seconds:.6g} s")
    return min(seconds, span.end) - span.start


def _digest_of_span(digest: str, span: Span) -> str:
    if span == WHOLE:
        return digest
    return hashlib.sha256(f"{digest}+{span.start!r}+{span.end!r}".encode()).hexdigest()[:_DIGEST_DIGITS]


def _digest(file: BinaryIO, size: int) -> str:
    found = hashlib.sha256(str(size).encode())
    stretches = 1 if size <= _DIGESTED_BYTES else _DIGESTED_BYTES // _STRETCH_BYTES
    for number in range(stretches):
        file.seek(number * (size - _STRETCH_BYTES) // (stretches - 1) if number else 0)
        found.update(file.read(_DIGESTED_BYTES if stretches == 1 else _STRETCH_BYTES))
    return found.hexdigest()[:_DIGEST_DIGITS]


def read_ahead(
    clips: Iterable[Path | Clip], sampling_rate: int, workers: int, *, wanted: Callable[[], int] = lambda: 0
) -> Generator[NDArray[np.float32] | AudioError]:
    """Load files in threads while earlier ones are used; those that load at once, when they are asked for.

    Args:
        clips: the files, or files that are joined; taken as they are read.
        sampling_rate: the rate wanted, in Hz.
        workers: threads. 0 loads each clip when it is asked for.
        wanted: asked again and again how many clips to load ahead of use; at least twice as many as there are threads
            are, and at most as many as fit into `AHEAD_BYTES`, however long they are.

    Yields:
        For each clip, in order, its waveform as of `load_audio`, or the AudioError in its place.
    """
    if workers <= 0:
        for clip in clips:
            yield _load_or_error(clip, sampling_rate)
        return
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="audio")
    waiting: deque[Future[NDArray[np.float32] | AudioError]] = deque()
    most = AHEAD_BYTES // (MAX_SECONDS * sampling_rate * _SAMPLE_BYTES)
    # How long the last clips took that were loaded here.
    took: deque[float] = deque(maxlen=_PROBES)
    try:
        for number, clip in enumerate(clips):
            is_quick = len(took) == _PROBES and sorted(took)[_PROBES // 2] < _QUICK_SECONDS
            if is_quick or number <= _PROBES or number % _PROBED_EVERY == 0:
                begin = time.perf_counter()
                loaded = _load_or_error(clip, sampling_rate)
                # The first one also waits for libraries to be imported.
                if number:
                    took.append(time.perf_counter() - begin)
                if not waiting:
                    yield loaded
                    continue
                waiting.append(Future())
                waiting[-1].set_result(loaded)
            else:
                waiting.append(pool.submit(_load_or_error, clip, sampling_rate))
            # Of quick clips none is held: those that threads have begun before come first.
            while len(waiting) >= (1 if is_quick else max(2 * workers, min(wanted(), most))):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _load_or_error(clip: Path | Clip, sampling_rate: int) -> NDArray[np.float32] | AudioError:
    try:
        return load_audio(clip, sampling_rate)
    except AudioError as error:
        return error


def _failed(path: Path, clause: str) -> AudioError:
    return AudioError(f"{str(path)!r} {clause}.")
