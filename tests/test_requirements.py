"""The pinned versions: both projects agree, and what breaks them stays out."""

import importlib.metadata
import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from linked_environment import REQUIREMENT, closure, make_environment

from evaluator.errors import ConfigError
from evaluator.extras import EXTRAS, check_installed

ROOT = Path(__file__).resolve().parents[1]


def pins(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-e"))]


def test_the_trainers_pins_are_the_evaluators() -> None:
    assert set(pins(ROOT / "audiolm-trainer/requirements.txt")) <= set(pins(ROOT / "requirements.txt"))


def test_every_direct_dependency_is_pinned_and_none_is_harmful() -> None:
    names = {line.partition("==")[0] for line in pins(ROOT / "requirements.txt") if "==" in line}
    assert len(names) == len({line.split("==")[0] for line in pins(ROOT / "requirements.txt")})
    fixed = {"torch", "transformers", "peft", "jiwer", "pycocoevalcap", "pandas", "pyyaml", "soundfile", "click"}
    assert fixed <= names
    assert not names & {"torchaudio", "librosa", "msclap"}
    # aac-metrics 0.5.5 and later need msclap; it is for tests alone, because it brings PyTorch.
    assert "aac-metrics" not in names
    assert '"aac-metrics==0.5.4"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("dev = [")[2]


def core(name: str = "audiolm-evaluator") -> Iterator[str]:
    """What a distribution needs without extras, and what that needs: names of distributions, some twice."""
    for requirement in importlib.metadata.requires(name) or ():
        if "extra ==" not in requirement and "sys_platform" not in requirement and "platform_system" not in requirement:
            found = REQUIREMENT.match(requirement)
            assert found is not None
            yield found.group()
            yield from core(found.group())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment of the evaluator's core alone: the packages are copied, so that no network is needed."""
    folder = tmp_path_factory.mktemp("small")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in set(core()):
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).write_bytes(Path(str(file.locate())).read_bytes())
    (site / "checkout.pth").write_text(f"{ROOT}\n")
    return folder


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of the extra asr: nothing of a model is in it."""
    return make_environment(tmp_path_factory.mktemp("scoring"), closure("audiolm-evaluator", "asr"))


def test_validating_scoring_and_hosting_need_no_pytorch(scoring: Path) -> None:
    main = ("-c", "import sys; from evaluator.cli import main; sys.argv[0] = 'audiolm-evaluator'; main()")
    for library in ("torch", "transformers", "huggingface_hub"):
        assert run(scoring, "-c", f"import {library}").returncode != 0
    rows = [{"testset_id": f"test{number:04d}", "path": "a.wav", "task": "asr", "text": "one cat"} for number in (0, 1)]
    (scoring / "ref.json").write_text(json.dumps(rows))
    (scoring / "csv").mkdir()
    (scoring / "csv" / "team.csv").write_text("testset_id,text\ntest0000,1 cat\ntest0001,one\n")
    answers = ("--annotation", "ref.json", "--predictions", "csv/team.csv")
    validated = run(scoring, *main, "validate", "csv/team.csv", "--annotation", "ref.json")
    assert validated.returncode == 0, validated.stdout + validated.stderr
    scored = run(scoring, *main, "score", *answers)
    assert "WER             25.00 %" in scored.stdout, scored.stdout + scored.stderr
    hosted = run(scoring, *main, "host", "--reference", "ref.json", "--submissions", "csv", "--output-dir", "board")
    assert hosted.returncode == 0, hosted.stderr
    assert (scoring / "board" / "leaderboard.csv").exists()


@pytest.mark.parametrize("extra", ["audio", "asr", "captions"])
def test_reading_and_scoring_bring_no_model_library(extra: str) -> None:
    assert not {"torch", "transformers", "peft", "accelerate", "numba"} & closure("audiolm-evaluator", extra)


def run(small: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(small / "bin" / "python"), *arguments],
        cwd=small,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_core_fits_30_megabytes(small: Path) -> None:
    assert sum(path.stat().st_size for path in small.rglob("*") if path.is_file() and not path.is_symlink()) < 30e6
    assert set(core()) <= {"pydantic", "pydantic_core", "pydantic-core", "annotated-types", "typing-extensions",
                           "typing_extensions", "typing-inspection", "pyyaml", "click", "tqdm"}  # fmt: skip


def test_csvs_are_checked_with_the_core_alone(small: Path) -> None:
    csv = small / "a.csv"
    csv.write_text("testset_id,text\ntest0000,hello\n")
    main = ("-c", "import sys; from evaluator.cli import main; sys.argv[0] = 'audiolm-evaluator'; main()")
    passed = "Validation passed: The CSV file is valid."
    assert passed in run(small, str(ROOT / "submission_validator.py"), str(csv)).stdout
    assert passed in run(small, *main, "validate", str(csv)).stdout
    for command in ((), ("validate",), ("setup-metrics",), ("efficiency",)):
        assert run(small, *main, *command, "--help").stdout.startswith("Usage: audiolm-evaluator")
    needs = run(small, *main, "setup-metrics")
    assert (needs.returncode, needs.stdout) == (2, "")
    assert "pip install 'audiolm-evaluator[captions]'" in needs.stderr


def test_a_run_names_what_is_missing(small: Path) -> None:
    code = (
        "import types; from pathlib import Path; from evaluator.cli import build_evaluate_command\n"
        "model = types.SimpleNamespace(__name__='fake', load_model=None)\n"
        "build_evaluate_command(model, default_config=Path('none.yaml'))()\n"
    )
    annotation = ROOT / "data" / "sample" / "asr.json"
    (small / "c.yaml").write_text(f"datasets:\n  prefix: '{annotation.parent}'\n  test_ann_path_asr: '{annotation}'\n")
    done = run(small, "-c", code, "--mode", "valid_asr", "--cfg-path", "c.yaml")
    assert done.returncode == 2
    assert "pip install 'audiolm-evaluator[audio,asr]'" in done.stderr
    assert "not installed: jiwer, sacrebleu, whisper_normalizer" in done.stderr
    assert "Traceback" not in done.stderr


def test_extras_are_those_of_the_package() -> None:
    declared = importlib.metadata.metadata("audiolm-evaluator").get_all("Provides-Extra") or []
    assert set(declared) == {*EXTRAS, "all", "dev", "quantize", "scoring"}
    check_installed(*EXTRAS)
    with pytest.raises(KeyError):
        check_installed("none")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "soxr" else object())
    with pytest.raises(ConfigError, match=r"audiolm-evaluator\[audio\].*\n.*not installed: soxr"):
        check_installed("audio", "asr")
