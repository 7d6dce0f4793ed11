"""Paths as they are typed in Python, where no shell replaces the ~ of a home folder."""

import os
from os import PathLike, fspath
from pathlib import Path


def typed_path(path: str | PathLike[str]) -> Path:
    """ "~/asr.json" -> Path("/home/me/asr.json"); as it is where there is no home."""
    return Path(os.path.expanduser(fspath(path)))  # noqa: PTH111 - Path.expanduser raises where there is no home


def typed_path_or_none(path: str | PathLike[str] | None) -> Path | None:
    """The same; None for None."""
    return None if path is None else typed_path(path)
