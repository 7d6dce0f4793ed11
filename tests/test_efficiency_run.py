"""Tests of the efficiency commands: clips, the file that is written, the table, and what is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site
from timed_model import TimedLM

from evaluator.cli import build_evaluate_command, main
from evaluator.errors import AudioError, ConfigError, ResultError
from evaluator.speed.clips import from_annotation, from_noise, spread_places
from evaluator.speed.plan import EfficiencyPlan
from evaluator.speed.run import run_efficiency
from evaluator.speed.table import TITLES, read_column, table

ROOT = Path(__file__).resolve().parents[1]
TASKS = {"asr": False, "qa": True}
CANARY = "hf_CANARYcanaryCANARY1234"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def invoke(provider: FakeProvider, site: Site, *args: str) -> Result:
    """Run the evaluate command of a provider in this process."""
    return CliRunner().invoke(build_evaluate_command(provider, default_config=site.config), args)


def measured(site: Site, model: Any = None, **plan: Any) -> Path:
    """Measure a model whose time is made up."""
    model = model or TimedLM()
    wanted: dict[str, Any] = {"mode": None, "noise": (), "most_clips": 3, "repeats": 2, **plan}
    return run_efficiency(FakeProvider(model=model), site.load(), EfficiencyPlan(**wanted), clock=model.clock)


@pytest.mark.parametrize(
    ("total", "most", "expected"),
    [(10, 4, [0, 2, 5, 7]), (3, 32, [0, 1, 2]), (1, 1, [0]), (100, 3, [0, 33, 66])],
)
def test_clips_are_spread_over_the_annotation(total: int, most: int, expected: list[int]) -> None:
    assert spread_places(total, most) == expected


def test_clips_of_an_annotation(site: Site) -> None:
    chosen = from_annotation(site.load(), "valid_asr", FakeProvider().labels, most=2)
    requests = chosen.requests(16000)
    assert [request.index for request in requests] == [0, 2]
    assert chosen.source["ids"] == ["test0000", "test0002"]
    assert chosen.source["rows"] == 5
    assert len(chosen.source["annotation"]["sha256"]) == 64


def test_a_clip_that_cannot_be_read_is_named(site: Site) -> None:
    (site.wavs / "clip0.wav").write_text("not audio")
    provider = FakeProvider(model=TimedLM())
    with pytest.raises(AudioError, match=r"clip0\.wav"):
        run_efficiency(provider, site.load(), EfficiencyPlan(mode=None, noise=(), most_clips=3, repeats=1))
    assert provider.loads == []
    assert not (site.results / "efficiency_results").exists()


def test_noise_is_the_same_every_time() -> None:
    first, second = (from_noise((2.0, 1.0), TASKS, mode=None).requests(16000) for _ in range(2))
    assert [len(request.audio) for request in first] == [32000, 16000]
    assert all(np.array_equal(one.audio, other.audio) for one, other in zip(first, second, strict=True))
    assert first[0].audio.dtype == np.float32
    assert {(request.task, request.question) for request in first} == {("asr", "")}


def test_noise_asks_the_modes_task_and_a_question_where_one_is_needed() -> None:
    asked = from_noise((1.0,), {"asr": False, "audiocaption_v2": False}, mode="valid_aac").requests(16000)
    assert asked[0].task == "audiocaption_v2"
    assert from_noise((1.0,), {"qa": True}, mode=None).requests(16000)[0].question


@pytest.mark.parametrize("seconds", [(0.0,), (0.9,), (-1.0,), (30.1,), (float("nan"),), ()])
def test_noise_of_impossible_lengths_is_refused(seconds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="--noise takes lengths"):
        from_noise(seconds, TASKS, mode=None)


def test_a_task_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="knows none of the tasks audiocaption"):
        from_noise((1.0,), TASKS, mode="valid_aac")


def test_the_file_says_how_it_was_measured(site: Site) -> None:
    data = json.loads(measured(site, noise=(2.0, 6.0, 2.0, 6.0)).read_text())
    assert data["figures"]["batch1_final_text_seconds_p50"] == {
        "median": 2.0,
        "lowest": 2.0,
        "highest": 2.0,
        "rounds": [2.0, 2.0],
    }
    assert data["figures"]["full_rtfx"]["median"] == 8.0
    assert (data["protocol"]["rounds"], data["protocol"]["warm_up_rounds"]) == (2, 1)
    assert data["clips"]["seconds"] == [2.0, 6.0, 2.0, 6.0]
    assert data["clips"]["tokens"] == [5, 5, 5, 5]
    assert data["settings"] == {"device": "made up", "num_beams": 1}
    assert data["model_figures"]["parameters_total"] == 1234567
    assert data["peak_memory_bytes"]["process_since_start"] > 0
    assert data["texts"] == {"compared": 4, "different": 0}
    assert data["machine"]["cores"] >= 1
    assert data["config"]["run"]["batch_size_eval"]
    assert "python" in data["versions"]


def test_no_token_reaches_the_file(site: Site) -> None:
    site.change({"model": {"token": CANARY}})
    result = invoke(FakeProvider(), site, "--efficiency", "--repeats", "1")
    assert result.exit_code == 0, result.output
    [path] = site.results.glob("efficiency_results/*/efficiency.json")
    assert CANARY not in path.read_text() + result.output


def test_two_measurements_of_one_second_keep_apart(site: Site) -> None:
    paths = {measured(site, repeats=1) for _ in range(3)}
    assert len(paths) == 3


def test_every_figure_has_a_title_and_a_definition(site: Site) -> None:
    data = json.loads(measured(site, TimedLM(certain=False)).read_text())
    defined = (ROOT / "docs" / "efficiency.md").read_text(encoding="utf-8")
    for name in data["figures"]:
        assert name in TITLES, name
    for name in TITLES:
        assert f"`{name.removesuffix('_p50').removesuffix('_p95').removesuffix('_mean')}`" in defined, name


def test_the_table_shows_figures_with_their_range(site: Site) -> None:
    lines = table([read_column(measured(site, TimedLM(slow_calls=8), repeats=3, most_clips=5))])
    shown = {line.partition("  ")[0]: line for line in lines}
    assert "2 (2-62)" in shown["batch 1: time to final text p95 (s)"]
    assert "1,234,567" in shown["parameters"]
    assert "conditions:" in lines
    assert "made up" in shown["device"]


def test_conditions_that_differ_are_told(site: Site) -> None:
    one, other = (read_column(measured(site, noise=noise)) for noise in ((2.0,), (4.0,)))
    lines = table([one, other])
    after = lines[lines.index("conditions that differ:") + 1 :]
    assert any(line.startswith("clips") and "1, 2.0 s" in line and "1, 4.0 s" in line for line in after)
    assert not any(line.startswith("device ") for line in after)


def test_missing_figures_are_told_with_the_reason(site: Site) -> None:
    result = invoke(FakeProvider(model=EchoLM()), site, "--efficiency", "--repeats", "1", "--clips", "4")
    assert result.exit_code == 0, result.output
    assert "no parameters, MACs: not offered by this model" in result.stdout
    assert "time to first token p50" not in result.stdout
    assert "time to final text p50" in result.stdout


def test_the_command_shows_folders_and_files(site: Site) -> None:
    path = measured(site)
    for given in (path, path.parent):
        result = CliRunner().invoke(main, ["efficiency", str(given), str(path)])
        assert result.exit_code == 0, result.output
        assert result.stdout.count(path.parent.name) >= 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "no json",
        '{"figures": 3}',
        '{"figures": {"full_seconds": 3}}',
        '{"figures": {"full_seconds": {}}}',
        '{"figures": {"full_seconds": {"median": "1", "lowest": 1, "highest": 1}}}',
        '{"figures": {}, "clips": {"seconds": ["long"]}}',
        '{"figures": {}, "notes": 3}',
        '{"speed": {"tokens": "many"}}',
        '{"speed": {}, "latency": {"figures": {"batch1_rtfx": [1]}}}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"run\.json"):
        read_column(path)
    result = CliRunner().invoke(main, ["efficiency", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (3, "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--mode", "valid_asr", "--clips", "3"], "--clips belongs to --efficiency"),
        (["--check", "--noise", "1"], "--noise belongs to --efficiency"),
        (["--check", "--efficiency"], "give one of them"),
        (["--efficiency", "--noise", "a,b"], "lengths in seconds"),
        (["--efficiency", "--noise", "31"], "from 1 to 30 s"),
        (["--efficiency", "--repeats", "0"], "--repeats"),
    ],
)
def test_usage_errors(site: Site, args: list[str], message: str) -> None:
    result = invoke(FakeProvider(), site, *args)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
def test_the_nano_model_is_measured_whole(tmp_path: Path) -> None:
    """Nothing of a time is asserted but that there is one."""
    search = os.pathsep.join([str(ROOT / "audiolm-trainer"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "evaluate_salmonn.py"), "--efficiency", "--mode", "valid_aac", "--clips", "4",
            "--repeats", "1", "--output-dir", str(tmp_path), "--options", "generate.num_beams=1",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("efficiency_results/*/efficiency.json")
    data = json.loads(path.read_text())
    assert str(path) in done.stdout
    assert set(data["missing"]) <= {"device memory", "batch1_further_token_seconds"}
    assert all(spread["lowest"] > 0 for spread in data["figures"].values())
    named = {name for name in TITLES if name.startswith(("batch1_", "full_"))}
    assert {name for name in named ^ set(data["figures"]) if "further" not in name} == set()
    assert data["model_figures"]["macs_encoders"] > data["model_figures"]["macs_token"] > 0
    assert data["settings"]["num_beams"] == 1


def test_every_evaluation_tells_its_speed(site: Site) -> None:
    result = invoke(FakeProvider(), site, "--mode", "valid_asr")
    assert result.exit_code == 0, result.output
    [path] = site.results.glob("valid_results/*/run.json")
    data = json.loads(path.read_text())
    speed = data["speed"]
    assert speed["tokens"] == 10
    # The run rounds its seconds to milliseconds; where they are 0 there is no speed.
    assert (speed["rtfx"] is None) == (data["seconds"]["predict"] == 0)
    assert speed["pull_to_answer_seconds_p95"] >= speed["pull_to_answer_seconds_p50"] > 0
    lines = table([read_column(path.parent)])
    assert any(line.startswith("evaluation: tokens ") and line.endswith(" 10") for line in lines)
    assert any(line.startswith("mode ") and "valid_asr" in line for line in lines)


def test_an_evaluation_and_a_measurement_side_by_side(site: Site) -> None:
    def provider() -> FakeProvider:
        return FakeProvider(model=TimedLM())

    assert invoke(provider(), site, "--efficiency", "--mode", "valid_asr", "--repeats", "1").exit_code == 0
    assert invoke(provider(), site, "--mode", "valid_asr").exit_code == 0
    [measured_file] = site.results.glob("efficiency_results/*/efficiency.json")
    [run_file] = site.results.glob("valid_results/*/run.json")
    measured_data, run_data = (json.loads(path.read_text()) for path in (measured_file, run_file))
    latency = run_data["latency"]
    at_batch_1 = {name for name in measured_data["figures"] if name.startswith("batch1_")}
    assert set(latency["figures"]) == at_batch_1
    assert set(latency["figures"]["batch1_rtfx"]) == {"median", "lowest", "highest", "rounds"}
    assert set(measured_data["peak_memory_bytes"]) <= set(run_data["peak_memory_bytes"])
    assert set(latency["model_figures"]) == set(measured_data["model_figures"])
    lines = table([read_column(measured_file), read_column(run_file.parent)])
    rows = {line.partition("  ")[0]: line.split() for line in lines}
    for name in (*at_batch_1, "device_batch1", "device_full", "process_since_start", "parameters_total"):
        assert "-" not in rows[TITLES[name]], name
    differ = [line.split()[0] for line in lines[lines.index("conditions that differ:") + 1 :]]
    assert not {"processor", "cores", "device", "rounds", "num_beams"} & set(differ)


def test_names_of_before_are_read(site: Site, tmp_path: Path) -> None:
    """Files of finished runs say real_time_factor; side by side with new ones they stand in the same row."""
    new = measured(site)
    old = tmp_path / "old" / "efficiency.json"
    old.parent.mkdir()
    text = new.read_text().replace("_rtfx", "_real_time_factor").replace("_rtf", "_seconds_per_audio_second")
    assert '"batch1_real_time_factor"' in text
    old.write_text(text)
    assert read_column(old).figures == read_column(new).figures
    invoke(FakeProvider(model=TimedLM()), site, "--mode", "valid_asr")
    [run] = site.results.glob("valid_results/*/run.json")
    former = tmp_path / "run" / "run.json"
    former.parent.mkdir()
    former.write_text(run.read_text().replace("rtfx", "real_time_factor").replace("rtf", "seconds_per_audio_second"))
    assert read_column(former).figures == read_column(run).figures
    assert "batch 1: RTFx (audio s per inference s)" in read_column(former).figures


def test_a_run_without_latency_says_why_in_the_table(site: Site) -> None:
    invoke(FakeProvider(), site, "--mode", "valid_asr", "--options", "run.latency_clips=0")
    [path] = site.results.glob("valid_results/*/run.json")
    assert "no latency: run.latency_clips is 0" in table([read_column(path)])


def test_rows_without_an_answer_have_no_speed(site: Site) -> None:
    (site.wavs / "clip1.wav").write_text("not audio")
    invoke(FakeProvider(), site, "--mode", "submission_asr", "--options", "run.on_audio_error=record")
    [path] = site.results.glob("submission_results/*/run.json")
    assert json.loads(path.read_text())["speed"]["tokens"] == 8
