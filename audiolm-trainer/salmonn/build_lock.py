"""One process at a time builds what many want: a lock beside it that ends with the process that holds it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def build_lock(path: Path) -> Iterator[None]:
    """Wait until no other process builds a file or folder, then hold the others back until the block ends.

    Whoever gets the lock looks first whether the thing is there by now.

    Args:
        path: what is built; the lock is a hidden empty file beside it, which stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
