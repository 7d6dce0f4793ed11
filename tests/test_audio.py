"""Audio: waveforms equal to the original's, headers, and files that are not what their names say."""

import gc
import json
import logging
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluator.audio import loading as audio
from evaluator.audio import reading as audio_reading
from evaluator.audio.loading import check_audio, load_audio, read_ahead
from evaluator.audio.reading import MAX_SECONDS, read_facts
from evaluator.errors import AudioError

CLIPS = ["00", "02", "03", "04", "05", "07", "08", "09", "11", "18", "19"]


def tone(seconds: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    """Distinct quiet tones, one a channel, float64 [N] or [N, channels]."""
    time_axis = np.arange(round(seconds * rate)) / rate
    waves = [0.3 * np.sin(2 * np.pi * (300 + 200 * channel) * time_axis) for channel in range(channels)]
    return waves[0] if channels == 1 else np.stack(waves, axis=1)


def write(path: Path, wave: np.ndarray, rate: int = 16000, **more: str) -> Path:
    soundfile.write(path, wave, rate, **more)
    return path


@pytest.mark.parametrize("clip", CLIPS)
def test_waveforms_equal_the_originals(reference: Path, clip: str) -> None:
    folder = reference
    name = f"clip{clip}.wav"
    expected = np.load(folder / "expected.npz")
    facts = json.loads((folder / "expected.json").read_text())["clips"][name]
    wave = load_audio(folder / "wavs" / name, 16000)
    assert wave.dtype == np.float32
    assert wave.shape == (facts["samples_after_loading"],)
    np.testing.assert_array_equal(wave[:1600], expected[f"{name}/wave_head"])
    np.testing.assert_array_equal(wave[::101], expected[f"{name}/wave_every_101"])
    if f"{name}/wave_full" in expected:
        np.testing.assert_array_equal(wave, expected[f"{name}/wave_full"])


def test_short_clips_are_filled_up_before_resampling(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(0.25, 8000), 8000)
    wave = load_audio(path, 16000)
    filled = write(tmp_path / "b.wav", np.pad(tone(0.25, 8000), (0, 6000)), 8000)
    assert len(wave) == 16000
    np.testing.assert_array_equal(wave, load_audio(filled, 16000))
    assert np.abs(wave[4000 + 200 :]).max() < 1e-3


def test_only_the_first_channel_is_heard(tmp_path: Path) -> None:
    many = write(tmp_path / "a.wav", tone(1.5, channels=3))
    one = write(tmp_path / "b.wav", tone(1.5))
    np.testing.assert_array_equal(load_audio(many, 16000), load_audio(one, 16000))


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
def test_long_clips_are_cut_as_if_read_whole(tmp_path: Path, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 33 * rate)
    path = write(tmp_path / "a.wav", noise, rate)
    capped = load_audio(path, 16000)
    assert len(capped) == MAX_SECONDS * 16000
    monkeypatch.setattr(audio_reading, "READ_SECONDS", 1000)
    np.testing.assert_array_equal(capped, load_audio(path, 16000))


@pytest.mark.parametrize("frames", [44100, 44101, 50000, 61234, 99999])
def test_resampled_length_is_rounded_up(tmp_path: Path, frames: int) -> None:
    path = write(tmp_path / "a.wav", np.full(frames, 0.1), 44100)
    assert len(load_audio(path, 16000)) == int(np.ceil(frames * (16000 / 44100)))


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.wav", "PCM_24"), ("a.wav", "FLOAT"), ("a.flac", "PCM_16"), ("a.ogg", "VORBIS"), ("a.mp3", "MPEG_LAYER_III")],
)
def test_formats_are_told_by_content_not_by_name(tmp_path: Path, name: str, subtype: str) -> None:
    path = write(tmp_path / name, tone(2.0), subtype=subtype)
    renamed = path.rename(tmp_path / "x.raw")
    facts = check_audio(renamed)
    with renamed.open("rb") as file:
        header = read_facts(file, renamed.suffix)
    assert (header.sampling_rate, header.channels, facts.warning) == (16000, 1, None)
    assert facts.seconds == pytest.approx(2.0, abs=0.1)
    wave = load_audio(renamed, 16000)
    assert np.abs(wave[4000:12000]).max() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("name", ["été.wav", "a\nb.wav", "-dash.wav", "a%20b.wav", "☃.wav"])
