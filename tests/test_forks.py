"""--trainer: checkouts in the original trainer's layouts, run unchanged behind the contract."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from fake_fork import SALMONN, TEMPLATE, fork_sections, make_fork
from fake_site import Site, make_site

import evaluate_salmonn
from evaluator.conformance import check_model
from evaluator.errors import ConfigError, ModelLoadError
from evaluator.evaluate import evaluate
from evaluator.model import Request
from evaluator.models.forks.layout import find_class
from evaluator.models.forks.package import ForkPackage, Settings
from evaluator.provider.loading import load_model
from evaluator.run.journal import read_journal

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "audiolm-trainer" / "tests" / "reference" / "salmonn-tiny"
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that a fork loads its model with
LAYOUTS = ["audiolm-trainer", "code/audiolm-trainer", "trainer", ".", "src", "team_salmonn"]


@pytest.fixture(autouse=True)
def one_fork_a_process() -> Iterator[None]:
    """A fork's top-level modules stay imported for the rest of a process: here each test is one."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [each for each in sys.modules if each.partition(".")[0] in ("models", "utils")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    site = make_site(folder)
    site.change({**fork_sections(folder, PARTS), "run": {"latency_clips": 0}})
    for number in range(5):
        soundfile.write(site.wavs / f"clip{number}.wav", tone(1 + number, 150.0 * 2**number), 16000)
    return site


def tone(seconds: float, frequency: float) -> Any:
    times = np.arange(round(seconds * 16000)) / 16000
    return (0.3 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_answers(site: Site, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_fork(tmp_path / "fork" / layout)
    path_before = list(sys.path)
    result = evaluate(ForkPackage(str(tmp_path / "fork")), site.load(), "valid_asr")
    assert result.exit_code == 0
    answers = read_journal(result.folder / "predictions.jsonl")
    assert [each.id for each in answers] == [f"test{number:04d}" for number in range(5)]
    assert len({each.text for each in answers}) > 1
    out, err = capsys.readouterr()
    assert "fork" not in out
    assert "importing the fork" in err
    assert "fork: encoding" in err
    assert sys.path[: len(path_before)] == path_before


def test_answers_are_those_of_the_original_s_steps(site: Site, tmp_path: Path) -> None:
    """The same clips by hand, as the original evaluator did it: features, encode, wrap, BOS in front, generate, cut."""
    import torch
    from transformers import WhisperFeatureExtractor

    package = ForkPackage(str(make_fork(tmp_path / "fork")))
    config = site.load()
    model = load_model(package, config)
    clips = [tone(1.0, 440), tone(2.5, 900), tone(7.0, 100)]
    requests = [Request(number, clip, "asr", "") for number, clip in enumerate(clips)]
    answers = list(model.generate(requests))

    fork = model._model  # type: ignore[attr-defined]
    extractor = WhisperFeatureExtractor.from_pretrained(PARTS / "whisper")
    prompt = TEMPLATE.replace("{}", "<Speech><SpeechHere></Speech> Write down the speech.")
    fork.encode_speech.__func__.__globals__["announce"] = lambda what: None
    for clip, answer in zip(clips, answers, strict=True):
        spectrogram = extractor(clip, sampling_rate=16000, return_tensors="pt")["input_features"]
        with torch.no_grad():
            heard = fork.bridge(spectrogram, torch.from_numpy(clip)[None])
            before, after = (
                fork.llama_model.model.model.embed_tokens(
                    fork.llama_tokenizer(part, return_tensors="pt", add_special_tokens=False).input_ids
                )
                for part in prompt.split("<SpeechHere>")
            )
            begin = fork.llama_model.model.model.embed_tokens(torch.tensor([[fork.llama_tokenizer.bos_token_id]]))
            embeds = torch.cat([begin, before, heard, after], 1)
            ids = fork.llama_model.generate(
                inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]), max_new_tokens=12, num_beams=2,
                do_sample=False, pad_token_id=401,
            )[0].tolist()  # fmt: skip
        end = next((place for place, each in enumerate(ids) if each in (401, 402)), len(ids))
        assert answer.text == fork.llama_tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
        assert answer.num_tokens == end
        assert answer.finish_reason == ("stop" if end < len(ids) else "length")
    assert len({answer.text for answer in answers}) == 3


