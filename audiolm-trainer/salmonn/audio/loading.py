"""The waveform rules of SALMONN: which samples of a file the encoders see.

A file path, or a file's bytes, goes in; float32 mono at the model's rate comes out, by the rules of the original:
first channel, zeros up to one second at the file's own rate, resampled with soxr HQ, cut at 30 s. Reads regular files
only and never substitutes one clip for another.
"""

import logging
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from salmonn.audio.reading import (
    MAX_SECONDS,
    MIN_SECONDS,
    READ_SECONDS,
    SILENCE_SECONDS,
    WHOLE,
    Beginning,
    Facts,
    Span,
    UnusableAudioError,
    padded,
    read_beginning,
    read_facts,
    waveform,
)
from salmonn.audio.regular_file import open_regular, reason
from salmonn.errors import AudioError

__all__ = ["MAX_SECONDS", "MIN_SECONDS", "READ_SECONDS", "SAMPLING_RATE", "SILENCE_SECONDS"]
__all__ += ["audio_facts", "decode_audio", "load_audio", "pad_to_minimum", "part_name", "seconds_within"]

logger = logging.getLogger(__name__)

SAMPLING_RATE = 16_000
ROUNDED_SECONDS = 0.05
"""Ends are often written in hundredths of a second, or rounded up to the frame of a coder."""


def load_audio(
    path: Path, sampling_rate: int = SAMPLING_RATE, *, further: Sequence[Path] = (), span: Span = WHOLE
) -> NDArray[np.float32]:
    """Read one clip the way the original did.

    Args:
        path: an audio file that libsndfile reads (WAV, FLAC, OGG, Opus, MP3, ...).
        sampling_rate: Hz of the result.
        further: files that are joined to the first one, with 0.1 s of silence between them.
        span: the part of the first file that is heard, as if it were a file of its own.

    Returns:
        float32 [N], `sampling_rate <= N <= 30 * sampling_rate`, first channel only.

    Raises:
        AudioError: a file is missing, not a regular file, not audio, empty, or has samples that are not finite; or it
            ends before the part does.
    """
    return waveform([_read_file(path, span), *(_read_file(each, WHOLE) for each in further)], sampling_rate)


def decode_audio(
    data: bytes, name: str, sampling_rate: int = SAMPLING_RATE, *, span: Span = WHOLE
) -> NDArray[np.float32]:
    """Read one clip from the bytes of its file; all else is as in `load_audio`.

    Args:
        data: the content of an audio file.
        name: the clip's, for messages; its ending helps where the content says nothing.
        sampling_rate: Hz of the result.
        span: the part of it that is heard.

    Raises:
        AudioError: it is not audio, empty, or has samples that are not finite; or it ends before the part does.
    """
    return waveform([_beginning(BytesIO(data), name, span)], sampling_rate)


def audio_facts(path: Path, span: Span = WHOLE) -> Facts:
    """Read what a file's headers say; where they do not know its length, as much is decoded as a part needs.

    Args:
        path: the file.
        span: the part of which it is to be known whether it is there.

    Raises:
        AudioError: as `load_audio`, but for what only decoding shows.
    """
    try:
        with open_regular(path) as file:
            until = span.start + READ_SECONDS if span.end == math.inf else max(span.end, READ_SECONDS)
            return read_facts(file, path.suffix, until)
    except UnusableAudioError as error:
        raise _failed(str(path), str(error)) from error
    except OSError as error:
        raise _failed(str(path), reason(error)) from error


def pad_to_minimum(samples: NDArray[np.float32], sampling_rate: int) -> NDArray[np.float32]:
    """Append zeros up to one second: [n] -> [max(n, sampling_rate)]."""
    return padded(samples, sampling_rate)


def part_name(span: Span) -> str:
    """How a part of a file is told after the file's name: " from 12.5 s to 16.25 s"; "" for all of it."""
    if span == WHOLE:
        return ""
    return f" from {span.start:g} s" + ("" if span.end == math.inf else f" to {span.end:g} s")


def seconds_within(span: Span, seconds: float, name: str) -> float:
    """The length of a part of a file that is so long.

    Raises:
        AudioError: the file ends before the part does, by more than rounding.
    """
    if span != WHOLE and (seconds <= span.start or (span.end != math.inf and seconds < span.end - ROUNDED_SECONDS)):
        raise _failed(f"{name}{part_name(span)}", f"is not all there: the file ends at {seconds:.6g} s")
    return min(seconds, span.end) - span.start


def _read_file(path: Path, span: Span) -> Beginning:
    try:
        with open_regular(path) as file:
            return _beginning(file, str(path), span)
    except OSError as error:
        raise _failed(str(path), reason(error)) from error


def _beginning(file: BinaryIO, name: str, span: Span) -> Beginning:
    try:
        beginning = read_beginning(file, Path(name).suffix, span)
    except UnusableAudioError as error:
        raise _failed(name, str(error)) from error
    heard = len(beginning.samples) / beginning.rate
    if heard < min(span.end - span.start, READ_SECONDS) and span.end != math.inf:
        seconds_within(span, span.start + heard, name)
    for warning in beginning.warnings:
        logger.warning("audio file %r %s", name, warning)
    return beginning


def _failed(name: str, clause: str) -> AudioError:
    return AudioError(f"audio file {name!r} {clause}")
