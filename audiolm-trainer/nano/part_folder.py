"""A folder of a pretrained part, written so that a killed run leaves the old files or the new ones, none cut short.

What writes the files goes in; the folder comes out.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from salmonn.weights.atomic_write import whole_file


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `target`, then move its files into `target` one by one."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as unfinished:
        write(Path(unfinished))
        for file in sorted(path for path in Path(unfinished).iterdir() if path.is_file()):
            with whole_file(target / file.name, size=file.stat().st_size) as complete:
                file.replace(complete)
