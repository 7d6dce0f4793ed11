"""`audiolm-evaluator run --model python:...`: real processes of the command that a user types."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_site import Site, make_site

import evaluate_salmonn
from evaluator.cli import main
from evaluator.run.journal import read_journal

ROOT = Path(__file__).resolve().parents[1]
MODEL = """
import os, signal
from fake_model import EchoLM

def load(config, device):
    left = config["generate"].get("die_after")
    def say(request):
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return f"heard {len(request.audio)} on {device}"
    return EchoLM(say=say, batch_size=2)

def nothing(config, device):
    return object()
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    (tmp_path / "my_model.py").write_text(MODEL)
    return site


def run(site: Site, model: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("audiolm-evaluator")), "run", "--model", model, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "docs/examples")])}
    return subprocess.run(command, cwd=site.folder, env=environment, capture_output=True, text=True, timeout=120)


ASR = ("--mode", "valid_asr", "--annotation", "asr.json", "--output-dir", "out", "--device", "cpu")
PREFIX = ("--options", "datasets.prefix=wavs", "run.latency_clips=0")


def test_a_factory_needs_no_yaml_and_workers_give_the_same_bytes(site: Site) -> None:
    alone = run(site, "python:my_model:load", *ASR, *PREFIX)
    assert alone.returncode == 0, alone.stderr
    workers = run(site, "python:my_model:load", *ASR, *PREFIX, "--workers", "2")
    assert workers.returncode == 0, workers.stderr
    first, second = sorted((site.folder / "out/valid_results").glob("*.csv"))
    assert first.read_bytes() == second.read_bytes()
    assert "heard 16000 on cpu" in first.read_text()
    record = json.loads((first.with_suffix("") / "run.json").read_text())
    assert record["model"] == "python:my_model:load"
    assert record["identity"]["model.name"].startswith("python:my_model:load ")


def test_the_script_of_a_package_runs_other_models_too(site: Site) -> None:
    asked = ("--model", "python:my_model:load", *ASR, *PREFIX)
    named = run(site, asked[1], *asked[2:])
    command = [sys.executable, str(ROOT / "evaluate_salmonn.py"), *asked]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    script = subprocess.run(command, cwd=site.folder, env=environment, capture_output=True, text=True, check=False)
    assert (named.returncode, script.returncode) == (0, 0), script.stderr
    first, second = sorted((site.folder / "out/valid_results").glob("*.csv"))
    assert first.read_bytes() == second.read_bytes()
    records = [json.loads((each.with_suffix("") / "run.json").read_text()) for each in (first, second)]
    assert records[0]["identity"] == records[1]["identity"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("--model", "python:a:b", "--trainer", "."), "--trainer and --model are two models: give one of them."),
        (("--prompts", "p.yaml"), "--prompts belongs to --model: give that too."),
        (("--trainer", ".", "--trust-remote-code"), "--trust-remote-code belongs to --model: give that too."),
        (("--model", "x"), "unknown kind 'x'"),
        (("--annotation", "no.json"), "datasets.test_ann_path_asr: there is no file 'no.json'"),
    ],
)
def test_the_script_refuses_two_models(typed: tuple[str, ...], told: str) -> None:
    ended = CliRunner().invoke(evaluate_salmonn.main, [*typed, "--mode", "valid_asr"])
    assert ended.exit_code == 2
    assert told in ended.output


def test_a_killed_run_goes_on_only_with_the_same_code(site: Site) -> None:
    dying = run(site, "python:my_model:load", *ASR, *PREFIX, "generate.die_after=3")
    assert dying.returncode == -9
    [folder] = [path for path in (site.folder / "out/valid_results").iterdir() if path.is_dir()]
    assert len(read_journal(next(folder.rglob("*.jsonl")))) == 3
    (site.folder / "my_model.py").write_text(MODEL + "# changed\n")
    other = run(site, "python:my_model:load", *ASR, *PREFIX, "generate.die_after=3", "--resume", str(folder))
    assert other.returncode == 3
    assert "model.name" in other.stderr
    (site.folder / "my_model.py").write_text(MODEL)
    ended = run(site, "python:my_model:load", *ASR, *PREFIX, "generate.die_after=3", "--resume", str(folder))
    assert ended.returncode == 0, ended.stderr
    assert json.loads((folder / "run.json").read_text())["rows_of_earlier_attempts"] == 3


def test_check_control_and_efficiency_are_those_of_every_model(site: Site) -> None:
    check = run(site, "python:my_model:load", "--check")
    assert (check.returncode, check.stdout.splitlines()[-1]) == (0, "The model keeps the contract.")
    control = run(site, "python:my_model:load", *ASR, *PREFIX, "--control", "silence")
    assert control.returncode == 0, control.stderr
    assert "listening gain" in control.stdout
    speed = run(site, "python:my_model:load", *ASR, *PREFIX, "--efficiency", "--clips", "2", "--repeats", "1")
    assert speed.returncode == 0, speed.stderr
    assert "RTFx" in speed.stdout


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("pyton:my_model:load", "unknown kind 'pyton'; did you mean \"python\"?"),
        ("python:my_model", "expected python:package.module:factory"),
        ("python:my_modle:load", "there is no Python module my_modle"),
        ("python:my_model:laod", 'has no laod; did you mean "load"?'),
        ("python:my_model:__name__", "my_model.py is no function, but str"),
        ("python:broken:load", "importing broken failed: ZeroDivisionError"),
        ("python:lacking:load", "lacking needs the Python package nobody_has_this, which is not installed"),
    ],
)
def test_a_wrong_name_is_told_before_anything_runs(site: Site, model: str, told: str) -> None:
    (site.folder / "broken.py").write_text("1 / 0")
    (site.folder / "lacking.py").write_text("import nobody_has_this")
    ended = run(site, model, *ASR, *PREFIX)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_is_no_model_is_told(site: Site) -> None:
    ended = run(site, "python:my_model:nothing", *ASR, *PREFIX)
    assert ended.returncode == 4
    assert "returned object, which lacks sampling_rate or generate" in ended.stderr


def test_options_of_other_kinds_are_refused() -> None:
    ended = CliRunner().invoke(main, ["run", "--model", "python:a:b", "--trust-remote-code", "--check"])
    assert ended.exit_code == 2
    assert "--trust-remote-code: does not belong to python: models" in ended.output
    ended = CliRunner().invoke(main, ["run", "--model", "python:a:b", "--annotation", "x.json", "--check"])
    assert "--annotation belongs to a mode" in ended.output


def test_the_example_of_the_documentation_hears_words(site: Site) -> None:
    pytest.importorskip("pocketsphinx")
    sample = ROOT / "data/sample"
    ended = run(
        site, "python:pocketsphinx_model:load", "--mode", "valid_asr", "--annotation", str(sample / "asr.json"),
        "--limit", "3", "--output-dir", "out", "--options", f"datasets.prefix={sample}", "run.latency_clips=0",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    [csv] = (site.folder / "out/valid_results").glob("*.csv")
    assert sum(len(line.split()) > 1 for line in csv.read_text().splitlines()[1:]) == 3
