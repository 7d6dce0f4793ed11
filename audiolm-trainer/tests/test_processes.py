"""`train.py` as a user starts it, in one process and in two: equal numbers, and runs that are killed and resumed.

Every run is a real command on the shipped nano model and a few made-up clips, without dropout where runs of different
numbers of processes are compared.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from salmonn.training.run_folder import newest_checkpoint
from salmonn.weights.checkpoint import read_weights

TRAINER = Path(__file__).resolve().parents[1]
NANO = TRAINER / "nano"
ONE: tuple[str, ...] = (sys.executable,)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = (
    # With --cpu it would start a single process; run.device keeps these off any GPU.
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port"),
)
TEXTS = ("one", "two three four", "rain", "turn on the light", "a", "five six", "a bell rings", "nine", "open the door")
PATIENCE = 300
MOVES = ("seconds", "clips_per_second", "memory_gb")

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration of two epochs over 11 clips; epochs end in a smaller batch and a smaller group."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(11):
        wave = 0.1 * rng.standard_normal(int(rng.integers(8_000, 24_000)))
        soundfile.write(tmp_path / f"{number}.wav", wave.astype(np.float32), 16_000)
        task = ("asr", "audiocaption_v2")[number % 2]
        rows.append({"path": f"{number}.wav", "text": TEXTS[number % len(TEXTS)], "task": task})
    (tmp_path / "train.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    (tmp_path / "valid.json").write_text(json.dumps({"annotation": rows[:5]}), encoding="utf-8")

    def write(*, dropout: float = 0.0, **run: Any) -> Path:
        sizes = json.loads((NANO / "qformer" / "config.json").read_text(encoding="utf-8"))
        sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        (tmp_path / "qformer.json").write_text(json.dumps(sizes), encoding="utf-8")
        model = {
            "llama_path": str(NANO / "llama"),
            "whisper_path": str(NANO / "whisper"),
            "beats_path": str(NANO / "beats.pt"),
            "qformer_path": str(tmp_path / "qformer.json"),
            "lora_rank": 4,
            "lora_dropout": dropout,
            "multi_prompt": True,
            "prompt_path": str(TRAINER / "prompts" / "train_prompt.json"),
            "end_sym": "</s>",
        }
        settings = {
            "output_dir": str(tmp_path / "output"),
            "device": "cpu",
            "log_freq": 1,
            "epoch_based": True,
            "batch_size_train": 2,
            "batch_size_eval": 2,
            "world_size": 2,
            "accum_grad_iters": 2,
            "drop_last": False,
            "bucket_by_length": True,
            "num_workers": 0,
            "max_grad_norm": 1.0,
            "valid_generate": 4,
            "trackers": [],
            "optims": {"max_epoch": 2, "warmup_steps": 2, "init_lr": 1e-3, "min_lr": 1e-4},
        }
        sections = {
            "model": model,
            "generate": {"max_new_tokens": 5, "num_beams": 2},
            "datasets": {
                "prefix": str(tmp_path),
                "train_ann_path": str(tmp_path / "train.json"),
                "valid_ann_path": str(tmp_path / "valid.json"),
            },
            "run": settings | run,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(sections), encoding="utf-8")
        return path

    return write


def start(launcher: Sequence[str], path: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        [*launcher, str(TRAINER / "train.py"), "--cfg-path", str(path), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(launcher: Sequence[str], path: Path, *arguments: str) -> str:
    process = start(launcher, path, *arguments)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def figures(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.endswith(MOVES)} for line in lines]


def only_run(output_dir: Path) -> Path:
    [folder] = [path for path in output_dir.iterdir() if (path / "metrics.jsonl").exists()]
    return folder


def test_one_and_two_processes_give_the_same_losses_and_weights(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config()
    ways = {
        "one": (ONE, ()),
        "torchrun": (TORCHRUN, ("run.parallel=ddp",)),
        "accelerate": ((*ACCELERATE, str(free_port())), ("run.parallel=ddp",)),
        "fsdp2": (TORCHRUN, ("run.parallel=fsdp2",)),
    }
    compare_ways(path, tmp_path, ways)


def test_a_language_model_that_is_trained_itself_is_shared_too(config: Callable[..., Path], tmp_path: Path) -> None:
    whole = ("model.lora=False", "model.freeze_llm=False")
    ways = {
        "one": (ONE, whole),
        "ddp": (TORCHRUN, (*whole, "run.parallel=ddp")),
        "fsdp2": (TORCHRUN, (*whole, "run.parallel=fsdp2")),
    }
    weights = compare_ways(config(), tmp_path, ways)
    assert "llama_model.model.embed_tokens.weight" in weights["optimizer"]


def compare_ways(path: Path, tmp_path: Path, ways: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> dict[str, Any]:
    """Train in each way, launcher and options, and compare with the way "one", whose checkpoint is returned."""
    results = {}
    for name, (launcher, options) in ways.items():
        run(launcher, path, "--options", f"run.output_dir={tmp_path / name}", *options)
        folder = only_run(tmp_path / name)
        results[name] = figures(folder), read_weights(folder / "checkpoint_1.pth")
    expected, weights = results.pop("one")
    assert len(expected) == 10
    assert len(weights["random"]) == 1
    for name, (got, state) in results.items():
        # One random state for each process that there really was.
        assert len(state["random"]) == 2, name
        for row, wanted in zip(got, expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-5), name
        assert state["model"].keys() == weights["model"].keys()
        for key, tensor in weights["model"].items():
            torch.testing.assert_close(state["model"][key], tensor, atol=1e-5, rtol=0, msg=f"{name}: {key}")
        for key, entries in weights["optimizer"].items():
            for entry, tensor in entries.items():
                torch.testing.assert_close(
                    state["optimizer"][key][entry], tensor, atol=1e-5, rtol=0, msg=f"{name}: {key}"
                )
    return weights


def test_a_run_killed_at_a_random_step_and_resumed_ends_bit_equal(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config(dropout=0.1, save_every=1, accum_grad_iters=1, optims={"max_epoch": 4, "init_lr": 1e-3})
    run(ONE, path, "--options", f"run.output_dir={tmp_path / 'whole'}")
    whole = only_run(tmp_path / "whole")
    options = ("--options", f"run.output_dir={tmp_path / 'killed'}")
    process = start(ONE, path, *options)
    while not list((tmp_path / "killed").rglob("checkpoint_step_*.pth")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    killed = only_run(tmp_path / "killed")
    assert not (killed / "checkpoint_3.pth").exists(), "the run ended before it was killed"
    output = run(ONE, path, "--resume", "auto", *options)
    assert "resumed from" in output
    states = [read_weights(folder / "checkpoint_3.pth") for folder in (whole, killed)]
    assert all(torch.equal(states[0]["model"][key], states[1]["model"][key]) for key in states[0]["model"])
    assert figures(whole) == figures(killed)
    assert "nothing left to do: all 12 steps are done" in run(ONE, path, "--resume", str(killed))


def test_a_run_of_one_process_goes_on_with_two(config: Callable[..., Path], tmp_path: Path) -> None:
    """What was trained before the change is not repeated and nothing is left out."""
    path = config(save_every=1)
    run(ONE, path, "--options", f"run.output_dir={tmp_path / 'whole'}")
    whole = only_run(tmp_path / "whole")
    checkpoint = tmp_path / "half" / "checkpoint_step_2.pth"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes((whole / "checkpoint_0.pth").read_bytes())
    run(TORCHRUN, path, "--resume", str(checkpoint))
    states = [read_weights(folder / "checkpoint_1.pth") for folder in (whole, checkpoint.parent)]
    for key, tensor in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][key], tensor, atol=1e-5, rtol=0)
    later = [row for row in figures(whole) if row["step"] > 3]
    for row, wanted in zip(figures(checkpoint.parent), later, strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)


def test_a_terminated_run_saves_and_says_so(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config(optims={"max_epoch": 1000})
    process = start(ONE, path)
    while not list((tmp_path / "output").rglob("metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "saved; go on with --resume auto" in output
    found = newest_checkpoint(tmp_path / "output")
    assert found is not None
    assert f"stopped after step {read_weights(found)['step']}" in output


def test_another_configuration_is_not_resumed(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config(optims={"max_epoch": 1}, precision="bfloat16")
    run(ONE, path)
    process = start(ONE, path, "--resume", "auto", "--options", "run.seed=7", "run.batch_size_train=1")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, output
    assert "run.seed: was 42 in the run to resume, is 7" in output
    assert "run.batch_size_train: was 2" in output
    assert "Traceback" not in output
