"""Audio files: waveforms as the original computes them, and what a header tells without decoding.

In: a file that libsndfile reads (WAV, FLAC, OGG, Opus, MP3, ...). Out: float32 [N] at the model's rate: the
first channel, zeros up to one second at the file's own rate, soxr HQ, at most 30 s. A file that cannot be
used is an AudioError that names it; no other audio ever takes its place.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import math
import os
import re
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.errors import AudioError
from evaluator.regular_file import open_regular, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MAX_SECONDS = 30
MIN_SECONDS = 1
# The resampler looks ahead: with one second more than is kept, what is kept is as of the whole file.
_READ_SECONDS = MAX_SECONDS + 1

# Waveforms that are loaded and not yet asked for: 279 clips of 30 s at 16 kHz.
AHEAD_BYTES = 512 << 20
_SAMPLE_BYTES = 4

MIN_SAMPLING_RATE = 4_000
MAX_SAMPLING_RATE = 384_000
MAX_CHANNELS = 32
_BLOCK_FRAMES = 1 << 16
_LOUDEST = 1e4
# Streams without an end mark claim 2**63 - 1 frames; a year of audio is a claim of that kind.
_UNBELIEVABLE_SECONDS = 366 * 24 * 3600

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the audio itself; run `git lfs pull`"),
    (b"\x1f\x8b", "is gzip-compressed; unpack it"),
    (b"PK\x03\x04", "is a zip archive; unpack it"),
    (b"\x89PNG", "is a PNG picture, not audio"),
    (b"\xff\xd8\xff", "is a JPEG picture, not audio"),
    (b"%PDF", "is a PDF document, not audio"),
    (b"\x1a\x45\xdf\xa3", "is a WebM or Matroska file, which is not supported; convert it to FLAC"),
    (b"\x30\x26\xb2\x75", "is a WMA file, which is not supported; convert it to FLAC"),
)


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What a header says.

    Attributes:
        seconds: length; infinite where the header does not say and it is above the limit.
        sampling_rate: in Hz.
        channels: how many; the first one is used.
        longer_than_limit: whether the end will be cut off.
        warning: what is odd about the file, as a clause to put after its name; None if nothing is.
    """

    seconds: float
    sampling_rate: int
    channels: int
    longer_than_limit: bool
    warning: str | None


def check_audio(path: Path) -> AudioFacts:
    """Read a file's header; a stream whose header does not know its length is decoded up to 31 s.

    Raises:
        AudioError: it is missing, no regular file, no audio, empty, or of a rate or channel count out of
            bounds.
    """
    with _opened(path) as (sound, head):
        seconds = sound.frames / sound.samplerate
        if seconds > _UNBELIEVABLE_SECONDS:
            frames = len(_read_first_channel(sound, path))
            seconds = frames / sound.samplerate if frames < _READ_SECONDS * sound.samplerate else math.inf
        return AudioFacts(
            seconds=seconds,
            sampling_rate=sound.samplerate,
            channels=sound.channels,
            longer_than_limit=seconds > MAX_SECONDS,
            warning=_truncation(head, path.stat().st_size),
        )


def load_audio(path: Path, sampling_rate: int) -> NDArray[np.float32]:
    """Read a file as the model hears it.

    Args:
        path: the file.
        sampling_rate: the rate wanted, in Hz.

    Returns:
        float32 [N], N from `sampling_rate` (one second) to 30 x `sampling_rate`: the first channel.

    Raises:
        AudioError: as `check_audio`; also if decoding fails, or samples are not finite.

    Example:
        2.3 s at 8 kHz (18400 frames), wanted at 16 kHz -> 36800 samples. 0.4 s -> one second, the rest
        silence.
    """
    import numpy as np

    with _opened(path) as (sound, _):
        rate: int = sound.samplerate
        wave = _read_first_channel(sound, path)
    if not np.isfinite(wave).all():
        raise _failed(path, "holds samples that are not numbers (NaN or infinite)")
    if np.abs(wave).max() > _LOUDEST:
        logger.warning("%s: samples are beyond +-%g, where +-1 is full scale", path, _LOUDEST)
    if len(wave) < MIN_SECONDS * rate:
        wave = np.pad(wave, (0, MIN_SECONDS * rate - len(wave)))
    return _resampled(wave, rate, sampling_rate)[: MAX_SECONDS * sampling_rate]


def read_ahead(
    paths: Sequence[Path], sampling_rate: int, workers: int, *, wanted: Callable[[], int] = lambda: 0
) -> Iterator[NDArray[np.float32] | AudioError]:
    """Load files in threads while earlier ones are used.

    Args:
        paths: the files.
        sampling_rate: the rate wanted, in Hz.
        workers: threads. 0 loads each clip when it is asked for.
        wanted: asked again and again how many clips to load ahead of use; at least twice as many as there are threads
            are, and at most as many as fit into `AHEAD_BYTES`, however long they are.

    Yields:
        For each path, in order, its waveform as of `load_audio`, or the AudioError in its place.
    """
    if workers <= 0:
        for path in paths:
            yield _load_or_error(path, sampling_rate)
        return
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="audio")
    waiting: deque[Future[NDArray[np.float32] | AudioError]] = deque()
    most = AHEAD_BYTES // (MAX_SECONDS * sampling_rate * _SAMPLE_BYTES)
    try:
        for path in paths:
            waiting.append(pool.submit(_load_or_error, path, sampling_rate))
            if len(waiting) >= max(2 * workers, min(wanted(), most)):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _load_or_error(path: Path, sampling_rate: int) -> NDArray[np.float32] | AudioError:
    try:
        return load_audio(path, sampling_rate)
    except AudioError as error:
        return error


