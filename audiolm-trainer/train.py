"""Trains a SALMONN: `python train.py --cfg-path configs/config.yaml [--options run.optims.max_epoch=1 ...]`.

Reads the YAML configuration, builds the model and the sets it names, trains, and writes logs and checkpoints under
`run.output_dir`; `--resume` goes on where a run ended. The same command runs under `accelerate launch` and `torchrun`.
With --dryrun it needs no weights and no network: it looks through the configured data, makes a few steps of a tiny
model, says what the real run will need, and saves nothing.
"""

import logging
import os
import sys
import traceback
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from salmonn.command_line import INTERRUPTED, options_command, stop
from salmonn.config.config import load_config, open_document
from salmonn.errors import MissingPackageError, SalmonnError

if TYPE_CHECKING:
    from salmonn.training.trainer import TrainingResult

SIGNALLED = 128


@options_command
@click.option(
    "--cfg-path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file.",
)
@click.option("--options", multiple=True, metavar="KEY=VALUE...", help="Overrides, e.g. run.optims.init_lr=1e-4.")
@click.option(
    "--resume", default="", metavar="PATH|auto", help="Go on from a checkpoint or run folder; auto: the newest one."
)
@click.option("--dryrun", is_flag=True, help="A rehearsal with a tiny model, offline; saves nothing.")
def main(cfg_path: Path, options: tuple[str, ...], resume: str, dryrun: bool) -> None:
    """Train a SALMONN as a YAML configuration says.

    \b
    Examples:
      python train.py --cfg-path configs/config.yaml
      python train.py --cfg-path configs/config.yaml --options run.device=cpu run.batch_size_train=4
      python train.py --cfg-path configs/config.yaml --resume auto
      python train.py --cfg-path configs/config.yaml --dryrun
      accelerate launch --num_processes 2 train.py --cfg-path configs/config.yaml
    """
    # Of several processes, the first one speaks for all.
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if resume and dryrun:
        raise click.UsageError("--resume and --dryrun exclude each other: a rehearsal saves nothing to go on from.")
    try:
        if is_pretraining(cfg_path):
            pretrain(cfg_path, options)
        elif dryrun:
            rehearse(cfg_path, options)
        else:
            train(cfg_path, options, resume)
    except SalmonnError as error:
        stop(error)
    except ModuleNotFoundError as error:
        stop(MissingPackageError(error))
    except KeyboardInterrupt:
        click.echo("interrupted; --resume auto goes on from the last checkpoint", err=True)
        sys.exit(INTERRUPTED)


def train(cfg_path: Path, options: tuple[str, ...], resume: str) -> None:
    """Train for real and say where the results are."""
    config = load_config(cfg_path, options, purpose="train")
    from salmonn.preflight.preflight import check_before_training
    from salmonn.training.run import train

    check_before_training(config)
    result, folder = train(config, resume=resume)
    if os.environ.get("RANK", "0") == "0":
        say(result, folder)
    if result.stopped_by is not None:
        sys.exit(SIGNALLED + result.stopped_by)


def say(result: "TrainingResult", folder: Path) -> None:
    """Print how a run ended."""
    if result.stopped_by is not None:
        click.echo(f"stopped after step {result.steps} and saved; go on with --resume auto")
    elif not result.made:
        click.echo(f"nothing left to do: all {result.steps} steps are done")
    elif isnan(result.train_loss):
        click.echo(f"trained {result.steps} steps; the last epoch has no loss, for none of its clips could be read")
    else:
        click.echo(f"trained {result.steps} steps, last epoch's loss {result.train_loss:.4f}")
    if result.best is not None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in result.best.items() if name != "tokens")
        click.echo(f"best after step {result.best_step}: {figures}")
    if result.unreadable:
        click.echo(
            f"{len(result.unreadable)} clips could not be read and were left out: {', '.join(result.unreadable)}"
        )
    click.echo(f"checkpoints: {folder}")


def is_pretraining(cfg_path: Path) -> bool:
    """Whether a configuration has a section `pretrain`: a part of the nano model, not a SALMONN."""
    return "pretrain" in open_document(cfg_path).tree


def pretrain(cfg_path: Path, options: tuple[str, ...]) -> None:
    """Train a part of the nano model from nothing."""
    from nano.pretraining import run

    run(cfg_path, options)


def rehearse(cfg_path: Path, options: tuple[str, ...]) -> None:
    """Rehearse with a tiny model on the configured data and settings."""
    config = load_config(cfg_path, options, purpose="dryrun")
    from salmonn.planning.dryrun import run_dryrun

    report = run_dryrun(config)
    for line in report.lines():
        click.echo(line)


def one_of_several() -> NoReturn:
    """Run as one of several processes, and end without the destructors that can wait for one another for ever."""
    try:
        main()
    except SystemExit as ending:
        finish(ending.code if isinstance(ending.code, int) else int(ending.code is not None))
    except BaseException:  # noqa: BLE001 - printed, and the process ends with it
        traceback.print_exc()
    finish(1)


def finish(code: int) -> NoReturn:
    """Write out what is buffered and leave at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    one_of_several() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else main()
