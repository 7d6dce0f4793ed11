"""What a training run leaves behind: its folder with log.txt, metrics.jsonl and checkpoints.

Figures are JSON lines with full precision; checkpoints have the released layout and are written all or nothing. Paths
and the hub token never get here: configurations arrive as `Config.shareable()`.
"""

import itertools
import json
import logging
import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from salmonn.errors import CheckpointError
from salmonn.weights.atomic_write import remove_unfinished, whole_file
from salmonn.weights.checkpoint import read_weights, save_checkpoint

logger = logging.getLogger(__name__)

BEST = "checkpoint_best.pth"
RESUMABLE = "progress"
"""The entry that only a checkpoint from which a run can go on has."""
FILES = "files"
"""The entry with the digests of the files that a run was trained with."""


class RunFolder:
    """The folder of one run.

    Args:
        path: an existing folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, output_dir: Path, now: datetime) -> "RunFolder":
        """Make `output_dir/2026-01-31_09-05-00`, or the same with "-2", "-3", ... behind it where that is taken.

        Raises:
            CheckpointError: the folder cannot be made.
        """
        stem = now.strftime("%Y-%m-%d_%H-%M-%S")
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                path = output_dir / (stem if number == 1 else f"{stem}-{number}")
                if not path.exists():
                    path.mkdir()
                    break
        except OSError as error:
            raise CheckpointError(f"run.output_dir {output_dir} cannot be written: {error.strerror}") from error
        return cls(path)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record to log.txt as a JSON line."""
        self._append("log.txt", record)

    def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the figures of a step to metrics.jsonl."""
        self._append("metrics.jsonl", {"step": step, **metrics})

    def forget_metrics_after(self, step: int) -> None:
        """Drop figures of steps after this one: a resumed run writes them again."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except json.JSONDecodeError:
                # The line that was being written when the run was killed.
                logger.info("dropped an unfinished line of %s", path)
        with whole_file(path, size=path.stat().st_size) as unfinished:
            unfinished.write_text("".join(kept), encoding="utf-8")

    def save(self, name: str, trained: Mapping[str, Tensor], **extra: Any) -> Path:
        """Write `checkpoint_<name>.pth` and return its path."""
        path = self.path / f"checkpoint_{name}.pth"
        save_checkpoint(path, trained, **extra)
        logger.info("saved %s", path)
        return path

    def mark_best(self, path: Path) -> None:
        """Let checkpoint_best.pth be what a checkpoint just saved is, without writing it twice where links exist."""
        with whole_file(self.path / BEST, size=path.stat().st_size) as unfinished:
            unfinished.unlink()
            try:
                os.link(path, unfinished)
            except OSError:
                # A file system without hard links.
                shutil.copyfile(path, unfinished)

    def keep(self, last: int) -> None:
        """Delete all but the newest `last` checkpoints; the best is another file and stays."""
        for path in self._by_age()[:-last]:
            path.unlink()

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        path = self.path / name
        try:
            # A name that is not UTF-8 is written as JSON writes such characters, as an escape.
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise CheckpointError(f"{path} cannot be written: {error.strerror}; what was saved is unchanged") from error

    def _by_age(self) -> list[Path]:
        """The checkpoints but the best, oldest first."""
        found = [path for path in self.path.glob("checkpoint_*.pth") if path.name != BEST]
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def remove_unfinished_checkpoints(output_dir: Path, resumed: Path | None) -> None:
    """Delete checkpoints that were being written when their process was killed; nothing can read them.

    Args:
        output_dir: all runs' folder; what living processes write below it stays.
        resumed: the folder of the run that goes on, which nobody else writes.
    """
    folders = {path.parent for path in output_dir.rglob(".checkpoint_*.tmp")} if output_dir.is_dir() else set()
    for folder in folders | ({resumed} if resumed is not None else set()):
        for path in remove_unfinished(folder, "checkpoint_*", own=folder == resumed):
            logger.info("removed %s, which a process that was killed left unfinished", path)


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint below a folder from which a run can go on, None for none.

    Raises:
        CheckpointError: a checkpoint is damaged.
    """
    found = [path for path in folder.rglob("checkpoint_*.pth") if path.name != BEST]
    for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True):
        if RESUMABLE in read_weights(path):
            return path
    return None
