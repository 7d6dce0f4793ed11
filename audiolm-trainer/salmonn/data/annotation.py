"""An annotation file as a source of checked rows: JSON or JSON Lines, audio in files of its own.

Wrong rows are reported together.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from salmonn.data.annotation_rows import CHUNK_BYTES, AnnotationRows
from salmonn.data.annotation_table import ROWS_PER_BATCH, Row, table_key
from salmonn.data.clip_fields import EXPAND_FIELD, expansion
from salmonn.data.row_checks import CHECKING_THREADS, DEFAULT_TASK, Report, find_files, row_problems
from salmonn.data.span_fields import row_span
from salmonn.errors import DatasetError

logger = logging.getLogger(__name__)


class Annotation:
    """A training annotation: {"annotation": [{"path", "text", "task", "Q"}, ...]}, the bare list, or a row a line.

    A row without task is "asr", one without Q has no question, one without start and end is of the whole file. It meets
    `table_cache.TableSource`.

    Args:
        path: the file.
        prefix: folder of relative audio paths; an absolute path stands for itself where it is there, and for a file
            below the prefix otherwise.
        tasks: known task -> whether its prompt needs a question.
    """

    def __init__(self, path: Path, *, prefix: str, tasks: Mapping[str, bool]) -> None:
        self.name = str(path)
        self.files = (path,)
        self._prefix = prefix
        self._tasks = tasks
        self._content = ""
        self._doubtful = 0
        self._first_doubtful = ""

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
        iterator, first = rows.placed(), 0
        with ThreadPoolExecutor(CHECKING_THREADS, thread_name_prefix="files") as executor:
            while part := list(islice(iterator, ROWS_PER_BATCH)):
                found = self._check(part, first, report, executor)
                if not report:
                    yield found
                first += len(part)
        report.raise_if_any()
        if not first:
            raise DatasetError(f"annotation {self.name} has no rows")
        if self._doubtful:
            logger.warning(
                "%s: %d path(s) begin with / and are there, and below datasets.prefix too; taken as absolute (%s ...)",
                *(self.name, self._doubtful, self._first_doubtful),
            )
        self._content = rows.content

    def _check(
        self, part: list[tuple[int, Any]], first: int, report: Report, executor: ThreadPoolExecutor
    ) -> list[Row]:
        """Turn good rows into `Row`s; the report hears of all others, in their order."""
        problems: dict[int, list[str]] = {}
        good: list[Row] = []
        places: list[int] = []
        for place, (_, row) in enumerate(part):
            found = row_problems(row, self._tasks)
            if found:
                problems[place] = found
                continue
            places.append(place)
            further = expansion(row)
            text = row["text"] if isinstance(row["text"], str) else row["text"][0]
            question, task = row.get("Q") or "", row.get("task") or DEFAULT_TASK
            good.append(Row(row["path"], text, question, task, further=further).of_part(row_span(row)[0]))
        paths = [path for row in good for path in (row.path, *row.further)]
        owners = [number for number, row in enumerate(good) for _ in range(1 + len(row.further))]
        found_files = find_files(self._prefix, paths, executor)
        for number, problem in found_files.problems.items():
            owner = owners[number]
            field = "path" if number == 0 or owners[number - 1] != owner else EXPAND_FIELD
            problems.setdefault(places[owner], []).append(f"{field}: {problem}")
        if found_files.doubtful and not self._doubtful:
            self._first_doubtful = found_files.doubtful[0]
        self._doubtful += len(found_files.doubtful)
        for place in sorted(problems):
            line = part[place][0]
            name = f"line {line}" if line else f"row {first + place + 1}"
            for problem in problems[place]:
                report.add(f"{name}: {problem}")
        return good if found_files.paths == paths else with_files(good, found_files.paths)


def with_files(rows: list[Row], paths: list[str]) -> list[Row]:
    """Put the paths where files were found, in the rows' order, in the place of those that were written."""
    given = iter(paths)
    return [row._replace(path=next(given), further=tuple(next(given) for _ in row.further)) for row in rows]
