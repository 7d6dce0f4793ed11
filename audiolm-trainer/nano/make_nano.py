"""Makes the nano model from nothing: `python -m nano.make_nano` in audiolm-trainer/ (or `make train-nano` above it).

It only runs the commands listed in STAGES, each of which can be run by hand, and says how long they took. A finished
stage leaves a note in nano/build/done/ and is not run again; delete the note, or name the stage with --again, to
repeat it. Needs espeak-ng, and jiwer and aac-metrics for the last stage.
"""

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

NANO = Path(__file__).resolve().parent
TRAINER = NANO.parent
DONE = NANO / "build" / "done"
# One thread to a process: two processes side by side are faster than one of two threads for models this small, and
# the numbers do not depend on the machine's cores.
THREADS = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Stage:
    """Commands under one name: `lanes` run side by side, the commands of a lane one after the other."""

    name: str
    lanes: tuple[tuple[str, ...], ...]


STAGES = (
    Stage("data", (("python -m nano.make_data",),)),
    Stage(
        "parts",
        (
            ("python train.py --cfg-path configs/nano/pretrain_whisper.yaml",),
            (
                "python train.py --cfg-path configs/nano/pretrain_beats.yaml",
                "python train.py --cfg-path configs/nano/pretrain_llama.yaml",
            ),
        ),
    ),
    Stage(
        "stage1",
        (
            (
                "python train.py --cfg-path configs/nano/train_stage1.yaml",
                "python -m nano.export nano/build/stage1 nano/build/stage1.pth",
            ),
        ),
    ),
    Stage("stage2", (("python train.py --cfg-path configs/nano/train_stage2.yaml",),)),
    Stage("export", (("python -m nano.export nano/build/stage2 nano/salmonn.pth --float16",),)),
    Stage("measure", (("python -m nano.measure",),)),
)
NAMES = tuple(stage.name for stage in STAGES)


@click.command()
@click.option("--again", multiple=True, type=click.Choice(NAMES), help="Repeat this stage though it is done.")
@click.option("--until", type=click.Choice(NAMES), default=NAMES[-1], help="Last stage to run.")
def main(again: tuple[str, ...], until: str) -> None:
    """Make the nano model: data, pretrained parts, SALMONN training, export, measurement."""
    for stage in STAGES:
        run_stage(stage, again=stage.name in again)
        if stage.name == until:
            break


def run_stage(stage: Stage, *, again: bool) -> None:
    """Run a stage unless its note says that it is done; write the note last.

    Raises:
        click.ClickException: A command failed.
    """
    note = DONE / f"{stage.name}.json"
    if note.exists() and not again:
        click.echo(f"{stage.name}: done before ({note})")
        return
    started, cpu_started = time.monotonic(), _cpu_seconds()
    with ThreadPoolExecutor(len(stage.lanes)) as pool:
        for future in [pool.submit(_run_lane, lane) for lane in stage.lanes]:
            future.result()
    result = {
        "commands": [command for lane in stage.lanes for command in lane],
        "seconds": round(time.monotonic() - started),
        "cpu_seconds": round(_cpu_seconds() - cpu_started),
    }
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{stage.name}: {result['seconds']} s, {result['cpu_seconds']} s of processor time")


def _run_lane(commands: tuple[str, ...]) -> None:
    for command in commands:
        click.echo(f"$ {command}")
        arguments = [sys.executable if word == "python" else word for word in shlex.split(command)]
        code = subprocess.run(arguments, cwd=TRAINER, env={**THREADS, **os.environ}, check=False).returncode
        if code:
            raise click.ClickException(f"`{command}` ended with code {code}; its own message is above")


def _cpu_seconds() -> float:
    """Processor time of the finished commands: what a stage costs on a busy machine too."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
