"""Shards: the same rows and waveforms as from files, wrong samples named by shard and key."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from salmonn.data import shard_index
from salmonn.data.dataset import Samples, open_samples
from salmonn.errors import AudioError, DatasetError

TASKS = {"asr": False, "QA": True}
ROW = b'{"text": "a"}'


def clip(number: int, suffix: str = "wav") -> bytes:
    """A second of audio whose level tells it apart."""
    file = io.BytesIO()
    level = np.full(16_000, 0.1 * (number + 1), dtype=np.float32)
    soundfile.write(file, level, 16_000, format=suffix.upper())
    return file.getvalue()


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    return path


def opened(folder: Path, pattern: str) -> Samples:
    return open_samples(str(folder / pattern), prefix="/none", tasks=TASKS, cache_dir=folder / "cache")


def problems(folder: Path, members: Mapping[str, bytes]) -> str:
    write(folder / "bad.tar", members)
    with pytest.raises(DatasetError) as caught:
        opened(folder, "bad.tar")
    return str(caught.value)


def test_samples_of_all_shards_come_in_order_with_their_own_audio(tmp_path: Path) -> None:
    write(
        tmp_path / "s-08.tar",
        {
            "a/x.json": json.dumps({"text": "one", "task": "QA", "Q": "What?", "more": 1}).encode(),
            "a/x.flac": clip(0, "flac"),
            "a/x.npy": b"not looked at",
            "a/y.WAV": clip(1),
            "a/y.txt": " two ü\n".encode(),
        },
    )
    write(tmp_path / "s-09.tar", {"z.json": b'{"text": "three"}', "z.ogg": clip(2, "ogg"), "z.txt": b"no"})
    for _ in range(2):
        samples = opened(tmp_path, "s-{08..09}.tar")
        assert [(s.text, s.task, s.question) for s in samples] == [
            ("one", "QA", "What?"),
            ("two ü", "asr", ""),
            ("three", "asr", ""),
        ]
        assert samples[0].path == tmp_path / "s-08.tar/a/x.flac"
        for index in range(3):
            wave = samples.load_audio(index, 16_000)
            assert wave.shape == (16_000,)
            assert float(np.median(wave)) == pytest.approx(0.1 * (index + 1), abs=0.02)
    assert round(float(samples[1:].load_audio(0, 16_000)[0]), 2) == 0.2
    assert samples.location == str(tmp_path)


def test_every_wrong_sample_is_named_by_shard_and_key(tmp_path: Path) -> None:
    report = problems(
        tmp_path,
        {
            "fine.json": ROW,
            "fine.wav": clip(0),
            "mute.json": ROW,
            "two.wav": b"",
            "two.flac": b"",
            "silent.wav": b"",
            "broken.json": b"{",
            "broken.wav": b"",
            "latin.txt": b"\xe4",
            "latin.wav": b"",
            "list.json": b"[]",
            "list.wav": b"",
            "task.json": b'{"text": "a", "task": "asrr"}',
            "task.wav": b"",
            "dot.1.wav": b"",
            "again.wav": b"",
            "again.json": ROW,
            "again.WAV": b"",
        },
    )
    assert "bad.tar has 9 problems" in report.splitlines()[0]
    assert f"{tmp_path / 'bad.tar'}, key 'mute': has no audio (one of .flac .wav .mp3 .ogg" in report
    for part in (
        "key 'two': has more than one audio",
        "key 'silent': has neither .json nor .txt",
        "key 'broken': json: is not JSON",
        "key 'latin': txt: is not UTF-8",
        "key 'list': json: must be an object with text (found [])",
        "key 'task': task: 'asrr' has no training prompt (known: QA, asr)",
        "key 'dot': has no audio",
        "again.WAV: duplicate file name",
    ):
        assert part in report
    assert "fine" not in report


def test_shards_that_are_missing_cut_or_empty_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "s-0.tar", {"a.json": ROW, "a.wav": clip(0)})
    with pytest.raises(DatasetError, match=r"s-1\.tar cannot be read: No such file(.|\n)*s-2\.tar cannot be read"):
        opened(tmp_path, "s-{0..2}.tar")
    (tmp_path / "s-1.tar").write_bytes(whole.read_bytes()[:10_000])
    with pytest.raises(DatasetError, match=r"s-1\.tar is no whole tar file"):
        opened(tmp_path, "s-{0..1}.tar")
    # The library takes a header that is cut off, or none, for the end of the archive.
    second = write(tmp_path / "s-2.tar", {"a.json": ROW, "a.wav": b"", "b.json": ROW, "b.wav": clip(0)}).read_bytes()
    place = second.index(b"b.json")
    for damaged in (second[: place + 300], second[:place] + b"?" * 512 + second[place + 512 :]):
        (tmp_path / "s-1.tar").write_bytes(damaged)
        with pytest.raises(DatasetError, match=rf"s-1\.tar is no whole tar file: after {place} bytes"):
            opened(tmp_path, "s-1.tar")
    (tmp_path / "s-1.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DatasetError, match=r"s-1\.tar is no whole tar file"):
        opened(tmp_path, "s-1.tar")
    write(tmp_path / "s-1.tar", {})
    with pytest.raises(DatasetError, match="have no samples"):
        opened(tmp_path, "s-1.tar")


def test_a_broken_clip_in_a_shard_is_unreadable_audio(tmp_path: Path) -> None:
    shard = write(tmp_path / "s.tar", {"a.json": ROW, "a.wav": b"not audio"})
    samples = opened(tmp_path, "s.tar")
    with pytest.raises(AudioError, match=r"s\.tar/a\.wav' is text, not audio"):
        samples.load_audio(0, 16_000)
    shard.unlink()
    with pytest.raises(AudioError, match="No such file"):
        samples.load_audio(0, 16_000)


def test_rows_are_handed_on_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_index, "ROWS_PER_BATCH", 2)
    for shard in range(2):
        write(tmp_path / f"s-{shard}.tar", {f"{i}.{s}": d for i in range(3) for s, d in (("json", ROW), ("wav", b""))})
    source = shard_index.ShardSet(str(tmp_path / "s-{0..1}.tar"), tasks=TASKS)
    assert [[(row.shard, row.path) for row in part] for part in source.parts()] == [
        [(0, "0.wav"), (0, "1.wav")],
        [(0, "2.wav"), (1, "0.wav")],
        [(1, "1.wav"), (1, "2.wav")],
    ]


@pytest.mark.parametrize(
    ("suffix", "form", "subtype"),
    [
        ("opus", "OGG", "OPUS"),
        ("oga", "OGG", "VORBIS"),
        ("aif", "AIFF", None),
        ("CAF", "CAF", None),
        ("w64", "W64", None),
    ],
)
def test_audio_of_every_known_ending_is_found(tmp_path: Path, suffix: str, form: str, subtype: str | None) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.full(16_000, 0.1, dtype=np.float32), 16_000, format=form, subtype=subtype)
    marked = b'\xef\xbb\xbf{"text": "a", "Q": null, "task": null}'
    write(tmp_path / "s.tar", {"a.json": marked, f"a.{suffix}": file.getvalue()})
    samples = opened(tmp_path, "s.tar")
    assert (samples[0].text, samples[0].question, samples[0].task) == ("a", "", "asr")
    assert samples.load_audio(0, 16_000).shape == (16_000,)


def test_a_sample_of_a_shard_may_be_a_part_of_its_audio(tmp_path: Path) -> None:
    file = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    write(tmp_path / "s.tar", {"a.json": b'{"text": "a", "start": 0.5, "end": 2.5}', "a.wav": file.getvalue()})
    heard = opened(tmp_path, "s.tar")
    np.testing.assert_array_equal(heard.load_audio(0, 16_000), samples[8_000:40_000])
    assert heard[0].name.endswith("a.wav from 0.5 s to 2.5 s")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (b'{"text": "a", "expand_wav": ["b.wav"]}', "expand_wav: is not supported in shards"),
        (b'{"text": "a", "begin_time": 1.5}', "begin_time: the field would change what is heard"),
        (b'{"text": "a", "text": "b"}', "text: the field appears twice"),
        (b"[" * 100_000, "nests too deep"),
    ],
)
def test_fields_of_a_sample_that_would_be_dropped_are_named(tmp_path: Path, fields: bytes, message: str) -> None:
    assert message in problems(tmp_path, {"a.json": fields, "a.wav": clip(0)})
