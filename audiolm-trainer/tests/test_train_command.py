"""The train command: a real run, the dry run, and errors that are sentences; the token is nowhere in what it leaves."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from salmonn.weights.checkpoint import read_weights, save_checkpoint

TRAINER = Path(__file__).resolve().parents[1]
TIMES = ("seconds", "clips_per_second", "memory_gb")
CANARY = "hf_CanaryToken0123456789"


def load_command() -> click.Command:
    spec = importlib.util.spec_from_file_location("train_command", TRAINER / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    command: click.Command = module.main
    return command


def run_folders(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "output").iterdir() if (path / "log.txt").exists()]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(load_command(), [str(argument) for argument in arguments])


@pytest.fixture
def config(reference: Path, reference_sections: dict[str, Any], tmp_path: Path) -> Path:
    """A configuration that trains the reference model on two clips for two epochs of one step."""
    rows = [{"path": "clip00.wav", "text": "one two"}, {"path": "clip02.wav", "text": "three", "task": "audiocaption"}]
    (tmp_path / "ann.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    model = dict(reference_sections["model"], token=CANARY)
    for key in ("llama_path", "whisper_path", "beats_path", "qformer_path", "ckpt", "prompt_path", "test_prompt_path"):
        model[key] = str(reference / model[key])
    optims = {"max_epoch": 2, "warmup_steps": 0, "init_lr": 1e-3}
    sections = {
        "model": model,
        "datasets": {"prefix": str(reference / "wavs"), "train_ann_path": "ann.json", "valid_ann_path": "ann.json"},
        "run": {
            "output_dir": str(tmp_path / "output"),
            "device": "cpu",
            "batch_size_train": 2,
            "iters_per_epoch": 1,
            "num_workers": 0,
            "cache_features": True,
            "optims": optims,
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return path


def test_a_run_leaves_log_and_checkpoints_that_load_and_no_token(
    config: Path, tmp_path: Path, build: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with caplog.at_level("INFO"):
        result = invoke("--cfg-path", config, "--options", "run.log_freq=1", "run.seed=3")
    assert result.exit_code == 0, result.output
    [folder] = run_folders(tmp_path)
    assert f"checkpoints: {folder}" in result.output
    assert "trained 2 steps" in result.output
    files = sorted(path.name for path in folder.iterdir())
    checkpoints = ["checkpoint_0.pth", "checkpoint_1.pth", "checkpoint_best.pth"]
    assert files == [*checkpoints, "log.txt", "metrics.jsonl", "tensorboard"]
    assert json.loads((folder / "log.txt").read_text(encoding="utf-8").splitlines()[0])["run"]["seed"] == 3
    build(ckpt=str(folder / "checkpoint_1.pth"))
    for path in (tmp_path / "output").rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path
    for path in folder.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path
    assert CANARY not in result.output + caplog.text


def test_the_same_configuration_trains_to_the_same_numbers(config: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert invoke("--cfg-path", config).exit_code == 0
    first, second = (
        [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in (folder / "log.txt").read_text(encoding="utf-8").splitlines()
        ]
        for folder in run_folders(tmp_path)
    )
    assert first == second


def test_a_dry_run_makes_its_steps_without_weights_or_network_and_saves_nothing(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = sorted(tmp_path.iterdir())
    result = invoke("--cfg-path", config, "--dryrun", "--options", "model.llama_path=none", "model.beats_path=none")
    assert result.exit_code == 0, result.output
    assert "training    2 clips" in result.output
    assert "3 steps of 2 clips, loss" in result.output
    assert "training still needs:\n  model.llama_path: none does not exist" in result.output
    assert "model.beats_path" in result.output
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_still_reports_what_is_wrong_with_the_data(config: Path, tmp_path: Path) -> None:
    (tmp_path / "ann.json").write_text('[{"path": "none.wav", "text": "a", "task": "aasr"}]', encoding="utf-8")
    result = invoke("--cfg-path", config, "--dryrun")
    assert result.exit_code == 3
    assert "row 1: task: 'aasr' has no training prompt" in result.output


@pytest.mark.slow
def test_the_shipped_configuration_rehearses_in_a_bare_environment_from_anywhere(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "SYSTEMROOT", "OMP_NUM_THREADS")}
    run = subprocess.run(
        [sys.executable, TRAINER / "train.py", "--cfg-path", TRAINER / "configs" / "config.yaml", "--dryrun"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "made-up clips" in run.stdout
    assert "datasets.train_ann_path" in run.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_first_run_trains_as_shipped_from_anywhere(tmp_path: Path) -> None:
    if not (TRAINER.parent / "data" / "sample").is_dir():
        pytest.skip("data/sample of the evaluator's repository is not around this folder")
    options = [
        "run.optims.max_epoch=1",
        "run.valid_generate=10",
        "run.batch_size_train=50",
        "run.optims.warmup_steps=1",
    ]
    run = subprocess.run(
        [
            sys.executable,
            TRAINER / "train.py",
            "--cfg-path",
            TRAINER / "configs" / "sample.yaml",
            "--options",
            *options,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "trained 2 steps, last epoch's loss 0." in run.stdout
    assert "wer_protocol plain words" in run.stderr
    assert (tmp_path / "output" / "sample").is_dir()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["run.seeed=1", "run.optims.max_epoch=0"], 2, "the configuration has 2 problems"),
        (["run.device=cuda:99"], 2, "cuda:99"),
        (["run.batch_size_train=3"], 3, "2 training samples do not fill one batch of 3"),
        (["model.freeze_speech_QFormer=true", "model.lora_rank=4"], 2, "does not fit"),
    ],
)
def test_errors_are_sentences_with_their_exit_code(config: Path, options: list[str], code: int, message: str) -> None:
    result = invoke("--cfg-path", config, "--options", *options)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_run_is_not_resumed_with_other_words_or_weights(
    config: Path, reference: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = tmp_path / "words.json"
    words.write_bytes((reference / "prompts" / "train.json").read_bytes())
    beats = shutil.copy(reference / "beats.pt", tmp_path / "beats.pt")
    beats.chmod(0o644)
    options = (f"model.prompt_path={words}", f"model.beats_path={beats}")
    assert invoke("--cfg-path", config, "--options", *options).exit_code == 0
    assert invoke("--cfg-path", config, "--resume", "auto", "--options", *options).exit_code == 0
    words.write_text(words.read_text(encoding="utf-8").replace("<SpeechHere>", "<SpeechHere>!"), encoding="utf-8")
    data = torch.load(beats, weights_only=True)
    data["model"]["layer_norm.bias"] += 1
    torch.save(data, beats)
    result = invoke("--cfg-path", config, "--resume", "auto", "--options", *options)
    assert result.exit_code == 2
    for key in ("prompt", "beats"):
        assert f"model.{key}_path: holds something else than when the run to resume was trained" in result.output
    [folder] = run_folders(tmp_path)
    state = read_weights(folder / "checkpoint_1.pth")
    save_checkpoint(folder / "checkpoint_1.pth", state.pop("model"), **{k: v for k, v in state.items() if k != "files"})
    with caplog.at_level("INFO"):
        assert invoke("--cfg-path", config, "--resume", "auto", "--options", *options).exit_code == 0
    assert "whether they changed is not known" in caplog.text


@pytest.mark.parametrize("resume", [(), ("--resume", "auto")])
def test_what_a_killed_save_has_left_is_gone_after_the_next_start(
    config: Path, tmp_path: Path, resume: tuple[str, ...]
) -> None:
    assert invoke("--cfg-path", config).exit_code == 0
    [folder] = run_folders(tmp_path)
    (folder / ".checkpoint_step_5.pth.4194304.tmp").write_bytes(b"half")
    assert invoke("--cfg-path", config, *resume).exit_code == 0
    assert not list((tmp_path / "output").rglob(".checkpoint_*"))


def test_a_run_whose_last_epoch_reads_nothing_says_so(config: Path, tmp_path: Path) -> None:
    rows = [{"path": "text.wav", "text": "one"}, {"path": "text2.wav", "text": "two"}]
    for row in rows:
        (tmp_path / row["path"]).write_text("no audio", encoding="utf-8")
    (tmp_path / "none.json").write_text(json.dumps(rows), encoding="utf-8")
    options = (f"datasets.prefix={tmp_path}", "datasets.train_ann_path=none.json", "datasets.valid_ann_path=")
    options += ("run.cache_features=False",)
    result = invoke("--cfg-path", config, "--options", *options)
    assert result.exit_code == 0, result.output
    assert "trained 2 steps; the last epoch has no loss, for none of its clips could be read" in result.output
    assert "nothing left to do" not in result.output


def test_what_should_be_known_is_in_the_log_and_in_the_dry_run(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = 'model.beats_path is "": the model is trained without BEATs, with Whisper alone'
    options = ("--options", "model.beats_path=", "model.ckpt=none")
    assert invoke("--cfg-path", config, *options).exit_code == 0
    assert text in caplog.text
    assert text in invoke("--cfg-path", config, "--dryrun", *options).output


def test_help_and_configuration_errors_load_no_torch(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.argv = sys.argv[1:]\ntry:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "finally:\n    print('torch' in sys.modules)"
    (tmp_path / "config.yaml").write_text("model: {}\n", encoding="utf-8")
    for arguments, text in ((["--help"], "Examples:"), (["--cfg-path", str(tmp_path / "config.yaml")], "is missing")):
        run = subprocess.run(
            [sys.executable, "-c", code, TRAINER / "train.py", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=TRAINER,
        )
        assert text in run.stdout + run.stderr
        assert "False" in run.stdout


def test_an_interrupt_ends_with_its_own_exit_code(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("salmonn.training.run.build_trainer", interrupt)
    result = invoke("--cfg-path", config)
    assert result.exit_code == 130
    assert "Traceback" not in result.output
