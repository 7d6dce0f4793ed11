"""An annotation file as a source of checked rows: JSON or JSON Lines, audio in files of its own.

In go the file, the prefix of relative audio paths and the known tasks; out come rows, or one report of every wrong
one.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from salmonn.annotation_rows import CHUNK_BYTES, AnnotationRows
from salmonn.annotation_table import ROWS_PER_BATCH, Row, table_key
from salmonn.errors import DatasetError
from salmonn.row_problems import CHECKING_THREADS, DEFAULT_TASK, Report, missing_files, row_problems


class Annotation:
    """A training annotation: {"annotation": [{"path", "text", "task", "Q"}, ...]}, the bare list, or a row a line.

    A row without task is "asr", one without Q has no question. It meets `kept_table.TableSource`.

    Args:
        path: the file; .jsonl means JSON Lines.
        prefix: folder of relative audio paths; an absolute path overrides it.
        tasks: known task -> whether its prompt needs a question.
    """

    def __init__(self, path: Path, *, prefix: str, tasks: Mapping[str, bool]) -> None:
        self.name = str(path)
        self.files = (path,)
        self._prefix = prefix
        self._tasks = tasks
        self._content = ""

    @property
    def key(self) -> str:
        """Tells this file, prefix and set of tasks from all others."""
        return table_key(self.name, prefix=self._prefix, tasks=self._tasks)

    def table_bytes(self) -> int:
        """About as many as the file has."""
        return self.files[0].stat().st_size

    def content(self) -> str:
        """SHA-256 of the file; of the very bytes that were parsed, once `parts` has ended."""
        if not self._content:
            digest = hashlib.sha256()
            with self.files[0].open("rb") as file:
                while data := file.read(CHUNK_BYTES):
                    digest.update(data)
            self._content = digest.hexdigest()
        return self._content

    def parts(self) -> Iterator[list[Row]]:
        """Yield all rows, checked, ROWS_PER_BATCH at a time.

        Raises:
            DatasetError: the file cannot be read, is empty, or has wrong rows; all of them are listed.
        """
        rows = AnnotationRows(self.files[0])
        report = Report(self.name)
        iterator, first = iter(rows), 0
        with ThreadPoolExecutor(CHECKING_THREADS, thread_name_prefix="files") as executor:
            while part := list(islice(iterator, ROWS_PER_BATCH)):
                found = self._check(part, first, report, executor)
                if not report:
                    yield found
                first += len(part)
        report.raise_if_any()
        if not first:
            raise DatasetError(f"annotation {self.name} has no rows")
        self._content = rows.content

    def _check(self, part: list[Any], first: int, report: Report, executor: ThreadPoolExecutor) -> list[Row]:
        """Turn good rows into `Row`s; the report hears of all others, in their order."""
        problems: dict[int, list[str]] = {}
        good: list[Row] = []
        places: list[int] = []
        for place, row in enumerate(part):
            found = row_problems(row, self._tasks)
            if found:
                problems[place] = found
                continue
            places.append(place)
            good.append(Row(row["path"], row["text"], row.get("Q", ""), row.get("task", DEFAULT_TASK)))
        paths = [os.path.join(self._prefix, row.path) for row in good]  # noqa: PTH118 - millions of rows
        for place, problem in missing_files(paths, executor).items():
            problems[places[place]] = [problem]
        for place in sorted(problems):
            for problem in problems[place]:
                report.add(f"row {first + place}: {problem}")
        return good
