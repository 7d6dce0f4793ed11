"""A part of a file as bytes: read anywhere, searched, and shown to a decoder as a file of its own.

In: an open binary file. Out: bytes at a place, the place of a pattern, and `Window`, a stretch of the file with what
its header should have said. This file is the same in both programs but for the package's name.
"""

import io
import os
import re
from collections.abc import Sequence
from typing import BinaryIO

_BLOCK = 1 << 18


class FileBytes:
    """Random access to an open file, a block at a time.

    Args:
        file: opened for reading, seekable.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        self._start = 0
        self._block = b""

    def at(self, place: int, count: int) -> bytes:
        """Up to `count` bytes (at most a block) from a place; fewer at the end of the file."""
        inside = place - self._start
        if not 0 <= inside <= inside + count <= len(self._block):
            self.file.seek(place)
            self._start, inside = place, 0
            self._block = self.file.read(_BLOCK)
        return self._block[inside : inside + count]

    def find(self, pattern: "re.Pattern[bytes]", start: int, end: int, *, longest: int) -> int | None:
        """The first place of a pattern in [start, end), None if it is not there.

        Args:
            pattern: what is looked for.
            start: where the search begins.
            end: where it ends; a match lies whole before it.
            longest: bytes that a match can have.
        """
        place = start
        while place < end:
            block = self.at(place, min(_BLOCK, end - place))
            found = pattern.search(block)
            if found is not None:
                return place + found.start()
            if len(block) < _BLOCK:
                return None
            place += len(block) - longest + 1
        return None

    def find_any(self, texts: Sequence[bytes], start: int, end: int) -> int | None:
        """The first place of any of some byte strings in [start, end), None if none is there."""
        longest = max(map(len, texts))
        place = start
        while place < end:
            block = self.at(place, min(_BLOCK, end - place))
            # One search each is many times faster than a pattern of alternatives.
            found = [inside for text in texts if (inside := block.find(text)) >= 0]
            if found:
                return place + min(found)
            if len(block) < _BLOCK:
                return None
            place += len(block) - longest + 1
        return None


class Window(io.RawIOBase):
    """A stretch of a file that reads as a file, with something in front of it and some of its bytes replaced.

    Decoders call it from C, where exceptions are lost: an OSError is kept in `error`, and the stretch then ends there.

    Args:
        file: the file.
        start: first byte of the stretch.
        end: first byte behind it.
        patches: (place in the file, bytes that stand there instead).
        prefix: bytes in front.
    """

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        end: int,
        *,
        patches: Sequence[tuple[int, bytes]] = (),
        prefix: bytes = b"",
    ) -> None:
        self.error: OSError | None = None
        self._file = file
        self._prefix = prefix
        self._start = start - len(prefix)
        self._size = end - self._start
        self._patches = [(place - self._start, data) for place, data in patches]
        self._place = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def tell(self) -> int:
        """The place in the stretch."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the stretch."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill a buffer; 0 at the end and after an error."""
        wanted = max(0, min(len(buffer), self._size - self._place))
        try:
            data = bytearray(self._prefix[self._place : self._place + wanted])
            if len(data) < wanted:
                self._file.seek(self._start + self._place + len(data))
                data += self._file.read(wanted - len(data))
        except OSError as error:
            self.error = error
            return 0
        for place, patch in self._patches:
            for number, byte in enumerate(patch, start=place - self._place):
                if 0 <= number < len(data):
                    data[number] = byte
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
