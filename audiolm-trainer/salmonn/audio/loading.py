"""The waveform rules of SALMONN: which samples of a file the encoders see.

A file path, or a file's bytes, goes in; float32 mono at the model's rate comes out, by the rules of the original:
first channel, zeros up to one second at the file's own rate, resampled with soxr HQ, cut at 30 s. Reads regular files
only and never substitutes one clip for another.
"""

import logging
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
    Beginning,
    Facts,
    UnusableAudioError,
    padded,
    read_beginning,
    read_facts,
    waveform,
)
from salmonn.audio.regular_file import open_regular, reason
from salmonn.errors import AudioError

__all__ = ["MAX_SECONDS", "MIN_SECONDS", "READ_SECONDS", "SAMPLING_RATE", "SILENCE_SECONDS"]
__all__ += ["audio_facts", "decode_audio", "load_audio", "pad_to_minimum"]

logger = logging.getLogger(__name__)

SAMPLING_RATE = 16_000


def load_audio(path: Path, sampling_rate: int = SAMPLING_RATE, *, further: Sequence[Path] = ()) -> NDArray[np.float32]:
    """Read one clip the way the original did.

    Args:
        path: an audio file that libsndfile reads (WAV, FLAC, OGG, Opus, MP3, ...).
        sampling_rate: Hz of the result.
        further: files that are joined to the first one, with 0.1 s of silence between them.

    Returns:
        float32 [N], `sampling_rate <= N <= 30 * sampling_rate`, first channel only.

    Raises:
        AudioError: a file is missing, not a regular file, not audio, empty, or has samples that are not finite.
    """
    return waveform([_read_file(each) for each in (path, *further)], sampling_rate)


def decode_audio(data: bytes, name: str, sampling_rate: int = SAMPLING_RATE) -> NDArray[np.float32]:
    """Read one clip from the bytes of its file; all else is as in `load_audio`.

    Args:
        data: the content of an audio file.
        name: the clip's, for messages; its ending helps where the content says nothing.
        sampling_rate: Hz of the result.

    Raises:
        AudioError: it is not audio, empty, or has samples that are not finite.
    """
    return waveform([_beginning(BytesIO(data), name)], sampling_rate)


def audio_facts(path: Path) -> Facts:
    """Read what a file's headers say; where they do not know its length, up to 31 s are decoded.

    Raises:
        AudioError: as `load_audio`, but for what only decoding shows.
    """
    try:
        with open_regular(path) as file:
            return read_facts(file, path.suffix)
    except UnusableAudioError as error:
        raise _failed(str(path), str(error)) from error
    except OSError as error:
        raise _failed(str(path), reason(error)) from error


def pad_to_minimum(samples: NDArray[np.float32], sampling_rate: int) -> NDArray[np.float32]:
    """Append zeros up to one second: [n] -> [max(n, sampling_rate)]."""
    return padded(samples, sampling_rate)


def _read_file(path: Path) -> Beginning:
    try:
        with open_regular(path) as file:
            return _beginning(file, str(path))
    except OSError as error:
        raise _failed(str(path), reason(error)) from error


def _beginning(file: BinaryIO, name: str) -> Beginning:
    try:
        beginning = read_beginning(file, Path(name).suffix)
    except UnusableAudioError as error:
        raise _failed(name, str(error)) from error
    for warning in beginning.warnings:
        logger.warning("audio file %r %s", name, warning)
    return beginning


def _failed(name: str, clause: str) -> AudioError:
    return AudioError(f"audio file {name!r} {clause}")
