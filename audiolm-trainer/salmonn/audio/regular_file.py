"""Opening a user's file without ever waiting: regular files only, checked before and after opening.

In: a path somebody typed. Out: an open binary file, or an OSError whose text is a clause for a message ("is a
folder"). A FIFO would block for ever, a device would never end; both look like files to open().
"""

import errno
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

_REASONS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist: something on the way to it is a file, not a folder",
    errno.EACCES: "may not be read (no permission)",
    errno.EPERM: "may not be read (no permission)",
    errno.ELOOP: "is a loop of symbolic links",
    errno.ENAMETOOLONG: "has a name too long for this system",
    errno.EAGAIN: "gives no data: it is not a file at rest",
}


class NotAFileError(OSError):
    """The path names something that is not a regular file: a folder, a device, a pipe, a socket."""


def reason(error: OSError) -> str:
    """What an OSError says, as a clause to put after the path: "does not exist"."""
    if isinstance(error, NotAFileError):
        return str(error)
    return _REASONS.get(error.errno or 0) or f"cannot be read: {error.strerror or error}"


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: the file; symbolic links are followed.

    Raises:
        NotAFileError: it is something else.
        OSError: it cannot be opened; see `reason`.
    """
    try:
        _require_regular(os.stat(path).st_mode)  # noqa: PTH116 - Path.stat() is the same call, but for NULs
    except ValueError as error:  # a NUL, half a surrogate pair, or what the locale's encoding lacks
        encoding = sys.getfilesystemencoding()
        if isinstance(error, UnicodeEncodeError) and encoding != "utf-8":
            clause = f"cannot be looked for: the locale's encoding, {encoding}, lacks its characters; set PYTHONUTF8=1"
            raise NotAFileError(clause) from error
        raise NotAFileError("is no path: it holds characters that no file name can hold") from error
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        # Once more: the name may stand for another thing by now.
        _require_regular(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise NotAFileError("is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise NotAFileError("is not a regular file (a device, a pipe or a socket)")
