"""Fourteen kinds of sound made from noise and sines.

A random generator and a length go in; a float32 waveform at 16 kHz with a peak of 1 comes out. Within a class
pitch, speed, brightness and rhythm vary from clip to clip.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE = 16000
Wave = NDArray[np.float64]
Generator = np.random.Generator


def _band_noise(rng: Generator, count: int, low: float, high: float, slope: float = 0.0) -> Wave:
    """Noise between two frequencies; its amplitude falls with frequency to the power of `slope`."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    gain = ((frequency >= low) & (frequency <= high)) / np.maximum(frequency, 20.0) ** slope
    wave: Wave = np.fft.irfft(spectrum * gain, count)
    return wave / (np.abs(wave).max() + 1e-9)


def _slow(rng: Generator, count: int, rate: float) -> Wave:
    """A smooth random curve between 0 and 1 with about `rate` knots a second."""
    knots = max(2, int(count / RATE * rate) + 2)
    return np.interp(np.linspace(0, knots - 1, count), np.arange(knots), rng.uniform(0, 1, knots))


def _add(target: Wave, piece: Wave, start: float) -> None:
    first = int(start * RATE)
    piece = piece[: max(0, len(target) - first)]
    target[first : first + len(piece)] += piece


def _repeat(rng: Generator, count: int, gap: tuple[float, float], piece: Callable[[], Wave], jitter: float) -> Wave:
    """Place copies of a short sound at a gap drawn once, each shifted a little."""
    wave = np.zeros(count)
    step = rng.uniform(*gap)
    time = rng.uniform(0, min(0.3, step / 2))
    while time < count / RATE - 0.05:
        _add(wave, piece(), time)
        time += max(0.06, step * (1 + jitter * rng.uniform(-1, 1)))
    return wave


def _times(seconds: float) -> Wave:
    return np.arange(int(seconds * RATE)) / RATE


def _siren(rng: Generator, count: int) -> Wave:
    t = np.arange(count) / RATE
    low, span, speed = rng.uniform(450, 750), rng.uniform(300, 700), rng.uniform(0.3, 1.6)
    swing = (1 + np.sin(2 * np.pi * speed * t + rng.uniform(0, 6))) / 2
    if rng.random() < 0.3:
        swing = np.round(swing)
    phase = 2 * np.pi * np.cumsum(low + span * swing) / RATE
    return np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)


def _rain(rng: Generator, count: int) -> Wave:
    wave = 0.35 * _band_noise(rng, count, rng.uniform(800, 1500), 7800, 0.2)
    for _ in range(int(count / RATE * rng.uniform(40, 90))):
        t = _times(0.008)
        drop = np.sin(2 * np.pi * rng.uniform(2000, 6500) * t) * np.exp(-t / 0.0015)
        _add(wave, rng.uniform(0.1, 0.9) * drop, rng.uniform(0, count / RATE - 0.01))
    return wave


def _wind(rng: Generator, count: int) -> Wave:
    calm = _band_noise(rng, count, 80, rng.uniform(400, 700), 0.7)
    howl = _band_noise(rng, count, 300, rng.uniform(700, 1100), 0.0)
    gust = _slow(rng, count, rng.uniform(0.8, 1.6))
    return calm * (0.4 + 0.6 * gust) + 0.7 * howl * gust**2


def _beep(rng: Generator, count: int) -> Wave:
    frequency, length = rng.uniform(900, 2600), rng.uniform(0.07, 0.2)
    t = _times(length)
    tone = np.sin(2 * np.pi * frequency * t) * np.minimum(1, np.minimum(t, length - t) / 0.005)
    return _repeat(rng, count, (length + 0.1, length + 0.5), lambda: tone, 0.0)


def _engine(rng: Generator, count: int) -> Wave:
    t = np.arange(count) / RATE
    base = rng.uniform(45, 95) * (1 + 0.06 * _slow(rng, count, 0.7))
    phase = 2 * np.pi * np.cumsum(base) / RATE
    wave = sum(np.sin(k * phase + rng.uniform(0, 6)) / k ** rng.uniform(0.4, 0.9) for k in range(1, 12))
    throb = 1 + 0.3 * np.sin(phase / 2)
    return np.asarray(wave * throb + 0.5 * _band_noise(rng, count, 60, 900, 0.5)) * (1 + 0 * t)


def _clock(rng: Generator, count: int) -> Wave:
    t = _times(0.03)
    pitches = rng.uniform(2200, 4500, 2)
    side = [0]

    def tick() -> Wave:
        side[0] ^= 1
        click = np.sin(2 * np.pi * pitches[side[0]] * t) + 0.5 * rng.standard_normal(len(t))
        return np.asarray(click * np.exp(-t / 0.004))

    return _repeat(rng, count, (0.22, 0.55), tick, 0.01)


def _birds(rng: Generator, count: int) -> Wave:
    wave = np.zeros(count)
    time = rng.uniform(0, 0.2)
    while time < count / RATE - 0.1:
        low, span = rng.uniform(2300, 4300), rng.uniform(-900, 1600)
        for _ in range(int(rng.integers(2, 6))):
            length = rng.uniform(0.04, 0.11)
            t = _times(length)
            phase = 2 * np.pi * (low * t + span * t**2 / (2 * length)) + 3 * np.sin(2 * np.pi * 30 * t)
            _add(wave, rng.uniform(0.5, 1) * np.sin(phase) * np.sin(np.pi * t / length) ** 2, time)
            time += length + rng.uniform(0.02, 0.06)
        time += rng.uniform(0.1, 0.5)
    return wave


