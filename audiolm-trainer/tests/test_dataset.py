"""Sets: one report for every wrong row, the seeded order of batches, pure collation, waveforms read ahead."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from salmonn.dataset import (
    BATCHES_AHEAD,
    SHOWN_PROBLEMS,
    Sample,
    ShuffledBatches,
    collate,
    in_order,
    read_annotation,
    stream_waves,
)
from salmonn.errors import AudioError, DatasetError
from salmonn.prompts import PromptBook

SLOT = "<Speech><SpeechHere></Speech>"
TASKS = {"asr": False, "QA": True}


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


def write(folder: Path, data: object) -> Path:
    path = folder / "ann.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_rows_become_samples_with_the_originals_defaults(wavs: Path) -> None:
    rows = [
        {"path": "0.wav", "text": "one"},
        {"path": str(wavs / "1.wav"), "text": "two", "task": "QA", "Q": "What?", "expand_wav": []},
    ]
    expected = [Sample(wavs / "0.wav", "one", "asr", ""), Sample(wavs / "1.wav", "two", "QA", "What?")]
    for data in ({"annotation": rows}, rows):
        assert read_annotation(write(wavs, data), prefix=str(wavs), tasks=TASKS) == expected


def test_every_wrong_row_is_in_one_report(wavs: Path) -> None:
    rows: list[Any] = [
        {"path": "0.wav", "text": "fine"},
        {"path": "none.wav", "text": "a"},
        {"path": "0.wav"},
        {"path": 3, "text": ""},
        {"path": "0.wav", "text": "a", "task": "asrr"},
        {"path": "0.wav", "text": "a", "task": "QA"},
        {"path": "../0.wav", "text": "a"},
        {"path": ".", "text": "a"},
        "row",
    ]
    with pytest.raises(DatasetError) as caught:
        read_annotation(write(wavs, {"annotation": rows}), prefix=str(wavs), tasks=TASKS)
    report = str(caught.value)
    for part in (
        "has 9 problems",
        "row 1: path: ",
        "none.wav' does not exist",
        "row 2: text: must be a text (found None)",
        "row 3: path: must be a text (found 3)",
        "row 3: text: must be a text (found '')",
        "row 4: task: 'asrr' has no training prompt (known: QA, asr)",
        "row 5: Q: task 'QA' needs a question",
        "row 6: path: '../0.wav' leaves the prefix",
        "row 7: path: ",
        "is not a file",
        "row 8: must be an object",
    ):
        assert part in report
    assert "row 0" not in report


def test_a_long_report_is_cut_and_counted(wavs: Path) -> None:
    rows = [{"path": f"none{number}.wav", "text": "a"} for number in range(SHOWN_PROBLEMS + 7)]
    with pytest.raises(DatasetError, match="and 7 more"):
        read_annotation(write(wavs, rows), prefix=str(wavs), tasks=TASKS)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("{}", "must hold"), ('{"annotation": []}', "has no rows"), ("3", "must hold")],
)
def test_files_that_are_no_annotation_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_annotation(write(tmp_path, text), prefix="", tasks=TASKS)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_annotation(tmp_path / "none.json", prefix="", tasks=TASKS)


def test_a_pass_holds_every_sample_once_and_the_next_is_shuffled_anew() -> None:
    batches = ShuffledBatches(num_samples=10, batch_size=5, seed=1)
    drawn = list(batches.indices(0, 4))
    passes = [drawn[0] + drawn[1], drawn[2] + drawn[3]]
    assert [sorted(one) for one in passes] == [list(range(10))] * 2
    assert passes[0] != passes[1]
    assert list(ShuffledBatches(10, 5, seed=2).indices(0, 2)) != drawn[:2]


def test_an_incomplete_batch_is_dropped_and_any_batch_can_be_the_first() -> None:
    batches = ShuffledBatches(num_samples=7, batch_size=3, seed=1)
    assert batches.batches_per_pass == 2
    drawn = list(batches.indices(0, 9))
    assert [len(batch) for batch in drawn] == [3] * 9
    for start in range(9):
        assert list(batches.indices(start, 9)) == drawn[start:]


def test_a_set_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(DatasetError, match="3 training samples do not fill one batch of 4: lower"):
        ShuffledBatches(num_samples=3, batch_size=4, seed=1)


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


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_waveforms_come_in_order_under_their_own_index(samples: list[Sample], workers: int) -> None:
    asked = [[5, 0], [3], [1, 2, 4], [0], [5]]
    got = list(stream_waves(samples, asked, sampling_rate=16_000, workers=workers))
    assert [indices for indices, _ in got] == asked
    for indices, waves in got:
        assert [round(float(wave[0]), 3) for wave in waves] == [round(0.1 * (i + 1), 3) for i in indices]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_clip_stops_and_is_named_never_replaced(samples: list[Sample], workers: int) -> None:
    samples[2].path.write_bytes(b"not audio")
    stream = stream_waves(samples, [[0, 1], [2, 3]], sampling_rate=16_000, workers=workers)
    assert next(stream)[0] == [0, 1]
    with pytest.raises(AudioError, match=r"2\.wav"):
        next(stream)


def test_only_a_few_batches_are_pulled_ahead(samples: list[Sample]) -> None:
    pulled: list[int] = []

    def batches() -> Iterator[list[int]]:
        for number in range(100):
            pulled.append(number)
            yield [0]

    stream = stream_waves(samples, batches(), sampling_rate=16_000, workers=2)
    next(stream)
    assert len(pulled) == BATCHES_AHEAD + 1
    stream.close()  # type: ignore[attr-defined]
