"""Tables of annotations and shards, kept between runs: made once, then served while their source stays the same.

The table of a source is an `AnnotationTable`, mapped from its file.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from salmonn.data.annotation_table import VERSION, AnnotationTable, Manifest, Row, Stamp, map_table, write_table
from salmonn.data.file_lock import build_lock
from salmonn.errors import DatasetError

logger = logging.getLogger(__name__)

FOLDER = "annotations"


class TableSource(Protocol):
    """Where the rows of a table come from."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """The files that decide what the rows are."""
        ...

    @property
    def key(self) -> str:
        """Tells this source, prefix and set of tasks from all others."""
        ...

    def table_bytes(self) -> int:
        """About how large the table will be."""
        ...

    def content(self) -> str:
        """Digest of the files' bytes; "" where there are too many."""
        ...

    def parts(self) -> Iterator[list[Row]]:
        """Yield all rows, checked, ROWS_PER_BATCH at a time.

        Raises:
            DatasetError: the source cannot be read or has wrong rows.
        """
        ...


def open_table(source: TableSource, cache_dir: Path) -> AnnotationTable:
    """Map the table of a source, and make it first if there is none that belongs to the source as it is now.

    Args:
        source: where the rows come from.
        cache_dir: tables are kept in its folder `annotations`. Several processes may start at once: one makes the
            table, the others wait for it.

    Raises:
        DatasetError: the source cannot be read, changes meanwhile, or has wrong rows; all of them are listed.
        CheckpointError: the table cannot be written.
    """
    folder = cache_dir / FOLDER
    stem = f"{source.files[0].stem}-{source.key}"
    path = folder / f"{stem}.json"
    stamps = _stamps(source)
    manifest = Manifest.load(path)
    if manifest is not None and manifest.is_of(stamps):
        table = _map(folder, manifest)
        if table is not None:
            return table
    with build_lock(path):
        manifest = _refreshed(source, path, stamps) or _build(source, path, stamps)
        return map_table(folder / manifest.table, manifest)


def _map(folder: Path, manifest: Manifest) -> AnnotationTable | None:
    """Map a table; None where another process has put a newer one in its place since the manifest was read."""
    try:
        return map_table(folder / manifest.table, manifest)
    except FileNotFoundError:
        return None


def _stamps(source: TableSource) -> tuple[Stamp, ...]:
    stamps, problems = [], []
    for file in source.files:
        try:
            stamps.append(Stamp.of(file))
        except OSError as error:
            problems.append(f"{file} cannot be read: {error.strerror}")
    if problems:
        raise DatasetError("annotation " + "\n  ".join(problems))
    return tuple(stamps)


def _refreshed(source: TableSource, path: Path, stamps: tuple[Stamp, ...]) -> Manifest | None:
    """Find a table that is good after all: made by another process meanwhile, or of files that only look different."""
    manifest = Manifest.load(path)
    if manifest is None or not (path.parent / manifest.table).is_file():
        return None
    if manifest.is_of(stamps):
        return manifest
    read_at = time.time_ns()
    if not manifest.content or source.content() != manifest.content:
        return None
    manifest = replace(manifest, stamps=stamps, read_at=read_at)
    manifest.save(path)
    return manifest


def _build(source: TableSource, path: Path, stamps: tuple[Stamp, ...]) -> Manifest:
    """Write table and manifest, and delete the tables that they replace."""
    logger.info("reading %s for the first time; later starts map its table", source.name)
    read_at = time.time_ns()
    table = path.with_name(f"{path.stem}-{read_at:x}.arrow")
    built = write_table(table, source.parts(), size=source.table_bytes())
    content = source.content()
    if _stamps(source) != stamps:
        table.unlink()
        raise DatasetError(f"{source.name} changed while it was read: start again")
    manifest = Manifest(
        version=VERSION,
        stamps=stamps,
        read_at=read_at,
        content=content,
        fingerprint=built.fingerprint,
        rows=built.rows,
        tasks=tuple(built.tasks),
        table=table.name,
    )
    manifest.save(path)
    for old in path.parent.glob(f"{path.stem}-*.arrow"):
        if old != table:
            old.unlink()
    logger.info("kept %d rows in %s (%.0f s)", built.rows, table, (time.time_ns() - read_at) / 1e9)
    return manifest
