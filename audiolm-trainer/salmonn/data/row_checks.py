"""What is wrong with the rows of an annotation: all of it in one report.

Rows are plain values. Every problem is a sentence; all are counted, the first ones are shown.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import NamedTuple

from salmonn.data.clip_fields import (
    EXPAND_FIELD,
    below_prefix,
    expansion_problem,
    is_ambiguous,
    path_problem,
    unsupported,
)
from salmonn.data.span_fields import SPAN_FIELDS, row_span
from salmonn.errors import DatasetError
from salmonn.wording import counted

DEFAULT_TASK = "asr"
SHOWN_PROBLEMS = 50
PATHS_AT_ONCE = 256
CHECKING_THREADS = 32
"""A network disk answers slowly, but many questions at once."""


class Report:
    """Counts problems and keeps the first ones.

    Args:
        source: the annotation or shards that they are in.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._shown: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, problem: str) -> None:
        """Note one problem."""
        self._count += 1
        if self._count <= SHOWN_PROBLEMS:
            self._shown.append(problem)

    def raise_if_any(self) -> None:
        """End the reading of a wrong annotation.

        Raises:
            DatasetError: there are problems; the first SHOWN_PROBLEMS are listed, the others counted.
        """
        if not self._count:
            return
        more = self._count - len(self._shown)
        shown = [*self._shown, *([f"... and {more} more"] if more else [])]
        raise DatasetError("\n  ".join([f"{self._source} has {counted(self._count, 'problem')}", *shown]))


def row_problems(row: object, tasks: Mapping[str, bool]) -> list[str]:
    """List what is wrong with a row, without looking for its audio file.

    Args:
        row: what should be an object with path and text.
        tasks: known task -> whether its prompt needs a question.
    """
    if not isinstance(row, dict):
        return [f"must be an object with path and text (found {row!r})"]
    problems = [f"{key}: the field appears twice in the row" for key in getattr(row, "repeated", ())]
    problems += unsupported(row, SPAN_FIELDS)
    for field in ("path", "text"):
        value = row.get(field)
        if field == "text" and isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str) or not value.strip():
            problems.append(f"{field}: must be a text (found {value!r})")
        elif not _encodable(value):
            problems.append(f"{field}: holds half of a character (found {value!r})")
    task = row.get("task") if row.get("task") is not None else DEFAULT_TASK
    question = row.get("Q") if row.get("Q") is not None else ""
    if not isinstance(task, str) or task not in tasks:
        problems.append(f"task: {task!r} has no training prompt (known: {', '.join(sorted(tasks))})")
    elif not isinstance(question, str) or not _encodable(question):
        problems.append(f"Q: must be a text (found {question!r})")
    elif tasks[task] and not question.strip():
        problems.append(f"Q: task {task!r} needs a question")
    path = row.get("path")
    wrong = path_problem(path) if isinstance(path, str) else None
    if wrong is not None:
        problems.append(f"path: {wrong}")
    wrong = expansion_problem(row)
    if wrong is not None:
        problems.append(f"{EXPAND_FIELD}: {wrong}")
    _, wrong = row_span(row)
    return [*problems, *([wrong] if wrong is not None else [])]


class FoundFiles(NamedTuple):
    """Where files lie.

    Attributes:
        paths: as written, but those that begin with / and lie below the prefix without it.
        problems: place among the paths -> what is wrong there, for every path that is no file.
        doubtful: absolute paths that are there while a file of that name is below the prefix as well.
    """

    paths: list[str]
    problems: dict[int, str]
    doubtful: list[str]


def find_files(prefix: str, paths: Sequence[str], executor: ThreadPoolExecutor) -> FoundFiles:
    """Look for files in threads.

    Args:
        prefix: folder of relative paths.
        paths: of audio files, as written.
        executor: the threads.
    """
    parts = [paths[start : start + PATHS_AT_ONCE] for start in range(0, len(paths), PATHS_AT_ONCE)]
    looked = chain.from_iterable(executor.map(partial(_look, prefix), parts))
    result = FoundFiles([], {}, [])
    for place, (path, outcome) in enumerate(zip(paths, looked, strict=True)):
        result.paths.append(path)
        if outcome is _BELOW:
            result.paths[-1] = path.lstrip("/")
        elif outcome is _BOTH:
            result.doubtful.append(path)
        elif outcome:
            result.problems[place] = outcome
    return result


_BELOW = "below"
_BOTH = "both"


def _look(prefix: str, paths: Sequence[str]) -> list[str]:
    """What is found of each path: "" for a file, `_BELOW`, `_BOTH`, or what is wrong in a sentence."""
    return [_look_for(prefix, path) for path in paths]


def _look_for(prefix: str, path: str) -> str:
    # Path objects cost several times the question itself, and millions are asked.
    here = os.path.join(prefix, path)  # noqa: PTH118
    below = below_prefix(prefix, path)
    if os.path.isfile(here):  # noqa: PTH113
        return _BOTH if below is not None and is_ambiguous(prefix, path) else ""
    if below is not None and not os.path.exists(here):  # noqa: PTH110
        if os.path.isfile(below):  # noqa: PTH113
            return _BELOW
        return f"{path!r} does not exist, nor does {below!r} below datasets.prefix"
    return f"{here!r} {'is not a file' if os.path.exists(here) else 'does not exist'}"  # noqa: PTH110


def _encodable(text: str) -> bool:
    """Whether a text has a UTF-8 form; JSON can write halves of characters that have none."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
