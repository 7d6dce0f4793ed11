"""The rows of an annotation as an Arrow table on disk, which every process maps instead of reading it.

Checked rows are written in batches to a table file, and last a manifest says of what it is made. A table is served only
while its source is the same: the same files by size and times, or else by content.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, ipc

from salmonn.audio.reading import WHOLE, Span
from salmonn.errors import DatasetError
from salmonn.weights.atomic_write import whole_file

ROWS_PER_BATCH = 1 << 16
VERSION = 3
SETTLED_NANOSECONDS = 2_000_000_000
"""A file that changed less than this before it was read may change again within the same tick of its times."""

_COLUMNS = ("path", "text", "question")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _COLUMNS),
        ("task", pa.int16()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("further", pa.list_(pa.string())),
        ("start", pa.float64()),
        ("end", pa.float64()),
    ]
)


class Row(NamedTuple):
    """One checked row.

    Attributes:
        path: of the audio, relative to the prefix or absolute; in a shard the member's name.
        text: the answer.
        question: "" for none.
        task: its name.
        shard: place among the shards, -1 for a file of its own.
        offset: first byte of the audio in the shard.
        size: bytes of the audio in the shard.
        further: paths of files that are joined to it.
        start: where the clip begins in the file, in seconds.
        end: where it ends; infinite for the file's end.
    """

    path: str
    text: str
    question: str
    task: str
    shard: int = -1
    offset: int = 0
    size: int = 0
    further: tuple[str, ...] = ()
    start: float = 0.0
    end: float = math.inf

    @property
    def span(self) -> Span:
        """The part of the file that is the clip."""
        return Span(self.start, self.end)

    def of_part(self, span: Span) -> "Row":
        """The same row of a part of its file."""
        return self if span == WHOLE else self._replace(start=span.start, end=span.end)


class Stamp(NamedTuple):
    """What a file looks like from outside; `changed` cannot be set back by copying tools."""

    name: str
    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Look at a file.

        Raises:
            OSError: it cannot be looked at.
        """
        found = path.stat()
        return cls(path.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a table is made of.

    Attributes:
        version: of this format.
        stamps: of the source's files when they were read.
        read_at: when reading began, in nanoseconds since 1970.
        content: digest of the source's bytes; "" for shards, which are too large to be read whole.
        fingerprint: digest of the rows in their order, wherever they lie.
        rows: how many.
        tasks: names of the tasks that occur; a row has a place among them.
        table: name of the table file beside the manifest.
    """

    version: int
    stamps: tuple[Stamp, ...]
    read_at: int
    content: str
    fingerprint: str
    rows: int
    tasks: tuple[str, ...]
    table: str

    @classmethod
    def load(cls, path: Path) -> "Manifest | None":
        """Read a manifest; None where there is no whole one of this version."""
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None
        if data.get("version") != VERSION:
            return None
        stamps = tuple(Stamp(*stamp) for stamp in data.pop("stamps"))
        return cls(**{**data, "stamps": stamps, "tasks": tuple(data["tasks"])})

    def save(self, path: Path) -> None:
        """Write the manifest, all or nothing."""
        text = json.dumps(asdict(self), indent=1)
        with whole_file(path, size=len(text)) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    def is_of(self, stamps: Sequence[Stamp]) -> bool:
        """Whether files with these stamps are surely those that were read."""
        settled = all(stamp.modified + SETTLED_NANOSECONDS < self.read_at for stamp in stamps)
        return settled and tuple(stamps) == self.stamps


class AnnotationTable:
    """Rows by number, from record batches of ROWS_PER_BATCH rows (the last may have fewer).

    Args:
        batches: of SCHEMA; mapped from a file or in memory.
        tasks: names of the tasks; column `task` holds places among them.
        fingerprint: digest of the rows.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], *, tasks: Sequence[str], fingerprint: str) -> None:
        self._columns = [batch.columns for batch in batches]
        self._rows: int = sum(batch.num_rows for batch in batches)
        self.tasks = tuple(tasks)
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return self._rows

    def row(self, index: int) -> Row:
        """Read one row, 0 <= index < len."""
        batch, place = divmod(index, ROWS_PER_BATCH)
        path, text, question, task, *where, further, start, end = (
            column[place].as_py() for column in self._columns[batch]
        )
        shard, offset, size = where
        return Row(path, text, question, self.tasks[task], shard, offset, size, tuple(further), start, end)

    @cached_property
    def text_lengths(self) -> NDArray[np.int32]:
        """Characters of every text: int32 [rows]."""
        return self._numbers((compute.utf8_length(columns[1]) for columns in self._columns), np.dtype(np.int32))

    @cached_property
    def task_ids(self) -> NDArray[np.int16]:
        """Each row's place among the tasks: int16 [rows]."""
        return self._numbers((columns[3] for columns in self._columns), np.dtype(np.int16))

    def _numbers(self, parts: Iterable[pa.Array], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Lay the parts of a column behind each other, one at a time: all at once would need twice the memory."""
        numbers = np.empty(self._rows, dtype=dtype)
        done = 0
        for part in parts:
            numbers[done : done + len(part)] = part.to_numpy()
            done += len(part)
        return numbers


class TableBuilder:
    """Turns rows into record batches and keeps their digest.

    The digest does not depend on how rows are cut into batches: every column has its own, of lengths and characters.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, int] = {}
        self.rows = 0
        self._digests = [hashlib.sha256() for _ in range(8)]
        self._further = hashlib.sha256()
        self._joins = False
        self._parts = hashlib.sha256()
        self._cuts = False

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Make a record batch of up to ROWS_PER_BATCH rows; only the last may have fewer."""
        first, self.rows = self.rows, self.rows + len(rows)
        columns = list(zip(*rows, strict=True))
        task_ids = [self.tasks.setdefault(task, len(self.tasks)) for task in columns[3]]
        for number, texts in enumerate(columns[:4]):
            self._digests[2 * number].update(np.fromiter(map(len, texts), dtype="<i4", count=len(texts)).tobytes())
            self._digests[2 * number + 1].update("".join(texts).encode())
        joined = [(first + place, paths) for place, paths in enumerate(columns[7]) if paths]
        self._joins = self._joins or bool(joined)
        self._further.update("".join(map(json.dumps, joined)).encode())
        spans = zip(*columns[8:10], strict=True)
        cut = [(first + place, *span) for place, span in enumerate(spans) if span != WHOLE]
        self._cuts = self._cuts or bool(cut)
        self._parts.update("".join(map(json.dumps, cut)).encode())
        values = [*columns[:3], task_ids, *columns[4:]]
        arrays = [pa.array(value, type=field.type) for value, field in zip(values, SCHEMA, strict=True)]
        return pa.record_batch(arrays, schema=SCHEMA)

    @property
    def fingerprint(self) -> str:
        """The digest of all rows so far."""
        # Sets without joined clips, or without parts of files, keep the digest that they had before there were any.
        digests = [*self._digests, *([self._further] if self._joins else []), *([self._parts] if self._cuts else [])]
        return hashlib.sha256("".join(digest.hexdigest() for digest in digests).encode()).hexdigest()


def table_in_memory(rows: Sequence[Row]) -> AnnotationTable:
    """Make a table without a file."""
    builder = TableBuilder()
    parts = [rows[start : start + ROWS_PER_BATCH] for start in range(0, len(rows), ROWS_PER_BATCH)]
    batches = [builder.batch(part) for part in parts]
    return AnnotationTable(batches, tasks=list(builder.tasks), fingerprint=builder.fingerprint)


def write_table(path: Path, parts: Iterable[Sequence[Row]], *, size: int) -> TableBuilder:
    """Write rows to a table file, all or nothing.

    Args:
        path: the file.
        parts: ROWS_PER_BATCH rows each, the last fewer.
        size: about how many bytes it will have, for messages.

    Returns:
        What was counted on the way.

    Raises:
        DatasetError: from `parts`.
        CheckpointError: there is too little room, or writing is not allowed.
    """
    builder = TableBuilder()
    # As bytes, because Arrow knows only names in UTF-8 otherwise.
    with (
        whole_file(path, size=size) as unfinished,
        pa.OSFile(os.fsencode(unfinished), "w") as file,
        ipc.new_file(file, SCHEMA) as writer,
    ):
        for rows in parts:
            writer.write_batch(builder.batch(rows))
    return builder


def map_table(path: Path, manifest: Manifest) -> AnnotationTable:
    """Map a table file; its pages are read when rows are, and shared by all processes of a machine.

    Raises:
        FileNotFoundError: it was replaced by a newer one since the manifest was read.
        DatasetError: it is damaged.
    """
    file = pa.memory_map(os.fsencode(path))
    try:
        reader = ipc.open_file(file)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    except pa.ArrowInvalid as error:
        raise DatasetError(f"the kept table {path} is damaged: delete it, and it is made anew") from error
    return AnnotationTable(batches, tasks=manifest.tasks, fingerprint=manifest.fingerprint)


def table_key(source: str, *, prefix: str, tasks: Mapping[str, bool]) -> str:
    """Name the table of a source: the same for every start with the same source, prefix and known tasks."""
    parts = [VERSION, os.path.abspath(source), os.path.abspath(prefix), sorted(tasks.items())]  # noqa: PTH100
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