def test_any_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    assert len(load_audio(write(tmp_path / "a.wav", tone(1)).rename(tmp_path / name), 16000)) == 16000


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    try:
        write(tmp_path / "a.wav", tone(1)).rename(path)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert len(load_audio(path, 16000)) == 16000


def test_facts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(30.5, 8000, 2), 8000)
    with path.open("rb") as file:
        header = read_facts(file, path.suffix)
    assert (header.seconds, header.sampling_rate, header.channels) == (30.5, 8000, 2)
    assert check_audio(path).seconds == 30.5 > MAX_SECONDS
    assert check_audio(write(tmp_path / "b.wav", tone(30), 16000)).seconds == 30 == MAX_SECONDS


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"hello, this is no audio", "is text, not audio"),
        ("é".encode() * 400, "is text, not audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG picture"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive"),
        (b"\x1f\x8b" + bytes(100), "is gzip-compressed"),
        (b"\0\0\0\x20ftypM4A " + bytes(100), "is an MP4 or M4A file"),
        (bytes(1000), "is not audio in a format"),
        (b"RIFF\x24\0\0\0WAVE", ""),
        (b"fLaC" + bytes(40), ""),
    ],
)
def test_what_is_no_audio(tmp_path: Path, content: bytes, clause: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for use in (check_audio, lambda path: load_audio(path, 16000)):
        with pytest.raises(AudioError, match=r"a\.wav") as caught:
            use(path)
        assert clause in caught.value.message
        assert caught.value.exit_code == 3


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    expected = {
        tmp_path: "is a folder",
        tmp_path / "pipe": "is not a regular file",
        tmp_path / "missing": "does not exist",
        tmp_path / "loop": "is a loop of symbolic links",
        tmp_path / ("x" * 300): "has a name too long",
        Path("/dev/zero"): "is not a regular file",
        Path("a\0b"): "is no path",
    }
    for path, clause in expected.items():
        with pytest.raises(AudioError, match=clause):
            check_audio(path)


def wav_header(*, rate: int = 16000, channels: int = 1, data: int, riff: int | None = None) -> bytes:
    """A 16-bit PCM WAV header that states `data` bytes of samples."""
    riff = 36 + data if riff is None else riff
    block = 2 * channels
    form = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, channels, rate, rate * block, block, 16
    )
    return form + struct.pack("<4sI", b"data", data)


@pytest.mark.parametrize(
    ("header", "clause"),
    [
        (wav_header(data=0), "holds no samples"),
        (wav_header(data=3200, rate=1), "has a sampling rate of 1 Hz"),
        (wav_header(data=3200, rate=2_000_000_000), "has a sampling rate of 2000000000 Hz"),
        (wav_header(data=3200, channels=100), "has 100 channels"),
    ],
)
def test_headers_out_of_bounds(tmp_path: Path, header: bytes, clause: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(header + (b"" if "no samples" in clause else bytes(3200)))
    with pytest.raises(AudioError, match=clause):
        check_audio(path)


def test_a_truncated_wav_is_warned_of_and_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(3))
    path.write_bytes(path.read_bytes()[:48044])
    warning = check_audio(path).warning
    assert warning is not None
    assert warning.startswith("is cut off: its header states 96044 bytes, the file has 48044")
    assert len(load_audio(path, 16000)) == 24000


def test_a_stream_that_was_not_closed_is_no_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_header(data=0xFFFFFFFF, riff=0xFFFFFFFF) + bytes(32000))
    assert check_audio(path).warning is None
    assert len(load_audio(path, 16000)) == 16000


def test_a_truncated_flac_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, 80000))
    path.write_bytes(path.read_bytes()[:40000])
    with pytest.raises(AudioError, match="cannot be decoded"):
        load_audio(path, 16000)


@pytest.mark.parametrize("stated", [0, 2**36 - 1])
def test_a_flac_that_states_no_true_length(tmp_path: Path, stated: int, caplog: pytest.LogCaptureFixture) -> None:
    long, short = tmp_path / "long.flac", tmp_path / "short.flac"
    for path, seconds in ((long, 40), (short, 5)):
        content = bytearray(write(path, tone(seconds)).read_bytes())
        content[21] = content[21] & 0xF0 | stated >> 32
        content[22:26] = struct.pack(">I", stated & 0xFFFFFFFF)
        path.write_bytes(content)
    assert check_audio(long).seconds > MAX_SECONDS
    assert len(load_audio(long, 16000)) == MAX_SECONDS * 16000
    assert check_audio(short).seconds == 5
    assert len(load_audio(short, 16000)) == 5 * 16000
    assert not caplog.records


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_an_error(tmp_path: Path, value: float) -> None:
    wave = tone(1)
    wave[7] = value
    with pytest.raises(AudioError, match="not numbers"):
        load_audio(write(tmp_path / "a.wav", wave, subtype="FLOAT"), 16000)


