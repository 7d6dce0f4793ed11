"""The waveform rules of SALMONN: which samples of a file the encoders see.

A file path, or a file's bytes, goes in; float32 mono at the model's rate comes out, by the rules of the original:
first channel, zeros up to one second at the file's own rate, resampled with soxr HQ, cut at 30 s. Reads regular files
only and never substitutes one clip for another.
"""

import os
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from salmonn.errors import AudioError

SAMPLING_RATE = 16_000
MIN_SECONDS = 1
MAX_SECONDS = 30
# The resampler's filter looks past the cut: with one second more, cutting afterwards equals resampling everything.
READ_SECONDS = MAX_SECONDS + 1


def load_audio(path: Path, sampling_rate: int = SAMPLING_RATE) -> NDArray[np.float32]:
    """Read one clip the way the original did.

    Args:
        path: an audio file that libsndfile reads (WAV, FLAC, OGG, Opus, MP3, ...).
        sampling_rate: Hz of the result.

    Returns:
        float32 [N], `sampling_rate <= N <= 30 * sampling_rate`, first channel only.

    Raises:
        AudioError: the file is missing, not a regular file, not audio, empty, or has samples that are not finite.
    """
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise AudioError(f"audio file {str(path)!r} {what}")
    return _decode(os.fsencode(path), str(path), sampling_rate)


def decode_audio(data: bytes, name: str, sampling_rate: int = SAMPLING_RATE) -> NDArray[np.float32]:
    """Read one clip from the bytes of its file; all else is as in `load_audio`.

    Args:
        data: the content of an audio file.
        name: the clip's, for messages.
        sampling_rate: Hz of the result.

    Raises:
        AudioError: it is not audio, empty, or has samples that are not finite.
    """
    return _decode(BytesIO(data), name, sampling_rate)


def _decode(source: bytes | BytesIO, name: str, sampling_rate: int) -> NDArray[np.float32]:
    try:
        with soundfile.SoundFile(source) as file:
            rate = int(file.samplerate)
            samples = file.read(READ_SECONDS * rate, dtype="float32", always_2d=True)[:, 0]
    except soundfile.LibsndfileError as error:
        raise AudioError(f"audio file {name!r} cannot be read: {error.error_string}") from error
    if samples.size == 0:
        raise AudioError(f"audio file {name!r} holds no samples")
    if not np.isfinite(samples).all():
        raise AudioError(f"audio file {name!r} holds samples that are not finite numbers")
    samples = pad_to_minimum(samples, rate)
    return resample(samples, rate, sampling_rate)[: MAX_SECONDS * sampling_rate]


def pad_to_minimum(samples: NDArray[np.float32], sampling_rate: int) -> NDArray[np.float32]:
    """Append zeros up to one second: [n] -> [max(n, sampling_rate)]."""
    return np.pad(samples, (0, max(0, MIN_SECONDS * sampling_rate - samples.size)))


def resample(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """Resample with soxr HQ to `ceil(n * target / rate)` samples, the length librosa gives (soxr may be one short)."""
    if rate == target:
        return samples
    result = soxr.resample(samples, rate, target, quality="HQ")
    length = ceil(samples.size * target / rate)
    return np.pad(result, (0, max(0, length - result.size)))[:length].astype(np.float32, copy=False)
