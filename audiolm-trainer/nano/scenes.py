"""Sound scenes: one event, one after another, or one over another, and speech in a room with noise.

Sounds and random generators go in; waveforms with the true events and where they are come out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano.sounds import GENERATORS, RATE, make_sound

BACKGROUNDS = ("rain", "wind", "waves", "engine")
FOREGROUNDS = tuple(label for label in (*GENERATORS, "speech") if label not in BACKGROUNDS)
LABELS = (*GENERATORS, "speech")
Wave = NDArray[np.float32]
Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Scene:
    """What is heard: the waveform [N] at 16 kHz, how the events relate, and each event with start and end (s)."""

    wave: Wave
    relation: str
    events: tuple[str, ...]
    spans: tuple[tuple[float, float], ...]


def draw_events(rng: Generator, relation: str) -> tuple[str, ...]:
    """Draw the classes of a scene; two different ones for "then" and "over"."""
    if relation == "single":
        return (str(rng.choice(LABELS)),)
    if relation == "over":
        return (str(rng.choice(FOREGROUNDS)), str(rng.choice(BACKGROUNDS)))
    first, second = rng.choice(LABELS, 2, replace=False)
    return (str(first), str(second))


def event_seconds(rng: Generator, relation: str) -> tuple[float, ...]:
    """Draw how long each event lasts."""
    if relation == "single":
        return (float(rng.uniform(3.0, 6.0)),)
    if relation == "then":
        return (float(rng.uniform(2.0, 3.5)), float(rng.uniform(2.0, 3.5)))
    length = float(rng.uniform(3.5, 6.0))
    return (length, length)


def make_scene(relation: str, events: tuple[str, ...], rng: Generator, speech: Wave | None = None) -> Scene:
    """Put the events together.

    Args:
        relation: "single", "then" or "over".
        events: Its classes; see `draw_events`.
        rng: Source of chance.
        speech: Speech [N] at 16 kHz, at least 6 s long, where "speech" is among the events.

    Raises:
        ValueError: "speech" is among the events and no speech is given.
    """
    parts = []
    for label, seconds in zip(events, event_seconds(rng, relation), strict=True):
        if label != "speech":
            parts.append(make_sound(label, seconds, rng))
        elif speech is None:
            raise ValueError("a scene with speech needs a waveform of speech")
        else:
            parts.append((speech / np.abs(speech).max())[: int(seconds * RATE)].astype(np.float32))
    if relation == "over":
        count = min(len(part) for part in parts)
        ratio = rms(parts[0][:count]) / (rms(parts[1][:count]) * 10 ** (rng.uniform(0, 8) / 20))
        wave = parts[0][:count] + ratio * parts[1][:count]
        spans = ((0.0, count / RATE),) * 2
    else:
        gap = np.zeros(int(rng.uniform(0, 0.3) * RATE) if len(parts) == 2 else 0, np.float32)
        levels = [10 ** (rng.uniform(-6, 0) / 20) for _ in parts]
        pieces = [level * part for level, part in zip(levels, parts, strict=True)]
        wave = np.concatenate([pieces[0], gap, *pieces[1:]])
        edge = len(parts[0]) / RATE
        spans = ((0.0, edge), (edge + len(gap) / RATE, len(wave) / RATE))[: len(parts)]
    return Scene(_finish(wave, rng, (-15, -1), (-75, -50)), relation, events, spans)


def place_speech(wave: Wave, rng: Generator) -> tuple[Wave, float]:
    """Put an utterance into a quiet or noisy room.

    Returns:
        The waveform [N] and the seconds of silence that were put before the utterance.
    """
    lead, tail = rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.3)
    padded = np.concatenate([np.zeros(int(lead * RATE)), wave, np.zeros(int(tail * RATE))])
    if rng.random() < 0.6:
        noise = rng.standard_normal(len(padded))
        if rng.random() < 0.5:
            spectrum = np.fft.rfft(noise)
            frequency = np.fft.rfftfreq(len(padded), 1 / RATE)
            noise = np.fft.irfft(spectrum / np.maximum(1, frequency / 300), len(padded))
        snr = rng.uniform(12, 35)
        padded = padded + noise * rms(wave) / (rms(noise) * 10 ** (snr / 20))
    return _finish(padded, rng, (-15, -1), (-75, -60)), int(lead * RATE) / RATE


def rms(wave: NDArray[np.floating]) -> float:
    """Return the root mean square of a waveform, never zero."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))) + 1e-9)


def _finish(wave: NDArray[np.floating], rng: Generator, peak: tuple[int, int], floor: tuple[int, int]) -> Wave:
    """Set the peak level and add a noise floor (both drawn, dB of full scale); round to 16 bits as a file would."""
    wave = wave / (np.abs(wave).max() + 1e-9) * 10 ** (rng.uniform(*peak) / 20)
    wave = wave + rng.standard_normal(len(wave)) * 10 ** (rng.uniform(*floor) / 20)
    return (np.round(np.clip(wave, -1, 32767 / 32768) * 32768) / 32768).astype(np.float32)
