"""Files as people have them: joined, streamed, cut, known by their ending only. Both programs hear the same of them."""

import io
import logging
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import salmonn.audio.loading
from evaluator.audio.loading import check_audio, load_audio
from evaluator.errors import AudioError

RATE = 16000
FORMATS = ("wav", "flac", "mp3", "ogg", "opus", "aiff", "au", "caf", "w64", "rf64")
TAG = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


def encoded(kind: str, seconds: float = 1.25, rate: int = RATE) -> bytes:
    """A file's bytes: "wav", "mp3", ..."""
    form, subtype = {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}.get(kind, (kind.upper(), None))
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, rate), rate, format=form, subtype=subtype)
    return file.getvalue()


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    changed = bytearray(data)
    for place, new in changes:
        changed[place : place + len(new)] = new
    return bytes(changed)


def wav(riff: int | None = None, data: int | None = None, keep: int | None = None) -> bytes:
    """1.25 s as WAV (40044 bytes) whose header states other sizes, cut to `keep` bytes."""
    changes = [(place, struct.pack("<I", size)) for place, size in ((4, riff), (40, data)) if size is not None]
    return patched(encoded("wav"), *changes)[:keep]


def bare_mp3() -> bytes:
    """Frames without the tag that counts them."""
    whole = encoded("mp3")
    first = whole.index(b"\xff")
    length = next(n for n in range(24, 3000) if whole[first + n : first + n + 2] == whole[first : first + 2])
    return whole[first + length :]


def with_kept_header(flac: bytes) -> bytes:
    """A FLAC file with a block that keeps the header of the WAV file that it was made of."""
    block = b"riff" + wav()[:44]
    return flac[:42] + b"\2" + len(block).to_bytes(3, "big") + block + flac[42:]


def flac_in_ogg(*, stated: bool) -> bytes:
    """A FLAC stream in Ogg pages, a packet of its own for each metadata block, 4 KiB of frames a page."""
    flac, packets, place, last = encoded("flac"), [], 4, False
    while not last:
        last, size = bool(flac[place] & 0x80), 4 + int.from_bytes(flac[place + 1 : place + 4], "big")
        packets.append(flac[place : place + size])
        place += size
    info = packets[0] if stated else patched(packets[0], (17, bytes([packets[0][17] & 0xF0, 0, 0, 0, 0])))
    bodies = [b"\x7fFLAC\1\0" + struct.pack(">H", len(packets) - 1) + b"fLaC" + info, *packets[1:]]
    bodies += [flac[start : start + 4096] for start in range(place, len(flac), 4096)]
    pages = b""
    for number, body in enumerate(bodies):
        lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
        head = struct.pack("<4sBBqIII", b"OggS", 0, 2 if number == 0 else 0, 0, 7, number, 0)
        pages += head + bytes([len(lacing)]) + lacing + body
    return pages


