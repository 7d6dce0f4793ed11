"""Sets: rows become samples whatever they come from, slices are sets, collation is pure, clips are read by index."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from salmonn.data.dataset import Sample, Samples, collate, in_order, open_samples
from salmonn.errors import AudioError
from salmonn.prompts import PromptBook

SLOT = "<Speech><SpeechHere></Speech>"


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    for number in range(6):
        level = np.full(16_000, 0.1 * (number + 1), dtype=np.float32)
        soundfile.write(tmp_path / f"{number}.wav", level, 16_000, subtype="FLOAT")
    return tmp_path


@pytest.fixture
def samples(wavs: Path) -> list[Sample]:
    return [Sample(wavs / f"{number}.wav", f"text {number}", "asr", "") for number in range(6)]


@pytest.fixture
def book() -> PromptBook:
    wordings = tuple(f"{SLOT} asr {letter}" for letter in "abcdefgh")
    return PromptBook({"asr": wordings, "v2": (f"{SLOT} v2 a", f"{SLOT} v2 b"), "QA": (f"{SLOT} {{}}",)})


def test_a_set_is_a_sequence_of_its_samples(samples: list[Sample]) -> None:
    own = Samples.of(samples)
    assert list(own) == samples
    assert (len(own), own[-1], own[2]) == (6, samples[5], samples[2])
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"sample {index} of 6"):
            own[index]


def test_a_slice_is_a_set(samples: list[Sample]) -> None:
    part = Samples.of(samples)[1:4]
    assert isinstance(part, Samples)
    assert list(part) == samples[1:4]
    assert round(float(part.load_audio(0, 16_000)[0]), 3) == 0.2
    assert list(part[3:]) == []


def test_tasks_and_lengths_are_columns(wavs: Path) -> None:
    rows = [("zwei", "v2"), ("ä", "asr"), ("", "v2")]
    own = Samples.of([Sample(wavs / "0.wav", text, task, "") for text, task in rows])
    assert own.tasks() == ("v2", "asr")
    assert own.task_ids().tolist() == [0, 1, 0]
    assert own.text_lengths().tolist() == [4, 1, 0]
    assert own.text_lengths().dtype == np.int32


def test_the_fingerprint_tells_contents_and_order_apart(samples: list[Sample]) -> None:
    first = Samples.of(samples).fingerprint
    assert Samples.of(samples).fingerprint == first
    moved = [*samples[1:], samples[0]]
    changes = [
        Sample(samples[0].path, "text 0x", "asr", ""),
        Sample(samples[0].path, "text 0", "v2", ""),
        Sample(samples[0].path, "text 0", "asr", "q"),
        Sample(samples[1].path, "text 0", "asr", ""),
    ]
    others = [Samples.of(moved), *(Samples.of([changed, *samples[1:]]) for changed in changes)]
    assert len({first, *(other.fingerprint for other in others)}) == 6


def test_a_clip_that_cannot_be_read_is_named(samples: list[Sample]) -> None:
    samples[2].path.write_bytes(b"not audio")
    own = Samples.of(samples)
    assert own.load_audio(1, 8_000).shape == (8_000,)
    with pytest.raises(AudioError, match=r"2\.wav"):
        own.load_audio(2, 16_000)


def test_sets_are_opened_without_pytorch(wavs: Path) -> None:
    (wavs / "a.json").write_text('[{"path": "0.wav", "text": "a"}]', encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from salmonn.data.dataset import open_samples\n"
        f"open_samples({str(wavs / 'a.json')!r}, prefix={str(wavs)!r}, tasks={{'asr': False}}, "
        f"cache_dir=Path({str(wavs)!r}))\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_kind_of_source_follows_from_its_name(wavs: Path) -> None:
    rows = '{"path": "0.wav", "text": "a"}\n{"path": "1.wav", "text": "b"}\n'
    (wavs / "a.jsonl").write_text(rows, encoding="utf-8")
    (wavs / "a.json").write_text(f"[{','.join(rows.split(chr(10))[:2])}]", encoding="utf-8")
    one, two = (
        open_samples(str(wavs / name), prefix=str(wavs), tasks={"asr": False}, cache_dir=wavs / "cache")
        for name in ("a.json", "a.jsonl")
    )
    assert list(one) == list(two) == [Sample(wavs / "0.wav", "a", "asr", ""), Sample(wavs / "1.wav", "b", "asr", "")]
    assert one.fingerprint == two.fingerprint
    assert one.location == str(wavs)


def test_validation_covers_every_sample_exactly_once() -> None:
    assert list(in_order(5, 2)) == [[0, 1], [2, 3], [4]]


def test_collation_without_a_generator_takes_first_wordings(samples: list[Sample], book: PromptBook) -> None:
    batch = collate(samples, [4, 1], book, rng=None, multi_prompt=True)
    assert batch.indices == (4, 1)
    assert batch.prompts == (f"{SLOT} asr a",) * 2
    assert batch.targets == ("text 4", "text 1")


def test_many_wordings_are_drawn_for_every_sample_or_once_for_a_task(wavs: Path, book: PromptBook) -> None:
    mixed = [Sample(wavs / "0.wav", "t", task, "") for task in ["asr", "v2"] * 10]
    places = range(20)
    each = collate(mixed, places, book, rng=random.Random(1), multi_prompt=True)
    once = collate(mixed, places, book, rng=random.Random(1), multi_prompt=False)
    assert len(set(each.prompts)) > 3
    assert len(set(once.prompts)) == 2
    assert each == collate(mixed, places, book, rng=random.Random(1), multi_prompt=True)
    # A mixed batch leaves nothing behind: the next one without many wordings draws once again.
    assert len(set(collate(mixed, places, book, rng=random.Random(2), multi_prompt=False).prompts)) == 2


def test_questions_are_filled_in(wavs: Path, book: PromptBook) -> None:
    asked = [Sample(wavs / "0.wav", "a", "QA", "Who {speaks}?")]
    assert collate(asked, [0], book, rng=random.Random(1), multi_prompt=True).prompts == (f"{SLOT} Who {{speaks}}?",)
