"""Waveforms read ahead: in order, under their own index, broken clips noted and missing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from salmonn.data.dataset import Sample, Samples
from salmonn.data.read_ahead import BATCHES_AHEAD, stream_waves
from salmonn.data.unreadable import UnreadableClips
from salmonn.errors import AudioError


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    for number in range(6):
        level = np.full(16_000, 0.1 * (number + 1), dtype=np.float32)
        soundfile.write(tmp_path / f"{number}.wav", level, 16_000, subtype="FLOAT")
    return Samples.of([Sample(tmp_path / f"{number}.wav", "a", "asr", "") for number in range(6)])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_waveforms_come_in_order_under_their_own_index(samples: Samples, workers: int) -> None:
    asked = [[5, 0], [3], [], [1, 2, 4], [0], [5, 5]]
    got = list(stream_waves(samples, asked, sampling_rate=16_000, workers=workers, unreadable=UnreadableClips(0)))
    assert [indices for indices, _ in got] == asked
    for indices, waves in got:
        assert [round(float(wave[0]), 3) for wave in waves] == [round(0.1 * (i + 1), 3) for i in indices]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_clip_is_left_out_and_named_never_replaced(samples: Samples, workers: int) -> None:
    samples[2].path.write_bytes(b"not audio")
    samples[3].path.unlink()
    unreadable = UnreadableClips(2)
    asked = [[0, 2, 1], [2, 3], [5]]
    got = list(stream_waves(samples, asked, sampling_rate=16_000, workers=workers, unreadable=unreadable))
    assert [indices for indices, _ in got] == [[0, 1], [], [5]]
    assert [len(waves) for _, waves in got] == [2, 0, 1]
    assert unreadable.names == [str(samples[2].path), str(samples[3].path)]
    assert "does not exist" in unreadable.reason(str(samples[3].path))


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_clips_stop(samples: Samples, workers: int) -> None:
    samples[2].path.write_bytes(b"not audio")
    unreadable = UnreadableClips(0)
    stream = stream_waves(samples, [[0, 1], [2, 3]], sampling_rate=16_000, workers=workers, unreadable=unreadable)
    assert next(stream).indices == [0, 1]
    with pytest.raises(AudioError, match=r"2\.wav"):
        next(stream)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_nothing_but_unreadable_audio_is_left_out(
    samples: Samples, workers: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Samples, index: int, sampling_rate: int) -> NDArray[np.float32]:
        raise error

    monkeypatch.setattr(Samples, "load_audio", fail)
    stream = stream_waves(samples, [[0]], sampling_rate=16_000, workers=workers, unreadable=UnreadableClips(9))
    with pytest.raises(error):
        next(stream)


def test_only_a_few_batches_are_pulled_ahead(samples: Samples) -> None:
    pulled: list[int] = []

    def batches() -> Iterator[list[int]]:
        for number in range(100):
            pulled.append(number)
            yield [0]

    stream = stream_waves(samples, batches(), sampling_rate=16_000, workers=2, unreadable=UnreadableClips(0))
    next(stream)
    assert len(pulled) == BATCHES_AHEAD + 1
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["tone.raw", "tone.RAW", "tone.pcm", "tone", "tone.wav"])
def test_samples_without_header_are_left_out_and_named(samples: Samples, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(40_000))
    wrong = Samples.of([samples[0], Sample(tmp_path / name, "a", "asr", "")])
    unreadable = UnreadableClips(1)
    got = list(stream_waves(wrong, [[0, 1]], sampling_rate=16_000, workers=2, unreadable=unreadable))
    assert [indices for indices, _ in got] == [[0]]
    assert "is not audio in a format that can be read" in unreadable.reason(str(tmp_path / name))


def test_a_further_file_that_cannot_be_read_is_named(samples: Samples, tmp_path: Path) -> None:
    joined = Samples.of([Sample(samples[0].path, "a", "asr", "", (samples[1].path, tmp_path / "none.wav"))])
    unreadable = UnreadableClips(1)
    list(stream_waves(joined, [[0]], sampling_rate=16_000, workers=0, unreadable=unreadable))
    assert "none.wav' does not exist" in unreadable.reason(str(samples[0].path))
