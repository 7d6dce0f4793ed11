"""Training and validation sets: what is asked of which clip, and the clips' audio.

The source is an annotation of the original's schema or tar shards in the layout of WebDataset. A `Sample` is read when
it is asked for, from a table on the disk; so are waveforms, and prompts are filled.
"""

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from salmonn.audio.loading import decode_audio, load_audio, part_name
from salmonn.audio.reading import WHOLE, Span
from salmonn.config.shards import is_shard_pattern
from salmonn.data.annotation import Annotation
from salmonn.data.annotation_table import AnnotationTable, Row, table_in_memory
from salmonn.data.table_cache import open_table
from salmonn.errors import AudioError
from salmonn.prompts import PromptBook


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of an annotation: the clip, what is asked (`task`, `question`) and the answer (`text`).

    `further` are files that are joined to the clip's own, with 0.1 s of silence between them; `span` is the part of the
    file that is the clip.
    """

    path: Path
    text: str
    task: str
    question: str
    further: tuple[Path, ...] = ()
    span: Span = WHOLE

    @property
    def name(self) -> str:
        """What tells the clip from others, for messages: "talk.flac", "talk.flac from 12.5 s to 16.25 s"."""
        return f"{self.path}{part_name(self.span)}"


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model is asked and should say, for B samples.

    Attributes:
        indices: B places in the list of samples.
        prompts: B filled prompts, each with the audio slot once.
        targets: B texts.
    """

    indices: tuple[int, ...]
    prompts: tuple[str, ...]
    targets: tuple[str, ...]


class Samples(Sequence[Sample]):
    """The samples of a set, made when they are asked for; a slice is a set as well.

    Args:
        table: the rows.
        prefix: folder of relative audio paths.
        shards: the tar files that rows with a shard point into.
    """

    def __init__(self, table: AnnotationTable, *, prefix: str = "", shards: Sequence[Path] = ()) -> None:
        self._table = table
        self._prefix = prefix
        self._shards = tuple(shards)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Samples":
        """Make a set of samples whose audio lies in files, in memory."""
        rows = [
            Row(str(s.path), s.text, s.question, s.task, further=tuple(map(str, s.further))).of_part(s.span)
            for s in samples
        ]
        return cls(table_in_memory(rows))

    @property
    def fingerprint(self) -> str:
        """A digest of all texts, questions, tasks, parts and paths as written, in order, wherever the set lies."""
        return self._table.fingerprint

    @property
    def location(self) -> str:
        """Where relative paths start: the prefix, or the folders of the shards, with links resolved."""
        folders = sorted({str(shard.parent.resolve()) for shard in self._shards})
        return os.pathsep.join(folders) if folders else str(Path(self._prefix).resolve())

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Samples": ...
    def __getitem__(self, index: int | slice) -> "Sample | Samples":
        if isinstance(index, slice):
            rows = [self._table.row(place) for place in range(*index.indices(len(self)))]
            return Samples(table_in_memory(rows), prefix=self._prefix, shards=self._shards)
        row = self._row(index)
        return Sample(self._path(row), row.text, row.task, row.question, self._further(row), row.span)

    def load_audio(self, index: int, sampling_rate: int) -> NDArray[np.float32]:
        """Read a clip from its file or shard, float32 [N]; see `salmonn.audio.loading.load_audio`.

        Raises:
            AudioError: it cannot be read; the message names it.
        """
        row = self._row(index)
        if row.shard < 0:
            return load_audio(self._path(row), sampling_rate, further=self._further(row), span=row.span)
        name = str(self._path(row))
        try:
            with self._shards[row.shard].open("rb") as shard:
                shard.seek(row.offset)
                data = shard.read(row.size)
        except OSError as error:
            raise AudioError(f"audio file {name!r} cannot be read: {error.strerror}") from error
        return decode_audio(data, name, sampling_rate, span=row.span)

    def text_lengths(self) -> NDArray[np.int32]:
        """Characters of every text: int32 [n]."""
        return self._table.text_lengths

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that occur, in the order in which they first do."""
        return self._table.tasks

    def task_ids(self) -> NDArray[np.int16]:
        """Each sample's place in `tasks()`: int16 [n]."""
        return self._table.task_ids

    def _row(self, index: int) -> Row:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._table.row(index % len(self))

    def _path(self, row: Row) -> Path:
        if row.shard >= 0:
            return self._shards[row.shard] / row.path
        return Path(os.path.join(self._prefix, row.path))  # noqa: PTH118 - of millions of rows

    def _further(self, row: Row) -> tuple[Path, ...]:
        return tuple(Path(os.path.join(self._prefix, path)) for path in row.further)  # noqa: PTH118


def open_samples(source: str, *, prefix: str, tasks: Mapping[str, bool], cache_dir: Path) -> Samples:
    """Open a training or validation set.

    The first time its rows are read, checked and kept as a table; later the table is mapped, in well under a second.

    Args:
        source: an annotation, JSON or JSON Lines; or tar shards, "name-{000..012}.tar".
        prefix: folder of relative audio paths, and of those that begin with "/" and are not there. Shards have no use
            for it.
        tasks: known task -> whether its prompt needs a question.
        cache_dir: where tables are kept.

    Raises:
        DatasetError: the source cannot be read, is empty, or has wrong rows; all of them are listed.
        CheckpointError: the table cannot be written.
    """
    if not is_shard_pattern(source):
        return Samples(open_table(Annotation(Path(source), prefix=prefix, tasks=tasks), cache_dir), prefix=prefix)
    # The library behind it imports all of PyTorch; whoever has no shards need not wait for that.
    from salmonn.data.shard_index import ShardSet

    shards = ShardSet(source, tasks=tasks)
    return Samples(open_table(shards, cache_dir), shards=shards.files)


def collate(
    samples: Sequence[Sample],
    indices: Sequence[int],
    book: PromptBook,
    *,
    rng: random.Random | None,
    multi_prompt: bool,
) -> Batch:
    """Put samples together; a pure function of its arguments.

    Args:
        samples: all samples.
        indices: places of this batch's B samples.
        book: wordings of the tasks.
        rng: draws the wordings; None takes each task's first.
        multi_prompt: draw for every sample; False draws once for each task of the batch.

    Example:
        One sample of task "asr" gives
        Batch((7,), ("USER: <Speech><SpeechHere></Speech> Write down ...\\nASSISTANT:",), ("two dogs",)).
    """
    chosen = [samples[index] for index in indices]
    if rng is None:
        prompts = [book.prompt(sample.task, sample.question) for sample in chosen]
    elif multi_prompt:
        prompts = [book.draw(sample.task, rng, sample.question) for sample in chosen]
    else:
        seeds = {task: rng.random() for task in sorted({sample.task for sample in chosen})}
        prompts = [book.draw(s.task, random.Random(seeds[s.task]), s.question) for s in chosen]
    return Batch(tuple(indices), tuple(prompts), tuple(sample.text for sample in chosen))


def in_order(num_samples: int, batch_size: int) -> Iterator[list[int]]:
    """Yield every sample once in batches: 5 samples by 2 -> [0, 1], [2, 3], [4]."""
    for start in range(0, num_samples, batch_size):
        yield list(range(start, min(start + batch_size, num_samples)))
