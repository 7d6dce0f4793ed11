"""One process at a time builds what many want: a lock beside it that ends with the process that holds it."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from salmonn.errors import DatasetError


@contextmanager
def build_lock(path: Path) -> Iterator[None]:
    """Wait until no other process builds a file or folder, then hold the others back until the block ends.

    Whoever gets the lock looks first whether the thing is there by now.

    Args:
        path: what is built; the lock is a hidden empty file beside it, which stays.

    Raises:
        DatasetError: the lock cannot be had in that folder.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.with_name(f".{path.name}.lock").open("wb"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise DatasetError(
                f"nothing can be kept in {path.parent}: {error.strerror}; set datasets.cache_dir to another folder"
            ) from error
        yield
