"""Tests of rows that are one clip: several captions under one id, one file under several ids."""

import csv
import json
from pathlib import Path

import pytest
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site

from evaluator.evaluate import evaluate
from evaluator.run.record import EvaluationResult

CAPTIONS = {
    "clip0.wav": ("a dog barks nearby", "a dog barks and somebody talks", "in the distance a dog barks"),
    "clip1.wav": ("a bell rings nearby", "a bell rings and somebody talks", "in the distance a bell rings"),
    "clip2.wav": ("rain falls nearby", "rain falls and somebody talks", "in the distance rain falls"),
}
METRICS = {"scoring": {"metrics": ["cider_d", "bleu_1", "rouge_l"]}}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    site.change({**METRICS, "run": {"latency_clips": 0}})
    return site


def run(site: Site, rows: list[dict[str, object]]) -> EvaluationResult:
    site.write_annotation([{"task": "audiocaption_v2", **row} for row in rows])

    def say(request: object) -> str:
        return f"{list(CAPTIONS.values())[(len(request.audio) - 16000) // 1000][0]}"  # type: ignore[attr-defined]

    return evaluate(FakeProvider(model=EchoLM(say=say)), site.load(), "valid_aac")


def values(result: EvaluationResult) -> dict[str, float | None]:
    assert result.scores is not None
    return {metric.name: metric.value for metric in result.scores.metrics}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["clip by clip", "caption by caption"])
def test_rows_of_one_id_are_references_of_one_clip(site: Site, order: str) -> None:
    listed = run(site, [{"testset_id": name, "path": name, "text": list(texts)} for name, texts in CAPTIONS.items()])
    rows = [{"testset_id": name, "path": name, "text": text} for name, texts in CAPTIONS.items() for text in texts]
    if order == "caption by caption":
        rows = [row for place in range(3) for row in rows[place::3]]
    flat = run(site, rows)
    assert values(flat) == values(listed)
    assert flat.counts.rows == 3
    assert any("9 rows are 3 clips" in notice for notice in flat.notices)
    assert json.loads((flat.folder / "scores.json").read_text())["per_sample"]["id"] == list(CAPTIONS)
    with flat.csv_path.open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["testset_id", *CAPTIONS]
    # One caption at a time is another, lower number.
    split = run(site, [{**row, "testset_id": f"{row['path']}-{n}"} for n, row in enumerate(rows)])
    assert values(split)["cider_d"] < 0.8 * values(flat)["cider_d"]  # type: ignore[operator]
    assert any(
        "3 file(s) stand under several testset_ids with one reference each" in notice for notice in split.notices
    )


def test_rows_without_an_id_are_grouped_by_their_path(site: Site) -> None:
    rows = [{"path": name, "text": text} for name, texts in CAPTIONS.items() for text in texts]
    assert run(site, rows).counts.rows == 3


def test_what_stays_apart(site: Site) -> None:
    rows = [
        {"testset_id": "same", "path": "clip0.wav", "text": ["a", "b"]},
        {"testset_id": "same", "path": "clip1.wav", "text": ["a", "b"]},
        {"testset_id": "other", "path": "clip0.wav", "text": ["a", "b"]},
    ]
    result = run(site, rows)
    assert result.counts.rows == 3
    assert [notice for notice in result.notices if "testset_id" in notice] == [
        "1 testset_id(s) name different files (same); each file is a clip of its own."
    ]


def test_transcripts_and_submissions_are_not_grouped(site: Site) -> None:
    site.write_annotation([{"testset_id": "a", "path": "clip0.wav", "task": "asr", "text": t} for t in ("x", "y")])
    assert evaluate(FakeProvider(), site.load(), "valid_asr").counts.rows == 2
    ids = ("test0000", "test0001")
    site.write_annotation([{"testset_id": i, "path": "clip0.wav", "task": "audiocaption_v2"} for i in ids])
    result = evaluate(FakeProvider(), site.load(), "submission_aac")
    assert result.counts.rows == 2
    assert not any("testset_id" in notice for notice in result.notices)
