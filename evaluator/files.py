"""Files: writing one all or nothing, also over a power cut, JSON among them, and the digest of one."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluator.errors import ResultError


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
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
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


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, read in pieces.

    Raises:
        OSError: if it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as a JSON file, all or nothing: a reader sees the old file or the whole new one.

    Raises:
        ResultError: if it cannot be written (a full disk).
        ValueError: if a number is not finite: JSON has none of those.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ResultError(f"Cannot write {path}: {error.strerror or error}.") from error