def heard(folder: Path, name: str, data: bytes) -> tuple[float, str | None]:
    """Seconds by the header and the warning; what is heard must be as long, and the same in both programs."""
    path = folder / name
    path.write_bytes(data)
    facts = check_audio(path)
    wave = load_audio(path, RATE)
    assert len(wave) / RATE == pytest.approx(max(1, facts.seconds), abs=0.001)
    np.testing.assert_array_equal(wave, salmonn.audio.loading.load_audio(path))
    np.testing.assert_array_equal(wave, salmonn.audio.loading.decode_audio(data, name))
    assert salmonn.audio.loading.audio_facts(path).seconds == facts.seconds
    loud = float(np.sqrt(np.mean(wave[: int(facts.seconds * RATE)] ** 2)))
    assert loud == pytest.approx(0.21, abs=0.02)
    return round(facts.seconds, 2), facts.warning


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_files_joined_into_one_are_heard_to_the_end(
    tmp_path: Path, kind: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert heard(tmp_path, f"a.{kind}", times * encoded(kind)) == (1.25 * times, None)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "make", "seconds"),
    [
        ("two rates.wav", lambda: encoded("wav") + encoded("wav", rate=44100), 2.5),
        ("two rates.mp3", lambda: encoded("mp3", rate=44100) + encoded("mp3"), 2.5),
        ("two codecs.ogg", lambda: encoded("ogg") + encoded("opus"), 2.5),
        ("two formats.wav", lambda: encoded("wav") + encoded("flac"), 2.5),
        ("two formats.aiff", lambda: encoded("aiff") + encoded("mp3"), 2.5),
        ("two formats.mp3", lambda: encoded("mp3") + encoded("ogg"), 2.5),
        ("two formats.ogg", lambda: encoded("ogg") + encoded("wav"), 2.5),
        ("two formats.opus", lambda: encoded("opus") + encoded("mp3"), 2.5),
        ("no count, then count.mp3", lambda: bare_mp3() + encoded("mp3"), 2.58),
        ("count, then no count.mp3", lambda: encoded("mp3") + bare_mp3(), 2.58),
        ("no counts.mp3", lambda: 2 * bare_mp3(), 2.66),
        ("tag between.mp3", lambda: bare_mp3() + b"TAG" + bytes(125) + bare_mp3(), 2.66),
        ("tag in front.mp3", lambda: encoded("mp3") + b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + bare_mp3(), 2.58),
        ("two formats.flac", lambda: encoded("flac") + encoded("wav"), 2.5),
        ("stream in front.flac", lambda: patched(encoded("flac"), (21, b"\xf0\0\0\0\0")) + encoded("ogg"), 2.5),
        ("kept header.flac", lambda: with_kept_header(encoded("flac")), 1.25),
        *((f"tagged.{kind}", lambda kind=kind: 2 * (TAG + encoded(kind)), 2.5) for kind in FORMATS),
        ("streams.wav", lambda: wav(0, 0) + wav(0, 0), 2.5),
        ("streams.oga", lambda: 2 * flac_in_ogg(stated=False), 2.5),
    ],
)
def test_joined_files_of_different_kinds(tmp_path: Path, name: str, make: Callable[[], bytes], seconds: float) -> None:
    assert heard(tmp_path, name, make()) == (pytest.approx(seconds, abs=0.011), None)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        *((f"{riff:x}.wav", lambda riff=riff, data=data: wav(riff, data)) for riff, data in (
            (0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000),
            (0x7FFFFFFF, 0x7FFFFFDB), (40036, 0), (0, 40000), (0xFFFFFFFF, 40000), (99999, 40000),
        )),
        ("stream.flac", lambda: patched(encoded("flac"), (21, b"\xf0\0\0\0\0"))),
        ("stream.au", lambda: patched(encoded("au"), (8, b"\xff" * 4))),
        ("stream.caf", lambda: patched(encoded("caf"), (encoded("caf").index(b"data") + 4, b"\xff" * 8))),
        ("stream.rf64", lambda: patched(encoded("rf64"), (20, b"\xff" * 16))),
        ("stream.aiff", lambda: patched(
            encoded("aiff"), (4, bytes(4)), (22, bytes(4)), (encoded("aiff").index(b"SSND") + 4, bytes(4)))),
        ("stated.oga", lambda: flac_in_ogg(stated=True)),
        ("stream.oga", lambda: flac_in_ogg(stated=False)),
        ("tags behind.flac", lambda: encoded("flac") + bytes(500)),
        ("zeros behind.wav", lambda: encoded("wav") + bytes(3000)),
        ("tag behind.mp3", lambda: encoded("mp3") + b"TAG" + bytes(125)),
        ("behind zeros.mp3", lambda: bytes(3000) + encoded("mp3")),
        ("behind junk.MP3", lambda: np.random.default_rng(0).bytes(3500) + encoded("mp3")),
    ],
)  # fmt: skip
def test_sizes_that_were_never_filled_in_are_no_cut(
    tmp_path: Path, name: str, make: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    assert heard(tmp_path, name, make()) == (1.25, None)
    assert not caplog.records


def test_an_mp3_without_a_count_states_no_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert heard(tmp_path, "a.mp3", b"ID3\4\0\0\0\0\0\x22" + bytes(34) + bare_mp3())[1] is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.wav", lambda: wav(keep=20044)),
        ("riff 0.wav", lambda: wav(riff=0, keep=20044)),
        ("riff at most.wav", lambda: wav(riff=0xFFFFFFFF, keep=20044)),
        ("data 0.wav", lambda: wav(data=0, keep=20044)),
        *((f"a.{kind}", lambda kind=kind: encoded(kind)[:20000]) for kind in ("aiff", "au", "caf", "w64", "rf64")),
        ("a.mp3", lambda: encoded("mp3")[:1200]),
    ],
)
def test_what_is_really_cut_is_noticed(tmp_path: Path, name: str, make: Callable[[], bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    assert str(check_audio(path).warning).startswith("is cut off: its header states")
    assert len(load_audio(path, RATE)) == RATE


@pytest.mark.parametrize(("suffix", "seconds"), [("gsm", 4.86), ("vox", 2.0), ("au", 1.0), ("SND", 1.0)])
def test_samples_without_header_are_known_by_their_ending(tmp_path: Path, suffix: str, seconds: float) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(8000))
    assert check_audio(path).seconds == seconds
    np.testing.assert_array_equal(load_audio(path, RATE), salmonn.audio.loading.load_audio(path))
    path.write_text("no audio at all")
    with pytest.raises(AudioError, match="is text, not audio"):
        check_audio(path)


@pytest.mark.parametrize("suffix", ["raw", "pcm", "mp3", "wav", "opus", ""])
def test_bytes_of_nothing_are_named_in_both_programs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(np.random.default_rng(1).bytes(8000))
    for use in (check_audio, lambda path: load_audio(path, RATE)):
        with pytest.raises(AudioError, match=r"'.*/a\..*' is not audio in a format"):
            use(path)
    for use in (salmonn.audio.loading.audio_facts, salmonn.audio.loading.load_audio):
        with pytest.raises(salmonn.audio.loading.AudioError, match=r"'.*/a\..*' is not audio in a format"):
            use(path)


def test_a_joined_file_of_which_a_part_cannot_be_decoded_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = patched(encoded("wav"), (20, b"\x99\x99"))
    path = tmp_path / "a.wav"
    path.write_bytes(encoded("wav") + broken)
    facts = check_audio(path)
    assert (facts.seconds, str(facts.warning).startswith("holds more than one recording")) == (1.25, True)
    with caplog.at_level(logging.WARNING):
        assert len(load_audio(path, RATE)) == 20000
    assert "the rest is not heard" in caplog.text


@pytest.mark.parametrize("largest", [3.3e38, 1e30, 1e10])
def test_the_largest_floats_stay_finite_in_resampling(tmp_path: Path, largest: float) -> None:
    wave = (largest * np.sign(tone(1, 44100))).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 44100, subtype="FLOAT")
    for heard in (load_audio(tmp_path / "a.wav", RATE), salmonn.audio.loading.load_audio(tmp_path / "a.wav")):
        assert np.isfinite(heard).all()
        assert 0.9 * largest < np.abs(heard).max() <= np.finfo(np.float32).max


@pytest.mark.parametrize("rate", [16000, 5818, 11127, 44100])
@pytest.mark.parametrize("frames", [11127, 29090, 40723])
def test_both_programs_give_the_length_that_librosa_gives(tmp_path: Path, rate: int, frames: int) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(max(frames, rate)), rate)
    expected = min(30 * RATE, int(np.ceil(max(frames, rate) * (float(RATE) / rate))))
    assert len(load_audio(tmp_path / "a.wav", RATE)) == expected
    assert len(salmonn.audio.loading.load_audio(tmp_path / "a.wav")) == expected
