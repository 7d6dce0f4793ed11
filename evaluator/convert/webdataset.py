"""WebDataset's tar archives: members of one key are one clip, KEY.flac beside KEY.txt or KEY.json.

The audio is not unpacked: the path of a clip is "shard.tar!KEY.flac", which the evaluator reads where it lies.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluator.audio.source import MEMBER_MARK
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import TEXT, first_of, further, texts_of
from evaluator.wording import shown

_AUDIO = ("flac", "wav", "mp3", "ogg", "opus", "oga", "aiff", "aif", "au")
_MOST_TEXT_BYTES = 16 << 20
_TEXTS = ("txt", "text", "transcript", "caption")


def read_webdataset(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read an archive, or all below a folder; paths start at the folder."""
    folder = source if source.is_dir() else source.parent
    for archive in sorted(source.rglob("*.tar")) if source.is_dir() else [source]:
        try:
            samples = _samples(archive)
        except (OSError, tarfile.TarError) as error:
            problems.note(archive, None, f"cannot be read as a tar without compression: {error}")
            continue
        for key, members in samples.items():
            audio = next((members[ending] for ending in _AUDIO if ending in members), None)
            if audio is None:
                problems.note(archive, None, f"{shown(key)} has no audio, only .{', .'.join(members)}")
                continue
            texts, extra, wrong = _said(members)
            if wrong is not None:
                problems.note(archive, None, f"{shown(key)}: {wrong}")
                continue
            path = archive.relative_to(folder).as_posix() + MEMBER_MARK[-1] + str(audio)
            yield ClipRow(key, path, texts, extra=extra)


def _samples(archive: Path) -> dict[str, dict[str, Any]]:
    """Key -> ending -> the member's name where it is audio, and its bytes where it is text."""
    samples: dict[str, dict[str, Any]] = {}
    with tarfile.open(archive, "r:") as members:
        for member in members:
            folder, slash, name = member.name.rpartition("/")
            stem, dot, ending = name.partition(".")
            if not member.isreg() or not stem or not dot:
                continue
            ending = ending.lower()
            kept: Any = member.name
            if ending in (*_TEXTS, "json") and member.size <= _MOST_TEXT_BYTES:
                file = members.extractfile(member)
                kept = file.read() if file is not None else b""
            samples.setdefault(folder + slash + stem, {})[ending] = kept
        require_whole(members)
    return samples


def require_whole(members: tarfile.TarFile) -> None:
    """Check that an archive whose members have been read goes on with nothing but its end.

    The library takes a header that is cut off or damaged for the end, and the members behind it are missed.

    Raises:
        tarfile.ReadError: something else follows.
    """
    file = members.fileobj
    assert file is not None  # it is open
    file.seek(members.offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if rest.strip(b"\0") or len(rest) % tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"after {members.offset} bytes it is cut off or damaged")


def _said(members: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, Any], str | None]:
    """The texts and further fields of a sample, or what is wrong with them."""
    extra: dict[str, Any] = {}
    texts: tuple[str, ...] | None = ()
    try:
        if "json" in members:
            row = json.loads(members["json"])
            if not isinstance(row, dict):
                return (), {}, f".json: expected an object, found {shown(row)}"
            name = first_of(TEXT, row)
            texts = texts_of(row[name]) if name else ()
            extra, wrong = further(row, [name])
            if texts is None or wrong:
                return (), {}, next(iter(wrong), f".json: {name}: expected a text, found {shown(row[name or ''])}")
        for ending in _TEXTS:
            if ending in members:
                texts = (members[ending].decode("utf-8"),)
    except (ValueError, RecursionError) as error:
        return (), {}, f"cannot be read: {error}"
    return texts or (), extra, None
