"""Tests with every kind of audio file: what is heard of each, and a run over all of them that loses no row."""

import csv
from pathlib import Path

import pytest
from audio_corpus import RATE, Kind, make_corpus
from fake_model import EchoLM, FakeProvider
from fake_site import make_site

from evaluator.audio.loading import check_audio, load_audio
from evaluator.errors import AudioError
from evaluator.evaluate import evaluate

FEWEST = 60
# A frame of a lossy codec, or what an encoder puts in front.
TOLERANCE = 0.08


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Kind]:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def outcome(kind: Kind) -> float | str:
    """Seconds heard, or why not."""
    try:
        return len(load_audio(kind.path, RATE)) / RATE
    except AudioError as error:
        return error.message


def test_every_kind_is_heard_or_refused_with_its_reason(corpus: list[Kind]) -> None:
    assert len(corpus) >= FEWEST
    wrong = []
    for kind in corpus:
        found = outcome(kind)
        if isinstance(found, float):
            good = kind.seconds is not None and abs(found - kind.seconds) <= TOLERANCE
        else:
            good = kind.seconds is None and kind.refused in found and repr(str(kind.path)) in found
        if not good:
            wrong.append((kind.name, kind.seconds or kind.refused, found))
    assert wrong == []


def test_what_the_header_check_refuses_is_refused_when_it_is_read(corpus: list[Kind]) -> None:
    for kind in corpus:
        try:
            check_audio(kind.path)
        except AudioError:
            assert kind.seconds is None, kind.name


@pytest.mark.parametrize("workers", [0, 4])
def test_a_run_over_all_kinds_loses_no_row(corpus: list[Kind], tmp_path: Path, workers: int) -> None:
    site = make_site(tmp_path)
    # A file name with a line break is refused in an annotation, whose messages are lines.
    kinds = [kind for kind in corpus if "\n" not in kind.name]
    rows = [
        {"testset_id": f"test{number:04d}", "path": str(kind.path), "task": "asr", "text": "a tone"}
        for number, kind in enumerate(kinds)
    ]
    site.write_annotation(rows)
    site.change({"run": {"on_audio_error": "record", "num_workers": workers, "latency_clips": 0}})
    result = evaluate(FakeProvider(model=EchoLM(batch_size=4)), site.load(), "valid_asr")
    refused = {row["testset_id"] for row, kind in zip(rows, kinds, strict=True) if kind.seconds is None}
    assert {failure.id for failure in result.failures} == refused
    assert (result.counts.rows, result.counts.failed, result.exit_code) == (len(kinds), len(refused), 1)
    with result.csv_path.open(encoding="utf-8", newline="") as file:
        found = {row["testset_id"]: row["text"] for row in csv.DictReader(file)}
    assert list(found) == [row["testset_id"] for row in rows]
    assert {name for name, text in found.items() if text == "."} == refused
