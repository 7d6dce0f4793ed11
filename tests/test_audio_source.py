"""Parts of audio files and members of tar archives: what a row's start and end, or its path, let be heard."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_model import FakeProvider
from fake_site import Site, make_site

from evaluator.annotation.annotation import read_annotation
from evaluator.audio.loading import check_audio, load_audio
from evaluator.audio.reading import WHOLE, Span, read_beginning
from evaluator.audio.source import source_of, with_span
from evaluator.errors import AnnotationError, AudioError
from evaluator.evaluate import evaluate
from evaluator.report.embedding import embedded, link
from evaluator.run.journal import read_journal

RATE = 16000
KINDS = [
    ("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("W64", "PCM_16"), ("CAF", "FLOAT"),
]  # fmt: skip


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate))


@pytest.mark.parametrize(("file_format", "subtype"), KINDS, ids=lambda value: str(value))
@pytest.mark.parametrize("span", [(0.0, 2.5), (3.3337, 5.1), (40.0, 42.25), (41.5, float("inf"))])
def test_a_part_is_heard_as_a_file_of_its_own(
    tmp_path: Path, file_format: str, subtype: str, span: tuple[float, float]
) -> None:
    path = tmp_path / f"talk.{file_format.lower()}"
    rate = 8000 if subtype == "GSM610" else RATE
    soundfile.write(path, noise(44, rate), rate, format=file_format, subtype=subtype)
    decoded, own_rate = soundfile.read(path, dtype="float32")
    end = len(decoded) if span[1] == float("inf") else round(span[1] * own_rate)
    soundfile.write(tmp_path / "cut.wav", decoded[round(span[0] * own_rate) : end], own_rate, subtype="FLOAT")

    part = Path(with_span(str(path), Span(*span)))
    assert source_of(part) == (path, "", Span(*span))
    np.testing.assert_allclose(load_audio(part, RATE), load_audio(tmp_path / "cut.wav", RATE), atol=2e-6)
    assert check_audio(part).seconds == pytest.approx((end - round(span[0] * own_rate)) / own_rate, abs=1e-3)


def test_a_part_over_recordings_that_were_put_together(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    pieces = []
    for seed in (1, 2):
        soundfile.write(tmp_path / "one.wav", noise(3, seed=seed), RATE, subtype="FLOAT")
        pieces.append((tmp_path / "one.wav").read_bytes())
    path.write_bytes(b"".join(pieces))
    whole = np.concatenate([noise(3, seed=1), noise(3, seed=2)]).astype(np.float32)
    for start, end in ((2.5, 4.0), (3.5, 5.0), (3.0, 4.5)):
        expected = whole[round(start * RATE) : round(end * RATE)]
        np.testing.assert_array_equal(load_audio(Path(f"{path}#t={start},{end}"), RATE), expected)


class Counted(io.FileIO):
    """A file without descriptor that counts the bytes read of it."""

    count = 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = super().readinto(buffer) or 0
        self.count += found
        return found

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size) or b""
        self.count += len(data)
        return data

    def fileno(self) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("file_format", ["FLAC", "WAV"])
def test_of_a_long_file_that_part_alone_is_read(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / f"long.{file_format.lower()}"
    soundfile.write(path, np.tile(noise(60), 10), RATE)
    with Counted(path) as file:
        beginning = read_beginning(file, path.suffix, Span(590, 592))  # type: ignore[arg-type]
    assert len(beginning.samples) == 2 * RATE
    assert file.count < path.stat().st_size / 10


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ("5,6", "is not all there: the file ends at 2 s"),
        ("1,2.2", "is not all there: the file ends at 2 s"),
        ("2,", "is not all there: the file ends at 2 s"),
    ],
)
def test_a_part_that_is_not_there(tmp_path: Path, times: str, message: str) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2), RATE)
    with pytest.raises(AudioError, match=message):
        check_audio(tmp_path / f"a.wav#t={times}")
    assert check_audio(tmp_path / "a.wav#t=1,2.01").seconds == 1  # rounded up


def test_what_tells_parts_apart_and_not_files(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4), RATE)
    found = [check_audio(tmp_path / name) for name in ("a.wav", "a.wav#t=0,1", "a.wav#t=1,2", "a.wav#t=1,")]
    assert len({each.digest for each in found}) == 4
    assert len({each.stamp for each in found}) == 1


def test_a_file_whose_own_name_looks_like_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a.wav#t=1,2"
    soundfile.write(path, noise(4), RATE, format="WAV")
    assert source_of(path) == (path, "", WHOLE)
    assert check_audio(path).seconds == 4


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def encoded(seconds: float, seed: int, file_format: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, seed=seed), RATE, format=file_format)
    return file.getvalue()


def test_members_of_an_archive_are_heard_where_they_lie(tmp_path: Path) -> None:
    members = {"a/one.flac": encoded(2, 1), "two.wav": encoded(3, 2, "WAV"), "three.mp3": encoded(3, 3, "MP3")}
    make_tar(tmp_path / "shard.tar", members)
    for name, data in members.items():
        (tmp_path / Path(name).name).write_bytes(data)
        inside, outside = tmp_path / f"shard.tar!{name}", tmp_path / Path(name).name
        np.testing.assert_array_equal(load_audio(inside, RATE), load_audio(outside, RATE))
        assert check_audio(inside).digest == check_audio(outside).digest
    part = load_audio(tmp_path / "shard.tar!two.wav#t=1,2.5", RATE)
    np.testing.assert_array_equal(part, load_audio(tmp_path / "two.wav#t=1,2.5", RATE))
    with pytest.raises(AudioError, match=r"of whose members none is called 'no\.wav'"):
        check_audio(tmp_path / "shard.tar!no.wav")
    (tmp_path / "packed.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(AudioError, match="cannot be read as a tar without compression"):
        check_audio(tmp_path / "packed.tar!a.wav")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    soundfile.write(site.wavs / "talk.wav", noise(40), RATE)
    make_tar(site.wavs / "shard.tar", {"inside.flac": encoded(2, 5)})
    site.write_annotation(
        [
            {"testset_id": "a", "path": "talk.wav", "start": 1, "end": 3.5, "task": "asr", "text": "x"},
            {"testset_id": "b", "path": "talk.wav", "start": 30.25, "task": "asr", "text": "y"},
            {"testset_id": "c", "path": "talk.wav", "start": 0, "end": None, "task": "asr", "text": "z"},
            {"testset_id": "d", "path": "shard.tar!inside.flac", "start": 0.5, "task": "asr", "text": "z"},
        ]
    )
    return site


def test_a_run_over_parts_of_one_file(site: Site) -> None:
    result = evaluate(FakeProvider(), site.load(), "valid_asr")
    answers = read_journal(result.folder / "predictions.jsonl")
    assert [each.text for each in answers] == ["asr 40000", "asr 156000", "asr 480000", "asr 24000"]
    assert link(answers[0].path).endswith("talk.wav#t=1,3.5")
    assert link(answers[3].path) == ""
    assert [row for row, _ in embedded([0, 1, 2, 3], [each.path for each in answers])] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"start": "00:01:02"},
            r"start: expected seconds from the beginning of the file, as a number, found '00:01:02'",
        ),
        ({"start": -1}, r"start: expected seconds .* found -1"),
        ({"end": True}, r"end: expected seconds .* found True"),
        ({"start": 2, "end": 2.0}, r"end: expected more than start, which is 2, found 2"),
        ({"start": 39, "end": 41}, r"path: '.*talk\.wav#t=39,41' is not all there: the file ends at 40 s"),
        ({"start": 1, "expand_wav": ["clip1.wav"]}, r"start: a row with expand_wav joins whole files"),
        ({"begin_time": 1}, r'begin_time: .* is "start", in seconds, meant\?'),
        ({"channel": 1}, r"channel: the field would change what is heard of the file"),
    ],
)
def test_what_is_wrong_with_a_part_is_said(site: Site, fields: dict[str, object], message: str) -> None:
    row = {"testset_id": "a", "path": "talk.wav", "task": "asr", "text": "x"}
    site.write_annotation([{**row, **fields}])
    with pytest.raises(AnnotationError, match=message):
        evaluate(FakeProvider(), site.load(), "valid_asr")


def test_words_in_start_and_end_mean_something_else(site: Site) -> None:
    rows = [{"testset_id": "a", "path": "talk.wav", "task": "asr", "text": "x", "start": "a podcast", "end": -1}]
    (site.folder / "asr.json").write_text(json.dumps(rows))
    found = read_annotation(
        site.folder / "asr.json", prefix=str(site.wavs), mode="valid_asr", known_tasks={"asr": False}
    ).without_problems()
    assert found[0].path == site.wavs / "talk.wav"


def test_published_training_rows_are_read_as_they_are(site: Site) -> None:
    """A path that begins with / below the prefix, expand_wav beside it, Q: null, no id."""
    rows = [
        {"path": "/clip0.wav", "expand_wav": ["/clip1.wav"], "task": "asr", "Q": None, "text": "two"},
        {"path": "/clip2.wav", "expand_wav": [], "task": "asr", "Q": None, "text": "one"},
    ]
    (site.folder / "asr.json").write_text(json.dumps({"annotation": rows}))
    result = evaluate(FakeProvider(), site.load(), "valid_asr")
    answers = read_journal(result.folder / "predictions.jsonl")
    assert [(each.id, each.text) for each in answers] == [("/clip0.wav", "asr 34600"), ("/clip2.wav", "asr 18000")]
