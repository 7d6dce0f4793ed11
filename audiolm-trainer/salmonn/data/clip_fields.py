"""Which files a row of an annotation means, and which of its fields would make another clip of them.

In: a row's values and the prefix of its paths. Out: the files of its clip, or sentences on what is wrong. A path that
begins with "/" stands for itself where it is there, and for a file below the prefix otherwise: published annotations
write theirs so. This file is the same in both programs but for the package's name.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

EXPAND_FIELD = "expand_wav"
"""A list of files that are joined to the row's own, with 0.1 s of silence in front of each."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Written without capitals, lines and digits: begin_time, beginTime, start_sec, clip_end ...
_PART = "(?:clip|audio|wav|segment|seg|time|speech)?"
_UNIT = (
    "(?:time|s|sec|secs|second|seconds|ms|msec|millis|milliseconds|sample|samples|frame|frames|at|point|stamp|offset)?"
)
_BEGINS = re.compile(f"{_PART}(?:begin|beginning|start|onset|offset|seek|from){_UNIT}")
_ENDS = re.compile(f"{_PART}(?:end|ending|stop|finish|until){_UNIT}")
_OTHERS = frozenset(
    {
        *("trim", "crop", "channel", "channelid", "channelindex", "speed", "speedperturb", "tempo", "pitch"),
        *("mixwav", "mixwith", "mixpath", "noisewav", "noisepath", "noisefile", "rir", "rirpath", "augment"),
        *("expand", "expandwav", "expandwavs", "expandaudio", "expandpath", "expandpaths"),
        *("concat", "concatwav", "concatpath", "appendwav"),
    }
)
_TIME = re.compile(r"\s*[0-9]+(:[0-9.]+)+\s*")


def located(prefix: str, path: str) -> str:
    """Where a row's path lies.

    Args:
        prefix: folder of relative paths; "" for none.
        path: as written.

    Returns:
        str: an absolute path as it is, unless it is not there and is below the prefix; else the prefix and the path.

    Example:
        ("/data", "a.flac") -> "/data/a.flac"; ("/data", "/a.flac") -> "/data/a.flac" unless there is a /a.flac.
    """
    below = below_prefix(prefix, path)
    if below is None:
        return os.path.join(prefix, path)  # noqa: PTH118 - the original's rule, for millions of rows
    return below if not os.path.exists(path) and os.path.exists(below) else path  # noqa: PTH110


def below_prefix(prefix: str, path: str) -> str | None:
    """The file below the prefix that an absolute path may mean; None for a relative path or without a prefix."""
    if not prefix or not os.path.isabs(path):  # noqa: PTH117
        return None
    return os.path.join(prefix, path.lstrip("/"))  # noqa: PTH118


def is_ambiguous(prefix: str, path: str) -> bool:
    """Whether an absolute path is there and a file of that name below the prefix as well: the absolute one is taken."""
    below = below_prefix(prefix, path)
    both = below is not None and os.path.exists(path) and os.path.exists(below)  # noqa: PTH110
    return both and not _same(path, str(below))


def path_problem(path: str) -> str | None:
    """What is wrong with a path as it is written, in a sentence to put after the field's name."""
    if _URL.match(path):
        return f"{path!r:.80} is an address, not the path of a file"
    if ".." in path and Path(os.path.normpath(path.lstrip("/"))).parts[:1] == ("..",):
        return f'{path!r:.80} leaves the folder datasets.prefix by ".."'
    return None


def expansion(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The further files of a row's clip as they are written, where `expansion_problem` finds nothing wrong."""
    return tuple(row.get(EXPAND_FIELD) or ())


def expansion_problem(row: Mapping[str, Any]) -> str | None:
    """What is wrong with the further files of a row's clip, in a sentence to put after the field's name."""
    value = row.get(EXPAND_FIELD)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(path, str) and path.strip() for path in value):
        return f"expected a list of paths, found {value!r:.80}"
    for path in value:
        if _UNPRINTABLE.search(path):
            return f"a control character or broken Unicode is in {path!r:.80}"
        problem = path_problem(path)
        if problem:
            return problem
    return None


def unsupported(row: Mapping[str, Any], supported: Collection[str] = ()) -> Iterator[str]:
    """Name the fields that would make another clip of a row's file and are not supported: they are never dropped.

    A beginning of 0, an end of -1, channel 0 and speed 1 mean the file as it is and are no problem.

    Args:
        row: its values.
        supported: fields that the program reads: "start" and "end" in seconds, or none.
    """
    cures = {"expand": f"is {EXPAND_FIELD} meant?"}
    if supported:
        cures |= {"begin": 'is "start", in seconds, meant?', "end": 'is "end", in seconds, meant?'}
    for name, value in row.items():
        kind = _kind(name)
        if kind is not None and name not in supported and _changes(kind, value):
            cure = cures.get(kind, "change the file itself")
            yield f"{name}: the field would change what is heard of the file and is not supported; {cure}"


def changes_clip(name: str, value: object) -> bool:
    """Whether a field of this name and value would make another clip of its row's file."""
    kind = _kind(name)
    return kind is not None and _changes(kind, value)


@lru_cache(maxsize=4096)
def _kind(name: str) -> str | None:
    """What a field of this name would do to a clip; None for nothing. Asked for every field of millions of rows."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    if name == EXPAND_FIELD:
        return None
    if _BEGINS.fullmatch(plain):
        return "begin"
    if _ENDS.fullmatch(plain):
        return "end"
    if plain not in _OTHERS:
        return None
    whole = {"speed": "speed", "speedperturb": "speed", "tempo": "speed"}
    whole |= {"channel": "channel", "channelid": "channel", "channelindex": "channel", "pitch": "channel"}
    return "expand" if plain.startswith("expand") else whole.get(plain, "other")


_UNCHANGED = {"begin": 0, "end": -1, "speed": 1, "channel": 0}


def _changes(kind: str, value: object) -> bool:
    if value is None or value in ("", [], {}):
        return False
    number = _number(value)
    if kind in ("begin", "end") and number is None:
        # Texts that are no times, such as {"from": "a podcast"}, mean something else.
        return isinstance(value, str) and _TIME.fullmatch(value) is not None
    return kind not in _UNCHANGED or number != _UNCHANGED[kind]


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float, str)) else None
    except ValueError:
        return None


def _same(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)  # noqa: PTH121
    except OSError:
        return False
