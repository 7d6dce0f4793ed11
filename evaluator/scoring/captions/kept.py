"""What was made of captions once, kept on disk by the captions' text: tokens, and the tuples of SPICE's parse.

One SQLite file for each kind and version, in the user's cache (XDG_CACHE_HOME or ~/.cache) below
audiolm-evaluator/captions/, or in the folder that AUDIOLM_CAPTION_CACHE names; "off" keeps nothing. SQLite lets several
processes read and write at a time. An entry that is not what was written is not there, and a file that is damaged is
made anew: what is missing is only computed again.
"""

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

VARIABLE = "AUDIOLM_CAPTION_CACHE"
PTB = "ptb-corenlp-3.4.1-v1"
SPICE = "spice-1.0-corenlp-3.6.0-v1"
"""Kinds: what made the values, and the version of how they are kept. Another number is another file."""

_TABLE = (
    "create table if not exists kept (text text primary key, value text not null, digest text not null) without rowid"
)
# Texts that one question to SQLite may name.
_AT_ONCE = 500
_WAIT_SECONDS = 10.0


class KeptTexts:
    """The values of one kind. Where they cannot be read or written that is logged, and nothing is kept.

    Args:
        kind: PTB or SPICE; "" keeps nothing.
        folder: where the file is; None: the user's, "off" included.
    """

    def __init__(self, kind: str, folder: Path | None = None) -> None:
        place = kept_folder() if folder is None else folder
        self._path = None if place is None or not kind else place / f"{kind}.sqlite"

    def read(self, texts: Sequence[str]) -> dict[str, Any]:
        """The values of those texts that have one."""
        found: dict[str, Any] = {}
        if self._path is None or not self._path.is_file():
            return found
        self._use(lambda file: found.update(_rows(file, texts)))
        return found

    def write(self, values: Mapping[str, Any]) -> None:
        """Keep values, any that JSON has, by their texts."""
        if self._path is None or not values:
            return
        told = {text: json.dumps(value, ensure_ascii=False) for text, value in values.items()}
        rows = [(text, value, _digest(text, value)) for text, value in told.items()]
        self._use(lambda file: file.executemany("insert or replace into kept values (?, ?, ?)", rows))

    def _use(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do something with the file, all of it or nothing; what SQLite raises is logged."""
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as file, file:
                file.execute(_TABLE)
                work(file)
        except sqlite3.OperationalError as error:
            log.info("Captions' parses are not kept: %s: %s", self._path, error)
        except sqlite3.DatabaseError as error:
            log.info("Captions' parses are made anew: %s: %s", self._path, error)
            with contextlib.suppress(OSError):
                self._path.unlink()
        except OSError as error:
            log.info("Captions' parses are not kept: %s: %s", self._path, error.strerror)


def _rows(file: sqlite3.Connection, texts: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for first in range(0, len(texts), _AT_ONCE):
        part = tuple(texts[first : first + _AT_ONCE])
        marks = ",".join("?" * len(part))
        for text, value, digest in file.execute(f"select * from kept where text in ({marks})", part):
            if digest == _digest(text, value):
                yield text, json.loads(value)


def kept_folder() -> Path | None:
    """Where they are kept; None where nothing is."""
    named = os.environ.get(VARIABLE, "")
    if named == "off":
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(named) if named else Path(cache) / "audiolm-evaluator" / "captions"
    return folder.expanduser()


def _digest(text: str, value: str) -> str:
    return hashlib.blake2b(f"{text}\n{value}".encode(), digest_size=8).hexdigest()
