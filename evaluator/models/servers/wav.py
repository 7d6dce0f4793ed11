"""A clip as the bytes of a WAV file, which every server reads.

In: float32 [N] at a sampling rate. Out: 16 bits, mono; a clip that came from a file of 16 bits has its samples again.
"""

import io
import wave

import numpy as np
from numpy.typing import NDArray


def wav_bytes(audio: NDArray[np.float32], rate: int) -> bytes:
    """Write a clip: float32 [N] in -1 to 1 -> a RIFF file; what is louder is clipped.

    Args:
        audio: the samples.
        rate: in Hz.
    """
    samples = np.clip(np.rint(audio.astype(np.float64) * 32768), -32768, 32767).astype("<i2")
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return held.getvalue()
