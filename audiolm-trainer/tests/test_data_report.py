"""What the dry run says of a set: hours, tasks, lengths, what will be cut, what cannot be read, how fast clips come."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from salmonn.data.dataset import Sample, Samples, open_samples
from salmonn.model.tiny import byte_tokenizer
from salmonn.planning import data_report
from salmonn.planning.data_report import Lengths, Unreadable, describe_data, draw, measure_reading, text_lengths

RATE = 16_000


def write(folder: Path, name: str, seconds: float) -> Path:
    path = folder / name
    soundfile.write(path, np.zeros(int(seconds * RATE), dtype=np.float32), RATE)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Three good clips of 2, 4 and 36 s, and two that are no audio."""
    (tmp_path / "text.wav").write_text("this is no audio", encoding="utf-8")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, dtype=np.float32), RATE)
    good = [write(tmp_path, f"{seconds}.wav", seconds) for seconds in (2, 4, 36)]
    paths = [*good, tmp_path / "text.wav", tmp_path / "empty.wav"]
    texts = ["a", "abc", "abcdefghi", "ab", "abcd"]
    tasks = ["asr", "audiocaption", "asr", "asr", "QA"]
    return Samples.of(Sample(path, text, task, "") for path, text, task in zip(paths, texts, tasks, strict=True))


def test_a_set_is_counted_by_its_headers(samples: Samples) -> None:
    report = describe_data(samples, tokenizer=byte_tokenizer("</s>"), max_txt_len=6, seed=0)
    assert (report.samples, report.scanned, report.seconds, report.over_30_s) == (5, 5, 42.0, 1)
    assert report.longest_seconds == 30.0
    assert report.tasks == (("asr", 3), ("audiocaption", 1), ("QA", 1))
    assert [clip.name for clip in report.unreadable] == ["text.wav", "empty.wav"]
    assert report.unreadable[1] == Unreadable(
        "empty.wav", "holds no samples (a recording that was not closed has a header like this)"
    )
    assert report.lengths == Lengths("tokens", median=4, p95=10, longest=10, over_limit=1)
    lines = report.lines("training", max_txt_len=6)
    assert lines[0] == "training    5 clips, 42.0 s of audio, 1 over 30 s (cut there)"
    assert lines[1] == "  tasks     asr 3, audiocaption 1, QA 1"
    assert lines[2] == "  targets   tokens: p50 4, p95 10, longest 10; 1 over model.max_txt_len 6 (cut there)"
    assert lines[3].startswith("  unreadable 2: text.wav (")


def test_without_a_tokenizer_characters_are_counted_and_it_says_so() -> None:
    lengths = text_lengths(["ab", "abcd", "a"], None, 3)
    assert lengths == Lengths("characters", median=2, p95=4, longest=4, over_limit=None)
    report = data_report.DataReport(3, 3, 60.0, 20.0, 0, (("asr", 3),), lengths, ())
    assert report.lines("valid", max_txt_len=3)[2] == (
        "  targets   characters: p50 2, p95 4, longest 4 (no tokenizer here: model.max_txt_len 3 cannot be compared)"
    )


def test_of_a_large_set_a_seeded_sample_is_looked_at(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_report, "MOST_SCANNED", 10)
    many = Samples.of(samples[number % 2] for number in range(40))
    report = describe_data(many, tokenizer=None, max_txt_len=6, seed=3)
    assert (report.samples, report.scanned) == (40, 10)
    assert report.hours * 3600 == pytest.approx(report.seconds * 4)
    assert "looked at 10 drawn with the seed" in report.lines("training", max_txt_len=6)[0]
    assert report == describe_data(many, tokenizer=None, max_txt_len=6, seed=3)


def test_clips_in_shards_are_measured_as_training_reads_them(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set-0.tar", "w") as shard:
        for name, seconds in (("a", 2), ("b", 36)):
            shard.add(write(tmp_path, f"{name}.wav", seconds), f"{name}.wav")
            (tmp_path / f"{name}.json").write_text(json.dumps({"text": "two words", "task": "asr"}), encoding="utf-8")
            shard.add(tmp_path / f"{name}.json", f"{name}.json")
    source = str(tmp_path / "set-{0..0}.tar")
    samples = open_samples(source, prefix="", tasks={"asr": False}, cache_dir=tmp_path / "cache")
    report = describe_data(samples, tokenizer=None, max_txt_len=6, seed=0)
    assert (report.samples, report.scanned, report.seconds, report.unreadable) == (2, 2, 32.0, ())
    assert measure_reading(samples, workers=1, seed=0).clips == 2


def test_a_draw_is_all_or_a_seeded_choice_in_order() -> None:
    assert draw(3, 5, 0) == [0, 1, 2]
    chosen = draw(100, 5, 7)
    assert chosen == sorted(set(chosen)) == draw(100, 5, 7)
    assert len(chosen) == 5
    assert chosen != draw(100, 5, 8)


@pytest.mark.parametrize("workers", [0, 3])
def test_the_reading_rate_counts_what_could_be_read(
    samples: Samples, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    rate = measure_reading(samples, workers=workers, seed=0)
    assert rate.clips == 3
    assert rate.clips_per_second == pytest.approx(3 / rate.seconds)
    assert "text.wav" in caplog.text
    assert measure_reading(samples[3:], workers=workers, seed=0).clips_per_second == 0


def test_a_flac_that_states_no_length_is_measured(tmp_path: Path) -> None:
    for seconds in (5, 40):
        path = tmp_path / f"{seconds}.flac"
        soundfile.write(path, np.zeros(seconds * RATE, dtype=np.float32), RATE)
        data = bytearray(path.read_bytes())
        data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
        path.write_bytes(data)
    samples = Samples.of(Sample(tmp_path / f"{seconds}.flac", "a", "asr", "") for seconds in (5, 40))
    report = describe_data(samples, tokenizer=None, max_txt_len=6, seed=0)
    # Of the long one as much is decoded as decides that it is cut.
    assert (report.seconds, report.over_30_s, report.longest_seconds) == (36.0, 1, 30.0)