def _failed(path: Path, clause: str) -> AudioError:
    return AudioError(f"{str(path)!r} {clause}.")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, bytes]]:
    """A soundfile.SoundFile whose header is within bounds, and the first bytes of the file."""
    import soundfile

    try:
        file = open_regular(path)
    except OSError as error:
        raise _failed(path, reason(error)) from error
    with file:
        head = file.read(512)
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # the buffer's own seek would leave the descriptor where it is
        problem = _known_problem(head)
        if problem:
            raise _failed(path, problem)
        try:
            # A descriptor, not a name: names that are not UTF-8 cannot be handed on, and ".raw" would be
            # guessed at.
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                _check_header(sound, path)
                yield sound, head
        except soundfile.LibsndfileError as error:
            raise _failed(path, _described(error, head)) from error
        except OSError as error:
            raise _failed(path, reason(error)) from error


def _known_problem(head: bytes) -> str | None:
    if not head:
        return "is an empty file"
    for signature, clause in _SIGNATURES:
        if head.startswith(signature):
            return clause
    if head[4:8] == b"ftyp":
        return "is an MP4 or M4A file, which is not supported; convert it to FLAC"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "is a web page, not audio: probably what a failed download left"
    return None


def _described(error: Exception, head: bytes) -> str:
    text = str(getattr(error, "error_string", error)).rstrip(".")
    if "psf_fseek" in text:  # what libsndfile says at the end of a FLAC stream that states no length
        return "states a wrong length, or none; encode it once more, for example `ffmpeg -i old.flac new.flac`"
    if "ormat not recognised" not in text:
        return f"cannot be decoded: {text}"
    with contextlib.suppress(UnicodeDecodeError):
        # Incremental, because the head may end inside a character.
        text_head = codecs.getincrementaldecoder("utf-8")().decode(head)
        if not re.search(r"[\x00-\x08\x0e-\x1f]", text_head):
            return "is text, not audio"
    return "is not audio in a format that can be read (WAV, FLAC, OGG, Opus, MP3, ...)"


def _check_header(sound: Any, path: Path) -> None:
    if not MIN_SAMPLING_RATE <= sound.samplerate <= MAX_SAMPLING_RATE:
        limits = f"{MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz"
        raise _failed(path, f"has a sampling rate of {sound.samplerate} Hz; {limits} can be read")
    if not 1 <= sound.channels <= MAX_CHANNELS:
        raise _failed(path, f"has {sound.channels} channels; 1 to {MAX_CHANNELS} can be read")
    if sound.frames == 0:
        raise _failed(path, "holds no samples (a recording that was not closed has a header like this)")


def _truncation(head: bytes, size: int) -> str | None:
    """Compare the size a RIFF header states with the file's: libsndfile says nothing of a difference."""
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    stated = int(struct.unpack("<I", head[4:8])[0]) + 8
    unknown = stated in (8, 0xFFFFFFFF + 8)  # written by a stream that could not go back to fill it in
    if unknown or stated <= size + 1:  # some writers count the padding byte of an odd size and leave it out
        return None
    return f"is cut off: its header states {stated} bytes, the file has {size}"


def _read_first_channel(sound: Any, path: Path) -> NDArray[np.float32]:
    """Channel 0 of at most 31 s, read in blocks: what a header claims is never allocated."""
    import numpy as np

    limit = _READ_SECONDS * int(sound.samplerate)
    blocks: list[NDArray[np.float32]] = []
    frames = 0
    while frames < limit:
        block = sound.read(min(_BLOCK_FRAMES, limit - frames), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block[:, 0].copy())
        frames += len(block)
    if frames == 0:
        raise _failed(path, "holds no samples that can be decoded")
    if frames < min(limit, sound.frames) and sound.frames / sound.samplerate <= _UNBELIEVABLE_SECONDS:
        logger.warning("%s: ends after %d of the %d samples its header states", path, frames, sound.frames)
    return np.concatenate(blocks)


def _resampled(wave: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """soxr HQ, then zeros up to the length that librosa gives: soxr alone is sometimes one sample short."""
    import numpy as np

    if rate == target:
        return wave
    import soxr

    # In floating point as librosa does, which can round up where exact arithmetic would not.
    length = math.ceil(len(wave) * (float(target) / rate))
    resampled = np.asarray(soxr.resample(wave, rate, target, quality="HQ"), dtype=np.float32)[:length]
    return np.pad(resampled, (0, length - len(resampled)))