def test_a_fork_keeps_the_contract_and_pytorch_is_as_before(site: Site, tmp_path: Path) -> None:
    import torch

    tensor = vars(torch)["Tensor"]
    before = (tensor.to, tensor.cuda, torch.nn.Module.to, torch.nn.Module.cuda)
    package = ForkPackage(str(make_fork(tmp_path / "fork")))
    model = load_model(package, site.load())
    checks = list(check_model(model, {"asr": False, "QA": True}))
    assert [check.name for check in checks if not check.passed] == []
    assert (tensor.to, tensor.cuda, torch.nn.Module.to, torch.nn.Module.cuda) == before
    assert "cuda" not in tensor.__dict__ or tensor.cuda is before[1]


def test_tasks_questions_and_braces_of_prompts(site: Site, tmp_path: Path) -> None:
    package = ForkPackage(str(make_fork(tmp_path / "fork")))
    config = site.load()
    assert package.tasks(config.mapping()) == {"asr": False, "audiocaption_v2": False, "QA": True}
    model = load_model(package, config)
    asked: list[str] = []
    wrap = model._model.prompt_wrap  # type: ignore[attr-defined]
    model._model.prompt_wrap = lambda *a, **k: (asked.append(a[2][0]), wrap(*a, **k))[1]  # type: ignore[attr-defined]
    list(model.generate([Request(0, tone(1, 440), "QA", "Who {}?"), Request(1, tone(1, 440), "audiocaption_v2", "")]))
    assert asked == [
        "USER: <Speech><SpeechHere></Speech> Who {}?\nASSISTANT:",
        "USER: <Speech><SpeechHere></Speech> What {is} heard?\nASSISTANT:",
    ]


def test_a_run_is_gone_on_with_only_with_the_same_code(site: Site, tmp_path: Path) -> None:
    fork = make_fork(tmp_path / "fork")
    before = ForkPackage(str(fork)).fingerprints(site.load().mapping())
    assert ForkPackage(str(fork)).fingerprints(site.load().mapping()) == before
    (fork / "models" / "bridge.py").write_text((fork / "models" / "bridge.py").read_text() + "\nx = 1\n")
    after = ForkPackage(str(fork)).fingerprints(site.load().mapping())
    assert {name for name in before if before[name] != after[name]} == {"model.trainer"}


def test_another_module_beside_the_original_s(tmp_path: Path) -> None:
    fork = make_fork(tmp_path / "fork")
    (fork / "models" / "salmonn_gemma2.py").write_text(SALMONN)
    (fork / "models" / "modeling_gemma2.py").write_text("class Gemma2:\n    pass\n")
    assert find_class(str(fork)).module == "models.salmonn"  # the original's name
    for typed in ("models.salmonn_gemma2.SALMONN", "salmonn_gemma2.SALMONN"):
        assert find_class(f"{fork}:{typed}").module == "models.salmonn_gemma2"
    (fork / "models" / "salmonn.py").unlink()
    assert find_class(str(fork)).module == "models.salmonn_gemma2"
    assert find_class(str(fork / "models" / "salmonn_gemma2.py")).root == fork
    with pytest.raises(ConfigError, match=r"there is no models\.other\.SALMONN"):
        find_class(f"{fork}:models.other.SALMONN")


