"""A fork of the original trainer in an environment of its own pins, installed for real, evaluated whole."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_fork import fork_sections, make_fork
from fake_site import Site, make_site
from linked_environment import closure, make_environment, packages

from evaluator.run.journal import read_journal

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "audiolm-trainer" / "tests" / "reference" / "salmonn-tiny"
PINS = ("transformers==4.47.1", "peft==0.3.0", "tokenizers==0.21.0", "huggingface-hub==0.27.1", "accelerate==1.2.1")
# What a fork's environment has besides, at the versions that are installed here.
BESIDE = ("torch", "safetensors", "psutil", "requests", "filelock", "fsspec", "packaging", "regex", "numpy")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pins from PyPI, everything else by links."""
    names = {*closure("audiolm-evaluator", "audio"), *closure("audiolm-evaluator", "asr")}
    for name in BESIDE:
        names |= {name, *closure(name)}
    pinned = {pin.partition("==")[0] for pin in PINS}
    folder = make_environment(tmp_path_factory.mktemp("old"), names - pinned - {"huggingface_hub", "salmonn"})
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target"]
    done = subprocess.run([*command, str(packages(folder)), *PINS], capture_output=True, text=True, check=False)
    if done.returncode != 0 and ("from versions: none" in done.stderr or "ConnectionError" in done.stderr):
        pytest.skip("PyPI cannot be reached, where the old pins are")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    site.change(fork_sections(tmp_path, PARTS))
    site.change({"run": {"latency_clips": 0, "output_dir": "results"}})
    times = np.arange(40000) / 16000
    for number in range(5):
        soundfile.write(site.wavs / f"clip{number}.wav", 0.3 * np.sin(2 * np.pi * 150.0 * 2**number * times), 16000)
    return site


def evaluated(python: Path, site: Site, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(python), str(ROOT / "evaluate_salmonn.py"), "--cfg-path", str(site.config), *arguments]
    return subprocess.run(command, cwd=site.folder, capture_output=True, text=True, check=False, timeout=300)


def test_a_fork_with_its_old_pins_is_run_whole(old: Path, site: Site) -> None:
    fork = make_fork(site.folder / "fork" / "audiolm-trainer")
    texts = []
    for python in (old / "bin" / "python", Path(sys.executable)):
        done = evaluated(python, site, "--mode", "valid_asr", "--trainer", str(fork.parent))
        assert done.returncode == 0, done.stderr
        assert "WER" in done.stdout
        [folder] = (site.folder / "results" / "valid_results").glob("*_valid_asr/")
        texts.append([each.text for each in read_journal(folder / "predictions.jsonl")])
        versions = json.loads((folder / "run.json").read_text())["versions"]
        if len(texts) == 1:
            assert (versions["transformers"], versions["peft"]) == ("4.47.1", "0.3.0")
            # The SALMONN package of this repository is not there, and not asked for.
            assert "audiolm-trainer" not in versions
        (site.folder / "results").rename(site.folder / f"results{len(texts)}")
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_without_the_salmonn_package_the_command_says_what_to_install(old: Path, site: Site) -> None:
    done = evaluated(old / "bin" / "python", site, "--mode", "valid_asr")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the Python package salmonn is not installed: pip install -r ")
