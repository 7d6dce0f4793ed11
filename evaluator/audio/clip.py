"""A clip: the files that are heard as one, and what they looked like when they were checked."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple


class Stamp(NamedTuple):
    """What a file looks like from outside: its size in bytes, when it was changed (ns since 1970), its inode."""

    size: int
    modified: int
    inode: int

    @classmethod
    def of(cls, file: BinaryIO) -> "Stamp":
        """Look at an open file."""
        found = os.fstat(file.fileno())
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Clip:
    """What is heard as one: a file, or several with 0.1 s of silence between them.

    Attributes:
        files: at least one.
        stamps: what the files looked like when they were checked; none where they were not.
    """

    files: tuple[Path, ...]
    stamps: tuple[Stamp, ...] = ()
