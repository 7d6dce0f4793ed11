"""Trains a SALMONN: `python train.py --cfg-path configs/config.yaml [--options run.optims.max_epoch=1 ...]`.

Reads the YAML configuration, builds the model and the sets it names, trains, and writes log.txt and
checkpoints under `run.output_dir`. With --dryrun it needs no weights and no network: one real step of a
tiny model on the configured data (made-up clips where there is none yet), and nothing is saved.
"""

import logging
import sys
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import click

from salmonn.config import load_config
from salmonn.config_file import spread_options
from salmonn.errors import SalmonnError

INTERRUPTED = 130


class TrainCommand(click.Command):
    """A command whose --options takes every value up to the next flag."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the flag before each of its values, the form click knows."""
        return super().parse_args(ctx, spread_options(args))


@click.command(cls=TrainCommand)
@click.option(
    "--cfg-path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file.",
)
@click.option("--options", multiple=True, metavar="KEY=VALUE...", help="Overrides, e.g. run.optims.init_lr=1e-4.")
@click.option("--dryrun", is_flag=True, help="One step of a tiny model, offline; saves nothing.")
def main(cfg_path: Path, options: tuple[str, ...], dryrun: bool) -> None:
    """Train a SALMONN as a YAML configuration says.

    \b
    Examples:
      python train.py --cfg-path configs/config.yaml
      python train.py --cfg-path configs/config.yaml --options run.device=cpu run.batch_size_train=4
      python train.py --cfg-path configs/config.yaml --dryrun
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        rehearse(cfg_path, options) if dryrun else train(cfg_path, options)
    except SalmonnError as error:
        stop(error)
    except KeyboardInterrupt:
        click.echo("interrupted; finished epochs are saved", err=True)
        sys.exit(INTERRUPTED)


def train(cfg_path: Path, options: tuple[str, ...]) -> None:
    """Train for real and say where the results are."""
    config = load_config(cfg_path, options, purpose="train")
    import torch

    from salmonn.components import choose_device, choose_dtype
    from salmonn.model import SALMONN
    from salmonn.run_folder import RunFolder
    from salmonn.trainer import build_trainer

    device = choose_device(config.run.device)
    torch.manual_seed(config.run.seed)
    model = SALMONN.from_config(config, device=device, dtype=choose_dtype(config.model.dtype, device), train=True)
    folder = RunFolder.create(Path(config.run.output_dir), datetime.now())
    click.echo(f"run folder: {folder.path}")
    result = build_trainer(config, model, device=device, folder=folder).run()
    click.echo(f"trained {result.steps} steps, last epoch's loss {result.train_loss:.4f}")
    if result.best is not None:
        best = f"token accuracy {result.best.accuracy:.4f}, loss {result.best.loss:.4f}"
        click.echo(f"best epoch {result.best_epoch}: {best}")
    click.echo(f"checkpoints: {folder.path}")


def rehearse(cfg_path: Path, options: tuple[str, ...]) -> None:
    """Make one step of a tiny model with the configured data and settings."""
    config = load_config(cfg_path, options, purpose="dryrun")
    from salmonn.dryrun import run_dryrun

    report = run_dryrun(config)
    for line in report.lines():
        click.echo(line)


def stop(error: SalmonnError) -> NoReturn:
    """End with the error's sentences and the exit code of its kind."""
    click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
