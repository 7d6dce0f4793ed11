"""Writing a file all or nothing: a path goes in, a temporary path beside it comes out to be filled.

Whoever reads sees the old file or the whole new one, also after a power cut.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Put what the block wrote in the place of a file, once the block has ended well.

    Args:
        path: the file; replaced if it exists.

    Yields:
        A path in the same folder where nothing is yet, for the block to write. It never outlives the block.

    Raises:
        OSError: the file cannot be written; `path` is then as it was before.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut; systems that cannot open folders have no such call."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
