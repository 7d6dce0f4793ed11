"""A clip's spectrogram as a picture: time from left to right, frequency from below, loudness as colour.

In: samples. Out: a PNG in a data address, so that the page asks for nothing.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 640, 128
WINDOW = 512
RANGE_DB = 70.0
# Dark violet, blue, green, yellow: lighter is louder also for eyes that tell few colours apart, and in print.
COLOURS = np.array([(34, 14, 60), (56, 70, 132), (34, 140, 138), (126, 200, 90), (250, 230, 70)], dtype=np.float64)


def picture(audio: NDArray[np.float32]) -> str:
    """Draw a clip.

    Args:
        audio: float32 [N], mono.

    Returns:
        The address of a PNG of WIDTH x HEIGHT pixels, "data:image/png;base64,...".
    """
    levels = decibels(audio)
    share = np.clip(1 + (levels - levels.max()) / RANGE_DB, 0, 1)
    places = np.linspace(0, 1, len(COLOURS))
    pixels = np.stack([np.interp(share, places, COLOURS[:, channel]) for channel in range(3)], axis=-1)
    image = Image.fromarray(pixels[::-1].round().astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def decibels(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power of at most WIDTH frames, in dB: float64 [WINDOW / 2, frames], the lowest frequency first."""
    padded = np.pad(audio, (0, max(WINDOW - len(audio), 0)))
    starts = np.unique(np.linspace(0, len(padded) - WINDOW, min(WIDTH, 1 + (len(padded) - WINDOW) // 128)).astype(int))
    frames = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, : WINDOW // 2]) ** 2
    levels: NDArray[np.float64] = 10 * np.log10(power.T + 1e-9)
    return levels
