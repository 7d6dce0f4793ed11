"""What a newcomer sees: the default configuration, the shipped model and data, run from another folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The words of captions that name a class of sound.
NAMES = {
    "rain": "rain", "wind": "wind", "siren": "siren", "thunder": "thunder", "clock": "clock", "dog": "dog",
    "bell": "bell", "engine": "engine", "waves": "waves",
}  # fmt: skip


def run(arguments: list[str], folder: Path) -> str:
    search = os.pathsep.join([str(ROOT / "audiolm-trainer"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        # Two threads that wait for each other by spinning take many times as long on a busy machine.
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def evaluate(mode: str, folder: Path, *options: str) -> Path:
    folder.mkdir(exist_ok=True)
    run([str(ROOT / "evaluate_salmonn.py"), "--mode", mode, *options], folder)
    results = folder / ("valid_results" if mode.startswith("valid") else "submission_results")
    [csv] = results.glob(f"*_{mode}.csv")
    return csv


def metrics(csv: Path) -> dict[str, Any]:
    scores = json.loads((csv.with_suffix("") / "scores.json").read_text(encoding="utf-8"))
    return {metric["name"]: metric["value"] for metric in scores["metrics"]}


@pytest.mark.slow
def test_transcripts_of_the_sample_are_as_good_as_the_model_card_says(tmp_path: Path) -> None:
    assert metrics(evaluate("valid_asr", tmp_path))["wer"] <= 0.05


@pytest.mark.slow
def test_captions_of_the_sample_are_as_good_as_the_model_card_says(tmp_path: Path) -> None:
    csv = evaluate("valid_aac", tmp_path)
    assert metrics(csv)["cider_d"] >= 2.0
    events = json.loads((ROOT / "data/sample/events.json").read_text(encoding="utf-8"))
    lines = (csv.with_suffix("") / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {record["id"]: record["text"] for record in map(json.loads, lines)}
    singles = [(entry["events"][0], texts[key]) for key, entry in events.items() if entry["kind"] == "single"]
    known = [(event, text) for event, text in singles if event in NAMES]
    assert len(known) >= 15
    assert sum(NAMES[event] in text for event, text in known) >= 0.9 * len(known)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["asr", "aac"])
def test_a_submission_of_the_sample_validates(tmp_path: Path, task: str) -> None:
    csv = evaluate(f"submission_{task}", tmp_path)
    annotation = ROOT / "data" / "sample" / f"{task}.json"
    output = run([str(ROOT / "submission_validator.py"), str(csv), "--annotation", str(annotation)], tmp_path)
    assert output == "Validation passed: The CSV file is valid.\n"


@pytest.mark.slow
def test_texts_of_the_sample_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    """All 100 sentences: in batches of 8 as configured, and one clip at a time."""
    batched = evaluate("submission_asr", tmp_path)
    alone = evaluate("submission_asr", tmp_path / "alone", "--options", "run.batch_size_eval=1")
    assert batched.read_bytes() == alone.read_bytes()
    assert batched.read_text(encoding="utf-8").count("\n") == 101