def test_absurdly_loud_samples_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_audio(write(tmp_path / "a.wav", 1e5 * tone(1), subtype="FLOAT"), 16000)
    assert "full scale" in caplog.text


def test_read_ahead_keeps_order_and_puts_errors_in_place(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.wav", tone(1 + number / 10)) for number in range(9)]
    paths.insert(4, tmp_path / "missing.wav")
    for workers in (0, 1, 4):
        found = list(read_ahead(paths, 16000, workers))
        assert isinstance(found[4], AudioError)
        lengths = [len(wave) for wave in found if not isinstance(wave, AudioError)]
        assert lengths == [16000 + 1600 * number for number in range(9)]


def test_read_ahead_is_bounded_and_stops_when_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def fake(path: Path, sampling_rate: int) -> np.ndarray:
        started.append(path)
        time.sleep(0.001)
        return np.zeros(sampling_rate, np.float32)

    monkeypatch.setattr(audio, "load_audio", fake)
    before = threading.active_count()
    stream = read_ahead([Path(str(number)) for number in range(1000)], 16000, 2)
    # The first four tell how long a clip takes.
    for _ in range(6):
        next(stream)
    time.sleep(0.05)
    assert 4 + 2 * 2 <= len(started) <= 6 + 2 * 2
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_clips_that_load_at_once_are_loaded_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def fake(path: Path, sampling_rate: int) -> np.ndarray:
        threads.append(threading.current_thread().name)
        return np.zeros(4, np.float32)

    monkeypatch.setattr(audio, "load_audio", fake)
    monkeypatch.setattr(audio, "_QUICK_SECONDS", 10.0)
    assert len(list(read_ahead([Path(str(number)) for number in range(200)], 16000, 2, wanted=lambda: 12))) == 200
    assert set(threads) == {threading.current_thread().name}


@pytest.mark.parametrize(("room", "expected"), [(1 << 30, 12), (7 * 30 * 16000 * 4, 7), (0, 4)])
def test_read_ahead_goes_as_far_as_wanted_and_memory_allows(
    monkeypatch: pytest.MonkeyPatch, room: int, expected: int
) -> None:
    """Two threads; twelve clips are wanted ahead, and there is room for so many bytes."""
    loaded: queue.Queue[Path] = queue.Queue()

    def fake(path: Path, sampling_rate: int) -> np.ndarray:
        loaded.put(path)
        time.sleep(0.001)
        return np.zeros(sampling_rate, np.float32)

    monkeypatch.setattr(audio, "load_audio", fake)
    monkeypatch.setattr(audio, "AHEAD_BYTES", room)
    stream = read_ahead([Path(str(number)) for number in range(1000)], 16000, 2, wanted=lambda: 12)
    # The first four tell how long a clip takes.
    for _ in range(5):
        next(stream)
    for _ in range(4 + expected):
        loaded.get(timeout=10)
    with pytest.raises(queue.Empty):
        loaded.get(timeout=0.05)
    stream.close()  # type: ignore[attr-defined]


def test_read_ahead_passes_bugs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, sampling_rate: int) -> np.ndarray:
        raise ZeroDivisionError

    monkeypatch.setattr(audio, "load_audio", broken)
    with pytest.raises(ZeroDivisionError):
        list(read_ahead([Path("a")], 16000, 2))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    good = write(tmp_path / "a.wav", tone(1))
    bad = tmp_path / "b.wav"
    bad.write_bytes(b"no audio")
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        load_audio(good, 16000)
        with pytest.raises(AudioError):
            check_audio(bad)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_name_that_the_locale_cannot_write_says_what_to_set() -> None:
    ask = "from evaluator.audio.loading import check_audio; from pathlib import Path; check_audio(Path('\\ud55c.wav'))"
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", ask], env=plain, capture_output=True, text=True, check=False)
    assert "the locale's encoding, ascii, lacks its characters; set PYTHONUTF8=1" in done.stderr
