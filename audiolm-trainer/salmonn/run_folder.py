"""What a training run leaves behind: its folder with log.txt and checkpoints.

In go records and model states; out come JSON lines with full precision and checkpoint files in the released
layout, written atomically. The hub token never reaches this room: configurations arrive as `Config.public()`.
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from salmonn.checkpoint import save_checkpoint

logger = logging.getLogger(__name__)


class RunFolder:
    """The folder of one run.

    Args:
        path: an existing folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, output_dir: Path, now: datetime) -> "RunFolder":
        """Make `output_dir/YYYYmmddHHMM`, with "-2", "-3", ... behind it where that is taken."""
        output_dir.mkdir(parents=True, exist_ok=True)
        stem = now.strftime("%Y%m%d%H%M")
        for number in range(1, 10_000):
            path = output_dir / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return cls(path)
        raise FileExistsError(f"{output_dir} has no free name for a run of {stem}")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record to log.txt as a JSON line."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def save(self, name: str, trained: Mapping[str, Tensor], **extra: Any) -> Path:
        """Write `checkpoint_<name>.pth` and return its path."""
        path = self.path / f"checkpoint_{name}.pth"
        save_checkpoint(path, trained, **extra)
        logger.info("saved %s", path)
        return path
