"""Makes the nano model from nothing: `python -m nano.make_nano` in audiolm-trainer/ (or `make train-nano` above it).

Stages: data, parts (encoders and language model, two processes side by side), files, two training stages with
train.py, export, measure. A finished stage leaves a note in nano/build/done/ and is not run again; delete the note,
or name the stage with --again, to repeat it. Needs espeak-ng, and jiwer and aac-metrics for the last stage.
"""

import json
import logging
import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click

NANO = Path(__file__).resolve().parent
TRAINER = NANO.parent
BUILD = NANO / "build"
DATA = BUILD / "data"
SAMPLE = TRAINER.parent / "data" / "sample"
CONFIGS = TRAINER / "configs" / "nano"
CHECKPOINT = "checkpoint_best.pth"
ASR_TASK, AAC_TASK = "asr", "audiocaption_v2"
# Clips for pretraining the encoders, and others for the SALMONN stages.
CLIPS = {"speech": (8000, 6000), "sounds": (4000, 3500)}
STEPS = {"whisper": 1800, "beats": 700, "llama": 700}

logger = logging.getLogger(__name__)


def make_data() -> dict[str, Any]:
    """Synthesise the corpora, speech and sounds side by side."""
    from nano.make_data import make_corpora

    with _two_processes() as pool:
        futures = [
            pool.submit(make_corpora, DATA, kind=kind, seed=seed, pretrain=CLIPS[kind][0], train=CLIPS[kind][1])
            for kind, seed in (("speech", 100), ("sounds", 200))
        ]
        for future in futures:
            future.result()
    return {"clips": CLIPS}


def make_parts() -> dict[str, Any]:
    """Pretrain Whisper's encoder beside BEATs and the language model."""
    from nano import pretrain_beats, pretrain_llama, pretrain_whisper

    with _two_processes() as pool:
        futures: dict[str, Future[dict[str, float]]] = {
            "whisper": pool.submit(
                pretrain_whisper.pretrain,
                DATA / "speech_pretrain",
                DATA / "speech_train",
                NANO / "whisper",
                steps=STEPS["whisper"],
                seed=1,
            ),
            "beats": pool.submit(
                pretrain_beats.pretrain,
                DATA / "sounds_pretrain",
                DATA / "sounds_train",
                NANO / "beats.pt",
                steps=STEPS["beats"],
                seed=2,
            ),
            "llama": pool.submit(
                pretrain_llama.pretrain,
                DATA / "speech_pretrain",
                NANO / "llama",
                prompts=_prompts(),
                steps=STEPS["llama"],
                seed=3,
            ),
        }
        return {name: future.result() for name, future in futures.items()}


def make_files() -> dict[str, Any]:
    """Write the last stage's clips as WAV files with an annotation."""
    from nano.make_data import write_training_files

    write_training_files(DATA, (("speech_train", ASR_TASK), ("sounds_train", AAC_TASK)))
    return {}


def train_stage1() -> dict[str, Any]:
    """Train Q-Former, projection and LoRA on all clips."""
    return _train("stage1", [])


def train_stage2() -> dict[str, Any]:
    """Go on from the first stage's checkpoint on a set with fewer captions."""
    return _train("stage2", [f"model.ckpt={_newest_run('stage1') / CHECKPOINT}"])


def export() -> dict[str, Any]:
    """Copy the best checkpoint to nano/salmonn.pth: float16, without the optimizer."""
    import torch

    from salmonn.checkpoint import read_weights, save_checkpoint

    data = read_weights(_newest_run("stage2") / CHECKPOINT)
    trained = {name: tensor.to(torch.float16) for name, tensor in data["model"].items()}
    save_checkpoint(NANO / "salmonn.pth", trained, epoch=data["epoch"])
    parts = [NANO / name for name in ("whisper", "beats.pt", "llama", "qformer", "salmonn.pth")]
    files = [file for part in parts for file in (part.rglob("*") if part.is_dir() else [part]) if file.is_file()]
    return {"bytes": {str(file.relative_to(NANO)): file.stat().st_size for file in files}}


def measure() -> dict[str, Any]:
    """Score the shipped model on data/sample."""
    from nano.measure import measure

    return measure(CONFIGS / "decode.yaml", SAMPLE)


STAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "data": make_data,
    "parts": make_parts,
    "files": make_files,
    "train_stage1": train_stage1,
    "train_stage2": train_stage2,
    "export": export,
    "measure": measure,
}


@click.command()
@click.option("--again", multiple=True, type=click.Choice(list(STAGES)), help="Repeat this stage though it is done.")
@click.option("--until", type=click.Choice(list(STAGES)), default="measure", help="Last stage to run.")
@click.option("--sample", is_flag=True, help="Make data/sample anew as well; figures are then no longer comparable.")
def main(again: tuple[str, ...], until: str, sample: bool) -> None:
    """Make the nano model: data, pretrained parts, SALMONN training, measurement."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if sample:
        from nano.make_data import make_sample

        make_sample(SAMPLE, seed=20)
    for name, stage in STAGES.items():
        run_stage(name, stage, again=name in again)
        if name == until:
            break


def run_stage(name: str, stage: Callable[[], dict[str, Any]], *, again: bool) -> None:
    """Run a stage unless its note says that it is done; write the note last."""
    note = BUILD / "done" / f"{name}.json"
    if note.exists() and not again:
        click.echo(f"{name}: done before, {note.read_text(encoding='utf-8').strip()}")
        return
    click.echo(f"{name} ...")
    started, cpu_started = time.monotonic(), _cpu_seconds()
    figures = stage()
    result = {
        "seconds": round(time.monotonic() - started),
        "cpu_seconds": round(_cpu_seconds() - cpu_started),
        **figures,
    }
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{name}: {json.dumps(result, indent=1)}")


def _cpu_seconds() -> float:
    """Processor time of this process and of its finished children: what a stage costs on a busy machine too."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _two_processes() -> ProcessPoolExecutor:
    """Two fresh processes of one thread each: faster than one process of two threads for models this small."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, mp_context=context, initializer=_start_process)


def _start_process() -> None:
    import torch

    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _prompts() -> dict[str, str]:
    from salmonn.config import load_config
    from salmonn.prompts import train_prompts

    book = train_prompts(load_config(CONFIGS / "train_stage1.yaml", purpose="dryrun"))
    return {task: book.prompt(task) for task in (ASR_TASK, AAC_TASK)}


def _train(stage: str, options: list[str]) -> dict[str, Any]:
    """Run the repository's own train.py on a stage's configuration."""
    command = [sys.executable, "train.py", "--cfg-path", str(CONFIGS / f"train_{stage}.yaml"), "--options"]
    subprocess.run([*command, f"run.output_dir={BUILD / stage}", *options], cwd=TRAINER, check=True)
    return {"run_folder": str(_newest_run(stage).relative_to(NANO))}


def _newest_run(stage: str) -> Path:
    folders = [path.parent for path in (BUILD / stage).rglob(CHECKPOINT)]
    if not folders:
        raise click.ClickException(f"no training run in {BUILD / stage}; run the stage train_{stage}")
    return max(folders, key=lambda folder: folder.stat().st_mtime)


if __name__ == "__main__":
    main()
