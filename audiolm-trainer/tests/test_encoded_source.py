"""Encoded clips: computed, kept in memory or on disk, always the same, and without what cannot be read."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from salmonn.data.dataset import Sample, Samples
from salmonn.data.unreadable import UnreadableClips
from salmonn.errors import AudioError, CheckpointError, DatasetError
from salmonn.model.speech_encoder import Encoded
from salmonn.training.encoded import EncodedSource, build_source

BATCHES = [[3, 0, 4], [], [1], [2, 2, 0]]


class FakeEncoder:
    """Encodes a clip as its mean, with as many BEATs tokens as the tenths of its level."""

    sampling_rate = 16_000

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, waves: Sequence[NDArray[np.float32]]) -> Encoded:
        self.encoded += len(waves)
        means = torch.tensor([float(wave.mean()) for wave in waves])
        tokens = torch.tensor([round(10 * float(mean)) for mean in means])
        beats = torch.full((len(waves), int(tokens.max()) + 1, 3), 9.0)
        for row, count in enumerate(tokens.tolist()):
            beats[row, :count] = means[row]
        return Encoded(means[:, None, None].expand(-1, 2, 4).contiguous(), beats, tokens)


class Run(NamedTuple):
    encoder: FakeEncoder
    unreadable: UnreadableClips
    source: EncodedSource


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    for number in range(5):
        level = np.full(16_000, 0.1 * (number + 1), dtype=np.float32)
        soundfile.write(tmp_path / f"{number}.wav", level, 16_000, subtype="FLOAT")
    return Samples.of([Sample(tmp_path / f"{number}.wav", "a", "asr", "") for number in range(5)])


def build(
    samples: Samples, folder: Path, cache: bool | Literal["disk"], *, limit: int = 0, identity: str = "one"
) -> Run:
    encoder, unreadable = FakeEncoder(), UnreadableClips(limit)
    source = build_source(
        encoder,
        samples,
        cache=cache,
        cache_dir=folder / "cache",
        workers=0,
        batch_size=2,
        unreadable=unreadable,
        encoder_identity=identity,
    )
    return Run(encoder, unreadable, source)


def plain(source: EncodedSource) -> list[tuple[list[int], list[tuple[float, list[float]]]]]:
    """For each batch its indices, and of each clip Whisper's and its own BEATs' numbers, rounded."""
    found = []
    for indices, encoded in source.stream(BATCHES):
        clips = []
        if encoded is not None:
            assert encoded.whisper.shape == (len(indices), 2, 4)
            for whisper, beats, count in zip(
                encoded.whisper, encoded.beats, encoded.beats_tokens.tolist(), strict=True
            ):
                assert bool((whisper == whisper[0, 0]).all())
                clips.append((round(float(whisper[0, 0]), 2), [round(float(b), 2) for b in beats[:count, 0]]))
        found.append((indices, clips))
    return found


def expected(unreadable: Sequence[int] = ()) -> list[Any]:
    clips = {i: (round(0.1 * (i + 1), 2), [round(0.1 * (i + 1), 2)] * (i + 1)) for i in range(5)}
    kept = [[index for index in batch if index not in unreadable] for batch in BATCHES]
    return [(batch, [clips[index] for index in batch]) for batch in kept]


@pytest.mark.parametrize("cache", [False, True, "disk"])
def test_clips_are_the_same_in_any_order_wherever_they_come_from(samples: Samples, tmp_path: Path, cache: Any) -> None:
    assert plain(build(samples, tmp_path, cache).source) == expected()


@pytest.mark.parametrize("cache", [False, True, "disk"])
def test_unreadable_clips_are_left_out_and_counted(samples: Samples, tmp_path: Path, cache: Any) -> None:
    for index in (0, 1, 4):
        samples[index].path.write_bytes(b"not audio")
    run = build(samples, tmp_path, cache, limit=3)
    assert plain(run.source) == expected(unreadable=(0, 1, 4))
    assert run.unreadable.names == [str(samples[index].path) for index in (0, 1, 4)]
    with pytest.raises(AudioError, match="3 clips cannot be read"):
        plain(build(samples, tmp_path / "other", cache, limit=2).source)
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize("cache", [True, "disk"])
def test_caches_are_float16(samples: Samples, tmp_path: Path, cache: Any) -> None:
    [(_, encoded)] = build(samples, tmp_path, cache).source.stream([[1, 3]])
    assert encoded is not None
    assert (encoded.whisper.dtype, encoded.beats.dtype) == (torch.float16, torch.float16)
    # What lies past a clip's own tokens is not kept.
    assert encoded.beats[0, 2:].abs().sum() == 0


def test_the_next_run_encodes_nothing(samples: Samples, tmp_path: Path) -> None:
    samples[4].path.write_bytes(b"not audio")
    assert build(samples, tmp_path, "disk", limit=1).encoder.encoded == 4 + 1
    shutil.copytree(tmp_path / "cache", tmp_path / "kept")
    again = build(samples, tmp_path, "disk", limit=1)
    # The one clip is silence, which tells the device.
    assert again.encoder.encoded == 1
    assert plain(again.source) == expected(unreadable=(4,))
    assert again.unreadable.names == [str(samples[4].path)]
    assert "delete that folder to try again" in again.unreadable.reason(str(samples[4].path))
    with pytest.raises(AudioError, match=r"run\.max_unreadable allows 0"):
        build(samples, tmp_path, "disk", limit=0)


def test_other_encoders_and_other_sets_have_caches_of_their_own(samples: Samples, tmp_path: Path) -> None:
    build(samples, tmp_path, "disk")
    assert build(samples, tmp_path, "disk", identity="two").encoder.encoded == 6
    assert build(samples[:3], tmp_path, "disk").encoder.encoded == 4
    assert len([path for path in (tmp_path / "cache/features").iterdir() if path.is_dir()]) == 3


def test_the_size_is_told_and_what_does_not_fit_is_refused(
    samples: Samples, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO):
        build(samples, tmp_path, "disk")
    told = [record.getMessage() for record in caplog.records]
    assert any(text.startswith(f"encoding 5 clips into {tmp_path / 'cache/features'}") for text in told)
    assert any("about 0.00 GB, " in text and text.endswith(" GB free") for text in told)

    class Usage(NamedTuple):
        free: int

    # 5 clips of 2 x 4 numbers, and of 1.5 tokens x 3 numbers by the first batch: 5 x (16 + 9) bytes
    for free, fits in ((125, True), (124, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(free))
        if fits:
            build(samples, tmp_path / "fits", "disk")
        else:
            with pytest.raises(DatasetError, match=r"5 encoded clips do not fit into .*set datasets\.cache_dir"):
                build(samples, tmp_path / "small", "disk")
    assert not [path for path in (tmp_path / "small/cache/features").iterdir() if path.suffix != ".lock"]


def test_an_interrupted_encoding_leaves_nothing_and_remains_of_a_killed_one_go(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_audio = Samples.load_audio

    def interrupted(self: Samples, index: int, sampling_rate: int) -> NDArray[np.float32]:
        if index == 3:
            raise KeyboardInterrupt
        return load_audio(self, index, sampling_rate)

    monkeypatch.setattr(Samples, "load_audio", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(samples, tmp_path, "disk")
    features = tmp_path / "cache/features"
    [lock] = features.iterdir()
    monkeypatch.undo()
    remains = features / f"{lock.name.removesuffix('.lock')}.1.tmp"
    (remains / "x").mkdir(parents=True)
    assert plain(build(samples, tmp_path, "disk").source) == expected()
    assert not remains.exists()


def test_a_full_disk_is_an_error_that_says_so(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        build(samples, tmp_path, "disk")


def test_the_files_on_disk_are_ordinary_arrays(samples: Samples, tmp_path: Path) -> None:
    samples[1].path.write_bytes(b"not audio")
    build(samples, tmp_path, "disk", limit=1)
    [folder] = [path for path in (tmp_path / "cache/features").iterdir() if path.is_dir()]
    whisper, beats = (np.load(folder / f"{name}.npy") for name in ("whisper", "beats"))
    assert (whisper.shape, whisper.dtype, beats.shape, beats.dtype) == (
        (4, 2, 4),
        np.float16,
        (1 + 3 + 4 + 5, 3),
        np.float16,
    )
    assert np.load(folder / "beats_offsets.npy").tolist() == [0, 1, 4, 8, 13]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert [entry[:2] for entry in manifest["unreadable"]] == [[1, str(samples[1].path)]]


def test_encoders_without_beats_are_kept_as_well(samples: Samples, tmp_path: Path) -> None:
    class WithoutBeats(FakeEncoder):
        def encode(self, waves: Sequence[NDArray[np.float32]]) -> Encoded:
            whisper = super().encode(waves).whisper
            return Encoded(whisper, whisper.new_zeros(len(waves), 0, 0), torch.zeros(len(waves), dtype=torch.int64))

    for cache in (True, "disk"):
        source = build_source(
            WithoutBeats(),
            samples,
            cache=cache,  # type: ignore[arg-type]
            cache_dir=tmp_path,
            workers=2,
            batch_size=2,
            unreadable=UnreadableClips(0),
            encoder_identity="x",
        )
        [(_, encoded)] = source.stream([[1, 3]])
        assert encoded is not None
        assert (tuple(encoded.beats.shape), encoded.beats_tokens.tolist()) == ((2, 0, 0), [0, 0])


def test_a_set_of_which_nothing_can_be_read_is_refused(samples: Samples, tmp_path: Path) -> None:
    for sample in samples:
        sample.path.unlink()
    for cache in (True, "disk"):
        with pytest.raises(DatasetError, match="no clip of the set can be read"):
            build(samples, tmp_path, cache, limit=9)  # type: ignore[arg-type]
