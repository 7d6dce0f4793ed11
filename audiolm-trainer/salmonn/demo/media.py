"""Recordings in the containers of phones and browsers (m4a, mp4, webm), read through PyAV where it is installed.

In: an uploaded file. Out: a WAV file beside it, or the file itself where it is not such a container.
"""

import importlib.util
from pathlib import Path

import numpy as np
import soundfile

from salmonn.errors import AudioError

SUFFIXES = (".m4a", ".mp4", ".aac", ".webm")


def media_is_read() -> bool:
    """Whether PyAV is installed (the extra `media`)."""
    return importlib.util.find_spec("av") is not None


def as_wav(path: Path, *, longest: float) -> Path:
    """Write the first channel of a container's sound as a WAV file beside it, float32 at its own rate.

    Args:
        path: the file; one of another suffix is returned as it is, and so are all where PyAV is not installed.
        longest: seconds that are read at most, and one more, so that a longer file is still seen to be longer.

    Raises:
        AudioError: it cannot be read, or has no sound.
    """
    if path.suffix.lower() not in SUFFIXES or not media_is_read():
        return path
    import av

    target = path.with_name(f"{path.name}.wav")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"audio file {path.name!r} holds no sound")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=stream.layout)
            left = round((longest + 1) * stream.rate)
            with soundfile.SoundFile(target, "w", stream.rate, 1, "FLOAT", format="WAV") as wav:
                for frame in container.decode(stream):
                    for plain in resampler.resample(frame):
                        wav.write(np.asarray(plain.to_ndarray()[0][: max(left, 0)], dtype=np.float32))
                        left -= plain.samples
                    if left <= 0:
                        break
    except (av.FFmpegError, soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(f"audio file {path.name!r} cannot be read: {error}") from error
    return target