def test_what_cannot_be_found_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        find_class(str(tmp_path / "no"))
    (tmp_path / "empty" / "models").mkdir(parents=True)
    (tmp_path / "empty" / "models" / "broken.py").write_text("class (")
    with pytest.raises(ConfigError, match="there is no a class with encode_speech and prompt_wrap"):
        find_class(str(tmp_path / "empty"))
    for name in ("one", "two"):
        make_fork(tmp_path / "several" / name)
    make_fork(tmp_path / "several" / ".git" / "x")
    make_fork(tmp_path / "several" / "venv" / "x")
    with pytest.raises(ConfigError, match=r"there are 2 models \(one: models\.salmonn\.SALMONN, two: .*name one"):
        find_class(str(tmp_path / "several"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return model.cuda()", "return model.to(torch.zeros(1, device='cuda'))", "asks for a GPU, and there is none"),
        ("from peft import", "from no_such_package import", "needs the Python package no_such_package"),
        ("def from_config", "def from_configuration", "has no from_config"),
        ("super().__init__()\n", "super().__init__()\n        sys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_fork_that_fails_is_a_sentence(site: Site, tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SALMONN
    package = ForkPackage(str(make_fork(tmp_path / "fork", source=SALMONN.replace(old, new, 1))))
    with pytest.raises((ModelLoadError, ConfigError), match=message):
        load_model(package, site.load())


def test_another_models_package_is_not_taken_for_the_fork_s(site: Site, tmp_path: Path) -> None:
    load_model(ForkPackage(str(make_fork(tmp_path / "one"))), site.load())
    with pytest.raises(ConfigError, match="a Python package models of another place has been imported already"):
        load_model(ForkPackage(str(make_fork(tmp_path / "two"))), site.load())


def test_a_fork_that_was_edited_while_python_lives_is_refused(site: Site, tmp_path: Path) -> None:
    fork = make_fork(tmp_path / "fork")
    load_model(ForkPackage(str(fork)), site.load())
    load_model(ForkPackage(str(fork)), site.load())
    (fork / "models" / "bridge.py").write_text((fork / "models" / "bridge.py").read_text() + "\nx = 1\n")
    with pytest.raises(ConfigError, match=r"salmonn\.py: has changed since it was imported"):
        load_model(ForkPackage(str(fork)), site.load())


def test_files_that_are_missing_are_told_before(site: Site, tmp_path: Path) -> None:
    package = ForkPackage(str(make_fork(tmp_path / "fork")))
    sections = {"model": {"ckpt": "no.pth", "llama_path": "hub/name", "test_prompt_path": "no.json"}}
    assert list(package.check_parts(sections)) == [
        ("model.ckpt", "there is no no.pth"),
        ("model.test_prompt_path", "there is no no.json"),
        ("model.whisper_path", "the folder of Whisper is needed for its feature extractor"),
    ]


def test_settings_are_read_as_forks_read_them() -> None:
    settings = Settings({"lora": False, "ckpt": "a"})
    assert (settings.get("lora", True), settings["ckpt"], settings.lora, settings.token) == (False, "a", False, None)


def test_the_command(site: Site, tmp_path: Path) -> None:
    """As a user types it, in a process of its own: results on standard output, the fork's prints on the other."""
    fork = make_fork(tmp_path / "fork" / "audiolm-trainer")
    program = [sys.executable, str(ROOT / "evaluate_salmonn.py"), "--mode", "valid_asr", "--cfg-path", str(site.config)]
    done = subprocess.run(
        [*program, "--trainer", str(fork.parent), "--limit", "2", "--options", "run.latency_clips=1"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WER" in done.stdout
    assert "fork: " not in done.stdout
    assert "importing the fork" not in done.stdout
    assert "fork: encoding" in done.stderr


DYING = """
import os
import signal

left = int(os.environ.get("DIES_AFTER", "99"))


def announce(what):
    global left
    left -= what == "encoding"
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_fork_that_was_killed_goes_on_to_the_same_bytes(site: Site, tmp_path: Path) -> None:
    fork = make_fork(tmp_path / "fork")
    (fork / "utils.py").write_text(DYING)

    def ended(output: str, *arguments: str, dies_after: int = 99) -> int:
        command = [sys.executable, str(ROOT / "evaluate_salmonn.py"), "--mode", "valid_asr", "--trainer", str(fork)]
        command += ["--cfg-path", str(site.config), "--output-dir", str(tmp_path / output), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DIES_AFTER": str(dies_after)}
        return subprocess.run(command, capture_output=True, env=environment, check=False).returncode

    assert ended("whole") == 0
    assert ended("killed", dies_after=2) == -9
    [folder] = (tmp_path / "killed" / "valid_results").glob("*/")
    assert ended("killed", "--resume", str(folder), dies_after=1) == -9
    assert ended("killed", "--resume", "auto", dies_after=2) == 0
    record = json.loads((folder / "run.json").read_text())
    assert (record["attempt"], record["rows_of_earlier_attempts"]) == (3, 3)
    [whole] = (tmp_path / "whole" / "valid_results").glob("*.csv")
    assert folder.with_suffix(".csv").read_bytes() == whole.read_bytes()
    assert len(set(whole.read_text().splitlines())) > 3
    assert (folder / "scores.json").read_bytes() == (whole.with_suffix("") / "scores.json").read_bytes()


def test_a_trainer_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    for typed in (str(tmp_path / "no"), f"{tmp_path}:models.salmonn.SALMONN"):
        done = CliRunner().invoke(evaluate_salmonn.main, ["--mode", "valid_asr", "--trainer", typed])
        assert done.exit_code == 2
        assert "The trainer's model cannot be found." in done.output
