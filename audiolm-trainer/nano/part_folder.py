"""A folder of a pretrained part, written so that a killed run leaves the old files or the new ones, none cut short.

What writes the files goes in; the folder comes out.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `target`, then move its files into `target` one by one."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as unfinished:
        write(Path(unfinished))
        for file in sorted(path for path in Path(unfinished).iterdir() if path.is_file()):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            file.replace(target / file.name)
