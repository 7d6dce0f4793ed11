"""What is wrong with the rows of an annotation: all of it in one report.

In go rows as plain values and the paths of their audio files; out come sentences, counted, of which the first ones
are shown.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from salmonn.errors import DatasetError

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
        count = "1 problem" if self._count == 1 else f"{self._count} problems"
        more = self._count - len(self._shown)
        shown = [*self._shown, *([f"... and {more} more"] if more else [])]
        raise DatasetError("\n  ".join([f"{self._source} has {count}", *shown]))


def row_problems(row: object, tasks: Mapping[str, bool]) -> list[str]:
    """List what is wrong with a row, without looking for its audio file.

    Args:
        row: what should be an object with path and text.
        tasks: known task -> whether its prompt needs a question.
    """
    if not isinstance(row, dict):
        return [f"must be an object with path and text (found {row!r})"]
    problems = []
    for field in ("path", "text"):
        value = row.get(field)
        if not isinstance(value, str) or not value.strip():
            problems.append(f"{field}: must be a text (found {value!r})")
        elif not _encodable(value):
            problems.append(f"{field}: holds half of a character (found {value!r})")
    task = row.get("task", DEFAULT_TASK)
    question = row.get("Q", "")
    if not isinstance(task, str) or task not in tasks:
        problems.append(f"task: {task!r} has no training prompt (known: {', '.join(sorted(tasks))})")
    elif not isinstance(question, str) or not _encodable(question):
        problems.append(f"Q: must be a text (found {question!r})")
    elif tasks[task] and not question.strip():
        problems.append(f"Q: task {task!r} needs a question")
    path = row.get("path")
    if isinstance(path, str) and ".." in path and ".." in Path(path).parts:
        problems.append(f"path: {path!r} leaves the prefix; write it without ..")
    return problems


def missing_files(paths: Sequence[str], executor: ThreadPoolExecutor) -> dict[int, str]:
    """Look for files in threads.

    Args:
        paths: of audio files.
        executor: the threads.

    Returns:
        Place in `paths` -> what is wrong there, for every path that is no file.
    """
    parts = [paths[start : start + PATHS_AT_ONCE] for start in range(0, len(paths), PATHS_AT_ONCE)]
    there = chain.from_iterable(executor.map(_are_files, parts))
    return {
        place: f"path: {path!r} {'is not a file' if os.path.exists(path) else 'does not exist'}"  # noqa: PTH110
        for place, (path, is_file) in enumerate(zip(paths, there, strict=True))
        if not is_file
    }


def _are_files(paths: Sequence[str]) -> list[bool]:
    # Path objects cost several times the question itself, and millions are asked.
    return [os.path.isfile(path) for path in paths]  # noqa: PTH113


def _encodable(text: str) -> bool:
    """Whether a text has a UTF-8 form; JSON can write halves of characters that have none."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
