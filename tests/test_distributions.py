"""Both projects as packages: the sdist is built, a wheel from it, and the wheel works.

An editable install hides what a package leaves out.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
TRAINER = ROOT / "audiolm-trainer"
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def build(project: Path, package: str, folder: Path) -> Path:
    """The wheel of a project's sdist, unpacked -> the folder with the package."""
    source = folder / "source"
    source.mkdir()
    for path in (*project.glob("*.md"), *project.glob("LICENSE"), project / "pyproject.toml"):
        shutil.copy(path, source)
    shutil.copytree(project / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    python("-c", BUILD, "build_sdist", str(folder), cwd=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    python("-c", BUILD, "build_wheel", str(folder), cwd=unpacked)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "installed")
    written = {
        path.relative_to(project) for path in (project / package).rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    missing = {path for path in written if not (folder / "installed" / path).is_file()}
    assert missing == set()
    return folder / "installed"


def test_the_evaluators_wheel_checks_and_scores(tmp_path: Path) -> None:
    installed = build(ROOT, "evaluator", tmp_path)
    (tmp_path / "a.csv").write_text("testset_id,text\ntest0000,hello\n")
    said = python(
        "-c", "from evaluator.cli import main; main()", "validate", "a.csv", cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert "Validation passed: The CSV file is valid." in said
    help_ = python(
        "-c", "from evaluator.cli import main; main()", "report", "--help", cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert "RUN" in help_
    code = (
        "import evaluator; print(evaluator.__file__)\n"
        "from evaluator.scoring.normalize import whisper_english; print(whisper_english('20% of colour'))"
    )
    assert python("-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split("\n")[:2] == [
        str(installed / "evaluator" / "__init__.py"),
        "20% of color",
    ]


def test_the_trainers_wheel_loads_the_nano_model(tmp_path: Path) -> None:
    installed = build(TRAINER, "salmonn", tmp_path)
    config = TRAINER / "configs" / "nano" / "decode.yaml"
    code = (
        "import sys, salmonn; from pathlib import Path; from salmonn.config.config import load_config\n"
        "from salmonn.inference.inference import load_language_model\n"
        "model = load_language_model(load_config(Path(sys.argv[1]), purpose='answer'), 'cpu')\n"
        "print(salmonn.__file__, model.trained_tasks)"
    )
    said = python("-c", code, str(config), cwd=tmp_path, PYTHONPATH=str(installed), OMP_NUM_THREADS="1")
    assert said.strip() == f"{installed / 'salmonn' / '__init__.py'} ('asr', 'audiocaption_v2')"
