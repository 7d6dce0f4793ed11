"""Over sixty kinds of audio files, good and bad, made by script: what a set that people put together has in it.

In: a folder. Out: a file for each kind, and what becomes of it: how many seconds are heard, or words of the sentence
that refuses it. All good ones hold the same tone.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000
SECONDS = 2.0


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: what it is.
        path: the file.
        seconds: how much of it is heard, in seconds; None where it is refused.
        refused: words of the sentence that refuses it.
    """

    name: str
    path: Path
    seconds: float | None = SECONDS
    refused: str = ""


def tone(seconds: float = SECONDS, rate: int = RATE, channels: int = 1) -> NDArray[np.float32]:
    """440 Hz, for low rates the highest that they can hold; all channels alike."""
    frames = np.arange(round(seconds * rate)) / rate
    wave = (0.3 * np.sin(2 * np.pi * min(440, rate / 4) * frames)).astype(np.float32)
    return wave if channels == 1 else np.repeat(wave[:, None], channels, axis=1)


def encoded(file_format: str, subtype: str, rate: int = RATE, **options: float) -> bytes:
    """The tone in a format."""
    file = BytesIO()
    soundfile.write(file, tone(rate=rate), rate, format=file_format, subtype=subtype, **options)
    return file.getvalue()


FORMATS = [
    *(("WAV", each, "wav", 16000) for each in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("WAV", each, "wav", 16000) for each in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")),
    ("WAV", "GSM610", "wav", 8000),
    ("WAVEX", "PCM_24", "wav", 16000),
    ("RF64", "PCM_16", "wav", 16000),
    ("W64", "PCM_16", "w64", 16000),
    ("AIFF", "PCM_16", "aiff", 16000),
    ("AIFF", "FLOAT", "aif", 16000),
    ("AU", "PCM_16", "au", 16000),
    ("AU", "ULAW", "au", 8000),
    ("CAF", "PCM_16", "caf", 16000),
    ("CAF", "ALAC_16", "caf", 16000),
    ("FLAC", "PCM_S8", "flac", 16000),
    ("FLAC", "PCM_16", "flac", 16000),
    ("FLAC", "PCM_24", "flac", 16000),
    ("OGG", "VORBIS", "ogg", 16000),
    ("OGG", "OPUS", "opus", 48000),
    ("OGG", "OPUS", "opus", 16000),
    ("MP3", "MPEG_LAYER_III", "mp3", 16000),
    ("MP3", "MPEG_LAYER_III", "mp3", 44100),
    ("NIST", "PCM_16", "sph", 16000),
    ("VOC", "PCM_16", "voc", 16000),
]


def make_corpus(folder: Path) -> list[Kind]:
    """Make all kinds in a folder."""
    return [
        *_formats(folder),
        *_rates_and_channels(folder),
        *_lengths_and_values(folder),
        *_damaged(folder),
        *_no_audio(folder),
        *_names(folder),
    ]


def _written(folder: Path, name: str, data: bytes, seconds: float | None = SECONDS, refused: str = "") -> Kind:
    path = folder / name
    path.write_bytes(data)
    return Kind(name, path, seconds, refused)


def _formats(folder: Path) -> Iterator[Kind]:
    for file_format, subtype, suffix, rate in FORMATS:
        yield _written(folder, f"{file_format}-{subtype}-{rate}.{suffix}".lower(), encoded(file_format, subtype, rate))


def _rates_and_channels(folder: Path) -> Iterator[Kind]:
    for rate in (4000, 8000, 11025, 22050, 44100, 96000, 192000, 384000):
        yield _written(folder, f"{rate}-hz.wav", encoded("WAV", "PCM_16", rate))
    yield _written(folder, "1000-hz.wav", encoded("WAV", "PCM_16", 1000), None, "1000 Hz")
    for channels in (2, 6, 32):
        path = folder / f"{channels}-channels.wav"
        soundfile.write(path, tone(channels=channels), RATE)
        yield Kind(path.name, path)
    path = folder / "64-channels.wav"
    soundfile.write(path, tone(channels=64), RATE)
    yield Kind(path.name, path, None, "64 channels")


def _lengths_and_values(folder: Path) -> Iterator[Kind]:
    wave = tone()
    values: list[tuple[str, NDArray[np.float32], float | None, str]] = [
        ("no-frames.wav", wave[:0], None, "no samples"),
        ("one-frame.wav", wave[:1], 1.0, ""),
        ("a-tenth.wav", tone(0.1), 1.0, ""),
        ("thirty-one-seconds.wav", tone(31), 30.0, ""),
        ("silence.wav", 0 * wave, SECONDS, ""),
        ("louder-than-full.wav", 20 * wave, SECONDS, ""),
        ("tiny.wav", 1e-30 * wave, SECONDS, ""),
        ("not-a-number.wav", np.where(np.arange(len(wave)) == 100, np.float32("nan"), wave), None, "NaN or infinite"),
        ("infinite.wav", np.where(np.arange(len(wave)) == 100, np.float32("inf"), wave), None, "NaN or infinite"),
    ]
    for name, samples, seconds, refused in values:
        path = folder / name
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        yield Kind(name, path, seconds, refused)


def _damaged(folder: Path) -> Iterator[Kind]:
    wav, flac, mp3 = encoded("WAV", "PCM_16"), encoded("FLAC", "PCM_16"), encoded("MP3", "MPEG_LAYER_III")
    ogg = encoded("OGG", "VORBIS")
    yield _written(folder, "half.wav", wav[: len(wav) // 2], 1.0)
    yield _written(folder, "half.flac", flac[: len(flac) // 2], None, "lost sync")
    yield _written(folder, "half.mp3", mp3[: len(mp3) // 2], 1.0)
    yield _written(folder, "half.ogg", ogg[: len(ogg) // 2], None, "malformed")
    yield _written(folder, "header-alone.wav", wav[:44], None, "no samples")
    yield _written(folder, "header-alone.flac", flac[:42], None, "no samples")
    yield _written(folder, "streamed-size-zero.wav", wav[:40] + bytes(4) + wav[44:])
    yield _written(folder, "streamed-size-full.wav", wav[:4] + b"\xff" * 4 + wav[8:40] + b"\xff" * 4 + wav[44:])
    yield _written(folder, "junk-behind.wav", wav + b"junk" * 100)
    yield _written(folder, "list-in-front.wav", wav[:12] + b"LIST" + struct.pack("<I", 4) + b"INFO" + wav[12:])
    yield _written(folder, "odd-chunk.wav", wav[:36] + b"note" + struct.pack("<I", 3) + b"abc\0" + wav[36:])
    yield _written(folder, "tagged.mp3", b"ID3\x03\0\0\0\0\x02\x00" + bytes(256) + mp3)
    yield _written(folder, "tagged.flac", b"ID3\x03\0\0\0\0\x02\x00" + bytes(256) + flac)
    yield _written(folder, "chained.ogg", ogg + ogg, 2 * SECONDS)
    yield _written(folder, "zeros-inside.flac", flac[:200] + bytes(64) + flac[264:], None, "lost sync")
    yield _written(folder, "zeros-inside.mp3", mp3[:1000] + bytes(200) + mp3[1200:], 1.8)
    # STREAMINFO's 36 bits of frames all set: a reader that believes them asks for 512 GiB.
    yield _written(folder, "endless-header.flac", flac[:21] + bytes([flac[21] | 0x0F]) + b"\xff" * 4 + flac[26:])


def _no_audio(folder: Path) -> Iterator[Kind]:
    nothing: list[tuple[str, bytes, str]] = [
        ("nothing.wav", b"", "empty"),
        ("text.wav", b"the cat sat on the mat\n", "text"),
        ("page.wav", b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        ("picture.wav", b"\x89PNG\r\n\x1a\n" + bytes(64), "PNG"),
        ("pointer.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git"),
        ("archive.wav", b"PK\x03\x04" + bytes(64), "zip"),
        ("json.wav", b'{"annotation": []}', "audio"),
        ("random.wav", bytes(range(256)) * 4, "audio"),
        ("samples.raw", tone().tobytes(), "audio"),
        ("film.m4a", b"\0\0\0\x20ftypM4A " + bytes(64), "m4a"),
    ]
    for name, data, refused in nothing:
        yield _written(folder, name, data, None, refused)
    yield Kind("missing.wav", folder / "missing.wav", None, "exist")
    (folder / "folder.wav").mkdir()
    yield Kind("folder.wav", folder / "folder.wav", None, "folder")
    special: list[tuple[str, Callable[[Path], None], str]] = [
        ("pipe.wav", os.mkfifo, "regular file"),
        ("loop.wav", lambda path: path.symlink_to(path), "links"),
        ("dangling.wav", lambda path: path.symlink_to(folder / "nowhere.wav"), "exist"),
    ]
    for name, make, refused in special:
        make(folder / name)
        yield Kind(name, folder / name, None, refused)


def _names(folder: Path) -> Iterator[Kind]:
    data = encoded("WAV", "PCM_16")
    names = [
        "한국어 음성.wav",
        "🎵.wav",
        "-leading-dash.wav",
        "100%20percent.wav",
        "UPPER.WAV",
        "no-suffix",
        "wrong.mp3",
    ]
    for name in [*names, "a" * 250 + ".wav", "two\nlines.wav", ".hidden.wav"]:
        yield _written(folder, name, data)
    (folder / "linked.wav").symlink_to(folder / "UPPER.WAV")
    yield Kind("linked.wav", folder / "linked.wav")
