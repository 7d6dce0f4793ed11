"""Tests of control runs: what is heard instead, that nothing else changes, and what listening gains."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site

from evaluator.cli import build_evaluate_command
from evaluator.errors import ConfigError
from evaluator.model import Request
from evaluator.provider.control import replaced
from evaluator.tasks import Control

ROOT = Path(__file__).resolve().parents[1]


def clips(*lengths: int) -> list[Request]:
    return [Request(row, np.full(length, 0.5, np.float32), "asr", "") for row, length in enumerate(lengths)]


@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_length_stays_and_the_clip_is_gone(kind: Control) -> None:
    for before, after in zip(clips(16000, 8000), replaced(clips(16000, 8000), kind), strict=True):
        assert (after.index, after.audio.shape, after.audio.dtype) == (before.index, before.audio.shape, np.float32)
        loudness = float(np.sqrt(np.mean(after.audio**2)))
        assert loudness == (0.0 if kind == "silence" else pytest.approx(0.5, rel=0.05))
        assert abs(float(np.mean(after.audio))) < 0.02


def test_shuffled_clips_are_those_before() -> None:
    heard = [len(request.audio) for request in replaced(clips(1, 2, 3, 4), "shuffle")]
    assert heard == [2, 1, 2, 3]
    assert list(replaced([], "shuffle")) == []
    with pytest.raises(ConfigError, match="there is one only"):
        list(replaced(clips(1), "shuffle"))


def test_requests_are_pulled_as_they_are_needed() -> None:
    pulled: list[int] = []

    def stream() -> Any:
        for request in clips(1, 2, 3, 4):
            pulled.append(request.index)
            yield request

    asked = replaced(stream(), "shuffle")
    next(asked)
    assert pulled == [0, 1]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def invoke(site: Site, provider: FakeProvider, *args: str) -> Result:
    return CliRunner().invoke(build_evaluate_command(provider, default_config=site.config), args)


def test_both_runs_are_scored_and_the_model_is_loaded_once(site: Site) -> None:
    provider = FakeProvider(model=EchoLM(say=lambda request: "hound" if request.audio.any() else "nothing"))
    result = invoke(site, provider, "--mode", "valid_asr", "--control", "silence")
    assert result.exit_code == 0, result.output
    assert len(provider.loads) == 1
    assert "listening gain: the same prompts with silence" in result.stdout
    [plain] = site.results.glob("valid_results/*_valid_asr/run.json")
    [other] = site.results.glob("control_silence/valid_results/*_valid_asr/run.json")
    models = [json.loads(path.read_text(encoding="utf-8"))["model"] for path in (plain, other)]
    assert models[1] == f"{models[0]}, hearing silence"
    answers = (other.parent / "predictions.jsonl").read_text(encoding="utf-8")
    assert "nothing" in answers
    assert "hound" not in answers


@pytest.mark.parametrize("args", [("--mode", "submission_asr"), ("--check",), ("--efficiency",)])
def test_it_belongs_to_valid_modes(site: Site, args: tuple[str, ...]) -> None:
    result = invoke(site, FakeProvider(), *args, "--control", "noise")
    assert result.exit_code == 2
    assert "--control compares scores" in result.stderr


def test_shuffle_measures_latency_once_and_complains_of_nothing(site: Site) -> None:
    """Latency asks clips alone, where nothing can be exchanged."""
    result = invoke(site, FakeProvider(), "--mode", "valid_asr", "--control", "shuffle")
    assert result.exit_code == 0, result.output
    assert "Latency was not measured" not in result.stderr
    [other] = site.results.glob("control_shuffle/valid_results/*_valid_asr/run.json")
    assert json.loads(other.read_text(encoding="utf-8"))["latency"] == {"reason": "run.latency_clips is 0"}


def test_one_clip_is_not_shuffled(site: Site) -> None:
    result = invoke(site, FakeProvider(), "--mode", "valid_asr", "--control", "shuffle", "--limit", "1")
    assert result.exit_code == 2
    assert "fewer than two were heard: take silence or noise" in result.stderr
    assert "--resume" not in result.stderr
    assert not list(site.results.glob("control_*"))


def test_a_control_run_is_not_gone_on_with_by_what_was_heard(site: Site) -> None:
    """Else a file would mix answers to the clips with answers to silence."""
    loads = FakeProvider(model=EchoLM(say=_broken_by_silence))
    result = invoke(site, loads, "--mode", "valid_asr", "--control", "silence")
    assert result.exit_code != 0
    assert "A control run is not gone on with: begin it anew." in result.stderr
    [folder] = site.results.glob("control_silence/valid_results/*_valid_asr")
    output = str(site.results / "control_silence")
    again = invoke(site, FakeProvider(), "--mode", "valid_asr", "--output-dir", output, "--resume", str(folder))
    assert again.exit_code == 3
    assert "cannot be resumed: control differ(s)" in again.stderr


def _broken_by_silence(request: Request) -> str:
    if not request.audio.any():
        raise RuntimeError("silence")
    return "hound"


@pytest.mark.slow
def test_the_nano_model_listens(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "evaluate_salmonn.py"), "--mode", "valid_asr", "--control", "shuffle",
         "--output-dir", str(tmp_path), "--options", "run.latency_clips=0"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [scores] = tmp_path.glob("control_shuffle/valid_results/*/scores.json")
    metrics = {metric["name"]: metric["value"] for metric in json.loads(scores.read_text(encoding="utf-8"))["metrics"]}
    assert metrics["wer"] >= 0.9


def test_control_rows_are_drawn_of_the_clips_and_scored_as_a_set_of_their_own(site: Site) -> None:
    provider = FakeProvider(model=EchoLM(say=lambda request: "hound" if request.audio.any() else "nothing"))
    first = invoke(site, provider, "--mode", "valid_asr", "--control", "silence", "--control-rows", "3")
    assert first.exit_code == 0, first.output
    [run] = site.results.glob("valid_results/*_valid_asr")
    rows = len((run / "predictions.jsonl").read_text(encoding="utf-8").splitlines())
    assert f"with silence, 3 clips drawn of {rows} (seed 0)" in first.stdout
    [heard] = site.results.glob("control_silence/heard_*")
    [other] = site.results.glob("control_silence/valid_results/*_valid_asr")
    told = [json.loads((folder / "scores.json").read_text(encoding="utf-8")) for folder in (heard, other)]
    ids = [scores["per_sample"]["id"] for scores in told]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3
    assert {scores["num_samples"] for scores in told} == {3}
    whole = json.loads((run / "scores.json").read_text(encoding="utf-8"))["per_sample"]
    edits = dict(zip(whole["id"], whole["word_edits"], strict=True))
    assert told[0]["per_sample"]["word_edits"] == [edits[name] for name in ids[0]]
    texts = [json.loads(line)["text"] for line in (other / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert texts == ["nothing"] * 3


def test_the_same_clips_are_drawn_for_a_seed(site: Site) -> None:
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        options = ("--options", f"scoring.bootstrap_seed={seed}", f"run.output_dir={site.results}/{len(drawn)}")
        result = invoke(
            site, FakeProvider(), "--mode", "valid_asr", "--control", "noise", "--control-rows", "2", *options
        )
        assert result.exit_code == 0, result.output
        [rows] = site.results.glob(f"{len(drawn)}/control_noise/heard_*/rows.json")
        drawn.append([row["testset_id"] for row in json.loads(rows.read_text(encoding="utf-8"))["annotation"]])
    assert drawn[0] == drawn[1]
    assert len({tuple(ids) for ids in drawn}) > 1


def test_rows_of_one_clip_are_drawn_together(site: Site) -> None:
    result = invoke(site, FakeProvider(), "--mode", "valid_aac", "--control", "shuffle", "--control-rows", "2",
                    "--options", "scoring.metrics=[cider_d]")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2 clips drawn of" in result.stdout
    assert "CIDEr-D" in result.stdout.partition("listening gain")[2]


def test_as_many_rows_as_there_are_draw_nothing(site: Site) -> None:
    result = invoke(site, FakeProvider(), "--mode", "valid_asr", "--control", "noise", "--control-rows", "1000")
    assert result.exit_code == 0, result.output
    assert "drawn" not in result.stdout
    assert not list(site.results.glob("control_noise/heard_*"))


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--control-rows", "3"), "--control-rows bounds --control"),
        (("--control", "shuffle", "--control-rows", "1"), "must be 2 or more"),
    ],
)
def test_stray_control_rows(site: Site, args: tuple[str, ...], told: str) -> None:
    result = invoke(site, FakeProvider(), "--mode", "valid_asr", *args)
    assert result.exit_code == 2
    assert told in result.stderr