def _bell(rng: Generator, count: int) -> Wave:
    base, decay = rng.uniform(260, 620), rng.uniform(0.5, 1.1)
    t = _times(2.5)
    partials = zip((0.5, 1, 1.19, 1.56, 2, 2.66, 3.01), (0.4, 1, 0.6, 0.5, 0.7, 0.4, 0.3), strict=True)
    strike = sum(
        gain * np.sin(2 * np.pi * base * ratio * t) * np.exp(-t * ratio**0.5 / decay) for ratio, gain in partials
    )
    return _repeat(rng, count, (0.9, 1.6), lambda: np.asarray(strike), 0.02)


def _gunshots(rng: Generator, count: int) -> Wave:
    def shot() -> Wave:
        t = _times(0.5)
        crack = rng.standard_normal(len(t)) * np.exp(-t / rng.uniform(0.015, 0.03))
        boom = _band_noise(rng, len(t), 50, 900, 0.4) * np.exp(-t / rng.uniform(0.08, 0.15))
        return np.asarray(crack + 1.2 * boom)

    return _repeat(rng, count, (0.3, 1.0), shot, 0.4)


def _thunder(rng: Generator, count: int) -> Wave:
    low = _band_noise(rng, count, 25, rng.uniform(110, 200), 0.8)
    wave = np.zeros(count)
    time = rng.uniform(0, 0.2)
    while time < count / RATE:
        t = np.arange(count) / RATE - time
        swell = np.where(t > 0, np.minimum(1, t / 0.08) * np.exp(-np.maximum(t, 0) / rng.uniform(0.5, 1.1)), 0)
        wave += rng.uniform(0.5, 1) * swell * low
        time += rng.uniform(0.5, 1.4)
    return wave + 0.05 * np.abs(wave) * rng.standard_normal(count)


def _knock(rng: Generator, count: int) -> Wave:
    pitch = rng.uniform(140, 320)
    t = _times(0.12)
    body = np.sin(2 * np.pi * pitch * t) + 0.6 * np.sin(2 * np.pi * 2.3 * pitch * t)
    hit = body * np.exp(-t / 0.02) + 0.6 * rng.standard_normal(len(t)) * np.exp(-t / 0.003)
    wave = np.zeros(count)
    time, gap = rng.uniform(0, 0.3), rng.uniform(0.13, 0.24)
    while time < count / RATE - 0.1:
        for _ in range(int(rng.integers(2, 5))):
            _add(wave, rng.uniform(0.7, 1) * hit, time)
            time += gap * rng.uniform(0.9, 1.1)
        time += rng.uniform(0.35, 0.7)
    return wave


def _waves(rng: Generator, count: int) -> Wave:
    t = np.arange(count) / RATE
    noise = _band_noise(rng, count, 150, 5000, rng.uniform(0.4, 0.6))
    swell = ((1 + np.sin(2 * np.pi * rng.uniform(0.35, 0.7) * t + rng.uniform(0, 6))) / 2) ** 2
    return noise * (0.08 + swell)


def _phone(rng: Generator, count: int) -> Wave:
    low, high = rng.uniform(400, 520), rng.uniform(900, 1250)
    ring_length, speed = rng.uniform(0.5, 0.9), rng.uniform(16, 26)
    t = _times(ring_length)
    warble = np.sin(2 * np.pi * speed * t) > 0
    ring = (
        np.where(warble, np.sin(2 * np.pi * high * t), np.sin(2 * np.pi * (high + low) * t))
        + 0.5 * np.sin(2 * np.pi * 2.7 * high * t) * warble
    )
    return _repeat(rng, count, (ring_length + 0.25, ring_length + 0.6), lambda: ring, 0.0)


def _dog(rng: Generator, count: int) -> Wave:
    pitch = rng.uniform(240, 480)

    def bark() -> Wave:
        length = rng.uniform(0.12, 0.2)
        t = _times(length)
        glide = pitch * (1 + 0.7 * np.sin(np.pi * np.minimum(1, t / length * 1.1)))
        phase = 2 * np.pi * np.cumsum(glide) / RATE
        voice = sum(np.sin(k * phase) * np.exp(-(((k * pitch - 1100) / 900) ** 2)) for k in range(1, 9))
        rough = 0.5 * _band_noise(rng, len(t), 500, 3500, 0.3)
        return np.asarray((voice + rough) * np.sin(np.pi * t / length) ** 0.7)

    return _repeat(rng, count, (0.3, 0.75), bark, 0.3)


GENERATORS: dict[str, Callable[[Generator, int], Wave]] = {
    "siren": _siren,
    "rain": _rain,
    "wind": _wind,
    "beep": _beep,
    "engine": _engine,
    "clock": _clock,
    "birds": _birds,
    "bell": _bell,
    "gunshots": _gunshots,
    "thunder": _thunder,
    "knock": _knock,
    "waves": _waves,
    "phone": _phone,
    "dog": _dog,
}


def make_sound(label: str, seconds: float, rng: Generator) -> NDArray[np.float32]:
    """Make one sound of a class.

    Args:
        label: A key of `GENERATORS`.
        seconds: Length of the waveform.
        rng: Source of chance.

    Returns:
        Samples [N], float32, peak 1, 16 kHz.
    """
    wave = GENERATORS[label](rng, int(seconds * RATE))
    fade = np.minimum(1, np.minimum(np.arange(len(wave)), np.arange(len(wave))[::-1]) / (0.02 * RATE))
    wave = wave * fade
    return (wave / (np.abs(wave).max() + 1e-9)).astype(np.float32)
