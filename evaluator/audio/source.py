"""What an audio path names: a file, a member of a tar archive, or a part in seconds of either.

    talk.flac    talk.flac#t=12.5,16.25    shard-000.tar!talk.flac    shard-000.tar!talk.flac#t=12.5,

In: such a path. Out: its bytes as a file that can be read anywhere, and the part that is meant. The time is written as
the W3C's media fragments have it. A file whose own name looks so is that file. No archive is unpacked or written.
"""

import contextlib
import functools
import math
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from evaluator.audio.bytes import Window
from evaluator.audio.clip import Stamp
from evaluator.audio.reading import WHOLE, Span
from evaluator.audio.regular_file import NotAFileError, open_regular

MEMBER_MARK = ".tar!"
_TIME = re.compile(r"#t=([0-9.e-]*),([0-9.e-]*)\Z")
_ARCHIVES_KNOWN = 64


class Source(NamedTuple):
    """A path taken apart: the file, the member ("" for the file itself) and the part."""

    file: Path
    member: str
    span: Span


class Opened(NamedTuple):
    """An open source: its bytes, the ending of its name, the stamp of the file on disk, and the part."""

    file: BinaryIO
    suffix: str
    stamp: Stamp
    span: Span


def source_of(path: Path) -> Source:
    """Take a path apart.

    Example:
        "a.tar!b.wav#t=1.5," -> Source(Path("a.tar"), "b.wav", Span(1.5, inf))
    """
    text, span = str(path), WHOLE
    found = _TIME.search(text)
    if MEMBER_MARK not in text and (found is None or os.path.lexists(text)):
        return Source(path, "", WHOLE)
    if found is not None:
        text, span = text[: found.start()], Span(_seconds(found[1], 0.0), _seconds(found[2], math.inf))
    before, mark, member = text.partition(MEMBER_MARK)
    if not mark or os.path.lexists(text):
        return Source(Path(text), "", span)
    return Source(Path(before + mark[:-1]), member, span)


def with_span(path: str, span: Span) -> str:
    """The path of a part: ("a.wav", Span(1.5, 2.0)) -> "a.wav#t=1.5,2"."""
    if span == WHOLE:
        return path
    return f"{path}#t={_written(span.start)},{'' if span.end == math.inf else _written(span.end)}"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open what a path names.

    Raises:
        NotAFileError: the file is no regular file, no tar archive, or lacks the member.
        OSError: it cannot be opened; see `regular_file.reason`.
    """
    source = source_of(path)
    with open_regular(source.file) as file:
        stamp = Stamp.of(file)
        if not source.member:
            yield Opened(file, source.file.suffix, stamp, source.span)
            return
        place = _members(source.file, stamp).get(source.member)
        if place is None:
            raise NotAFileError(f"is not in the archive, of whose members none is called {source.member!r}")
        window = cast("BinaryIO", Window(file, place[0], place[0] + place[1]))
        yield Opened(window, Path(source.member).suffix, stamp, source.span)


@functools.lru_cache(maxsize=_ARCHIVES_KNOWN)
def _members(archive: Path, stamp: Stamp) -> Mapping[str, tuple[int, int]]:
    """The members of an uncompressed archive -> (first byte, bytes); the stamp tells a replaced one."""
    try:
        with open_regular(archive) as file, tarfile.open(fileobj=file, mode="r:") as members:
            return {each.name: (each.offset_data, each.size) for each in members if each.isreg() and not each.sparse}
    except tarfile.TarError as error:
        raise NotAFileError(
            f"is no member: the archive cannot be read as a tar without compression ({error})"
        ) from error


def _seconds(text: str, otherwise: float) -> float:
    try:
        return float(text) if text else otherwise
    except ValueError:
        return otherwise


def _written(seconds: float) -> str:
    return repr(seconds).removesuffix(".0")
