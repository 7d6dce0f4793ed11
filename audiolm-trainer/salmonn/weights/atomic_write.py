"""Files and folders that are written all or nothing: under a temporary name beside the target, then renamed.

Whoever looks sees the old one or the new one, never half of one. A disk that is full is an error that says how much
room is needed, and what was there before stays as it was.
"""

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from salmonn.errors import CheckpointError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path, *, size: int) -> Iterator[Path]:
    """Give a temporary path to write to; it gets its own name when the block ends well, and is deleted when not.

    Args:
        path: the file; its folder is made. An existing file is replaced only by a complete one.
        size: about how many bytes are written, for the message.

    Raises:
        CheckpointError: there is too little room, or writing is not allowed; says what to do.
    """
    unfinished = _beside(path)
    with _explained(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.touch()
            mode = unfinished.stat().st_mode
            yield unfinished
            _to_disk(unfinished, mode)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, size: int) -> Iterator[Path]:
    """Give a new temporary folder to write to; it gets its own name when the block ends well, and is deleted when not.

    Args:
        path: the folder. An existing one is put aside and deleted once the new one has its name.
        size: about how many bytes are written, for the message.

    Raises:
        CheckpointError: there is too little room, or writing is not allowed; says what to do.
    """
    unfinished = _beside(path)
    with _explained(path, size):
        unfinished.mkdir(parents=True)
        try:
            probe = unfinished / "mode"
            probe.touch()
            mode = probe.stat().st_mode
            probe.unlink()
            yield unfinished
            for file in unfinished.iterdir():
                _to_disk(file, mode)
            _take_the_name(unfinished, path)
        finally:
            if unfinished.exists():
                shutil.rmtree(unfinished)


def remove_unfinished(folder: Path, pattern: str, *, own: bool) -> list[Path]:
    """Delete what processes that were killed left of `whole_file`; return what was deleted.

    Args:
        folder: looked through, not the folders in it.
        pattern: temporary names, without the dot in front and the ending: "checkpoint_*".
        own: nobody else writes there. Otherwise files of other machines and of living processes stay.
    """
    removed = []
    for path in sorted(folder.glob(f".{pattern}.tmp")):
        if own or _is_left_over(path):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _is_left_over(path: Path) -> bool:
    """Whether the process of this machine that a temporary name tells of is gone."""
    *rest, number, _ = path.name.split(".")
    if not number.isascii() or not number.isdigit() or int(number) == os.getpid():
        return number == str(os.getpid())
    host = rest[-1].partition("@")[2]
    if host and host != _host():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _host() -> str:
    """This machine's name, without what a file name or the order of its parts cannot have."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def _take_the_name(unfinished: Path, path: Path) -> None:
    """Put the complete folder in the place of the old one, which comes back if that fails."""
    old = unfinished.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        unfinished.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    if old.exists():
        shutil.rmtree(old)


def _beside(path: Path) -> Path:
    """A name in the same folder, so that renaming stays within one file system; it tells whose it is."""
    return path.with_name(f".{path.name}@{_host()}.{os.getpid()}.tmp")


def _to_disk(path: Path, mode: int) -> None:
    """Flush a file, and give it the mode that the user's new files have: safetensors' would be closed to all others."""
    path.chmod(mode)
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path, size: int) -> Iterator[None]:
    """Turn the operating system's errors into a sentence; others pass as they are."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        code, text = reason
        raise CheckpointError(f"{str(path)!r} cannot be written: {text}{_advice(code, path, size)}") from error


def _advice(code: int | None, path: Path, size: int) -> str:
    if code not in _NO_ROOM:
        return ""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    return (
        f". About {size / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free there: "
        "make room or choose another place; what was there before is unchanged"
    )


def _reason(error: Exception) -> tuple[int | None, str] | None:
    """Number and text of the operating system's error behind an exception, None where there is none."""
    if isinstance(error, OSError):
        return error.errno, error.strerror or str(error)
    if isinstance(error, SafetensorError):
        # The library keeps only the text: "... No space left on device (os error 28)".
        found = [code for code in _NO_ROOM if f"(os error {code})" in str(error)]
        return (found[0] if found else None), str(error)
    # When writing fails, PyTorch's archive raises an error of its own while the system's is being handled.
    behind = error.__context__
    return (behind.errno, behind.strerror or str(behind)) if isinstance(behind, OSError) else None
