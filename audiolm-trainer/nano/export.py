"""Takes a training run's best checkpoint out of its folder: `python -m nano.export nano/build/stage1 stage1.pth`.

A run's folder has its date in its name; what follows it needs a fixed one. The newest run under the folder counts.
Only the trained tensors, the epoch and the names of the tasks are kept, with --float16 at half the size.
"""

import logging
from pathlib import Path

import click

CHECKPOINT = "checkpoint_best.pth"

logger = logging.getLogger(__name__)


def newest_checkpoint(runs: Path) -> Path:
    """Find the best checkpoint of the newest run in or under a folder.

    Raises:
        FileNotFoundError: No run there has one.
    """
    found = list(runs.rglob(CHECKPOINT))
    if not found:
        raise FileNotFoundError(f"no {CHECKPOINT} under {runs}: run train.py with run.output_dir={runs} first")
    return max(found, key=lambda path: path.stat().st_mtime)


def export(source: Path, target: Path, *, float16: bool) -> None:
    """Write a checkpoint's trained tensors, epoch and tasks, without optimizer and configuration."""
    import torch

    from salmonn.weights.checkpoint import read_weights, save_checkpoint

    data = read_weights(source)
    trained = {name: tensor.to(torch.float16) if float16 else tensor for name, tensor in data["model"].items()}
    save_checkpoint(target, trained, epoch=data["epoch"], tasks=data["tasks"])
    logger.info("%s -> %s, %d bytes", source, target, target.stat().st_size)


@click.command()
@click.argument("runs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--float16", is_flag=True, help="Write the tensors in half precision.")
def main(runs: Path, target: Path, float16: bool) -> None:
    """Write the best checkpoint of the newest run under RUNS to TARGET."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        export(newest_checkpoint(runs), target, float16=float16)
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
