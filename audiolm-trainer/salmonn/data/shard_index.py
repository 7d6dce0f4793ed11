"""Tar shards as a source of checked rows: what is in them and where, so that any clip can be read by itself.

Shards have the layout of WebDataset: members that share a key are one sample. Rows tell the place of each audio member;
wrong ones are reported together. Keys and groups are those of the webdataset library.
"""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from webdataset.tariterators import group_by_keys

from salmonn.config.shards import shard_paths
from salmonn.data.annotation_table import ROWS_PER_BATCH, Row, table_key
from salmonn.data.clip_fields import EXPAND_FIELD
from salmonn.data.row_checks import DEFAULT_TASK, Report, row_problems
from salmonn.data.span_fields import row_span
from salmonn.errors import DatasetError
from salmonn.json_object import json_object

AUDIO_SUFFIXES = (
    *("flac", "wav", "mp3", "ogg", "opus", "oga", "wave", "aiff", "aif", "aifc", "au", "snd", "caf", "w64", "rf64"),
    *("mp2", "mpga", "gsm", "vox", "voc", "sph", "nist"),
)
TEXT_SUFFIXES = ("json", "txt")


class Member(NamedTuple):
    """Where an audio file lies in its shard."""

    name: str
    offset: int
    size: int


class ShardSet:
    """Tar shards; a sample is a key with .json ({"text", "task", "Q"}; .txt alone is the text) and one audio member.

    It meets `table_cache.TableSource`.

    Args:
        pattern: "name-{000..012}.tar", or one shard.
        tasks: known task -> whether its prompt needs a question.

    Raises:
        DatasetError: the braces are not balanced.
    """

    def __init__(self, pattern: str, *, tasks: Mapping[str, bool]) -> None:
        self.name = pattern
        self.files: Sequence[Path] = shard_paths(pattern)
        self._tasks = tasks

    @property
    def key(self) -> str:
        """Tells these shards and this set of tasks from all others."""
        return table_key(self.name, prefix="", tasks=self._tasks)

    def table_bytes(self) -> int:
        """A thousandth of the shards: nearly all of them is audio."""
        return sum(path.stat().st_size for path in self.files) // 1000

    def content(self) -> str:
        """Nothing: shards are known by their sizes and times alone."""
        return ""

    def parts(self) -> Iterator[list[Row]]:
        """Yield all rows, checked, ROWS_PER_BATCH at a time.

        Raises:
            DatasetError: shards cannot be read, hold nothing, or have wrong samples; all of them are listed.
        """
        report = Report(self.name)
        rows = self._rows(report)
        first = 0
        while part := list(islice(rows, ROWS_PER_BATCH)):
            first += len(part)
            if not report:
                yield part
        report.raise_if_any()
        if not first:
            raise DatasetError(f"shards {self.name} have no samples")

    def _rows(self, report: Report) -> Iterator[Row]:
        for shard, path in enumerate(self.files):
            try:
                for sample in _samples(path, report):
                    found = _row(sample, shard, self._tasks)
                    if isinstance(found, Row):
                        yield found
                    else:
                        for problem in found:
                            report.add(f"{path}, key {sample['__key__']!r}: {problem}")
            except (tarfile.TarError, EOFError) as error:
                report.add(f"{path} is no whole tar file: {error}")
            except OSError as error:
                report.add(f"{path} cannot be read: {error.strerror}")


def _samples(path: Path, report: Report) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard: "__key__" and suffix -> bytes of a text, `Member` of anything else."""

    def note(error: Exception) -> bool:
        report.add(f"{path}: {error.args[0]}")
        return True

    with tarfile.open(path, "r:") as shard:
        end = path.stat().st_size
        samples: Iterator[dict[str, Any]] = group_by_keys(_members(shard, path, end), handler=note)
        yield from samples


def _members(shard: tarfile.TarFile, path: Path, end: int) -> Iterator[dict[str, Any]]:
    """Yield members as the library's grouping wants them; audio is stepped over, not read."""
    while (info := shard.next()) is not None:
        if info.offset_data + info.size > end:
            raise tarfile.ReadError(f"{info.name} goes on past the file's end")
        # Every member is remembered for random access, which nobody asks for: a long shard would fill the memory.
        shard.members = []  # type: ignore[attr-defined]
        if not info.isreg() or info.name.rpartition("/")[2].startswith("__"):
            continue
        data: bytes | Member = Member(info.name, info.offset_data, info.size)
        if info.name.lower().endswith(TEXT_SUFFIXES):
            file = shard.extractfile(info)
            assert file is not None  # it is a regular member
            data = file.read()
        yield {"fname": info.name, "data": data, "__url__": str(path)}
    with path.open("rb") as file:
        file.seek(shard.offset)
        rest = file.read(tarfile.BLOCKSIZE)
    # The library takes a header that is cut off or damaged for the end.
    if rest.strip(b"\0") or len(rest) % tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"after {shard.offset} bytes it is cut off or damaged")


def _row(sample: Mapping[str, Any], shard: int, tasks: Mapping[str, bool]) -> Row | list[str]:
    """Turn a sample into a row, or say what is wrong with it."""
    audio = [sample[suffix] for suffix in AUDIO_SUFFIXES if suffix in sample]
    if len(audio) != 1:
        what = "has no audio" if not audio else "has more than one audio"
        held = ", ".join(f".{suffix}" for suffix in sample if not suffix.startswith("__"))
        return [f"{what} (one of .{' .'.join(AUDIO_SUFFIXES)}; here: {held}; a key ends at its first dot)"]
    member: Member = audio[0]
    try:
        fields = _fields(sample)
    except ValueError as error:
        return [str(error)]
    if not isinstance(fields, dict):
        return [f"json: must be an object with text (found {fields!r})"]
    fields["path"] = member.name
    problems = row_problems(fields, tasks)
    if fields.get(EXPAND_FIELD):
        problems.append(f"{EXPAND_FIELD}: is not supported in shards; join the files into one member")
    if problems:
        return problems
    task, question = fields.get("task") or DEFAULT_TASK, fields.get("Q") or ""
    text = fields["text"] if isinstance(fields["text"], str) else fields["text"][0]
    row = Row(member.name, text, question, task, shard, member.offset, member.size)
    return row.of_part(row_span(fields)[0])


def _fields(sample: Mapping[str, Any]) -> Any:
    """Read what is said of a clip.

    Raises:
        ValueError: it cannot be read.
    """
    for suffix in TEXT_SUFFIXES:
        if suffix not in sample:
            continue
        try:
            text = sample[suffix].decode("utf-8-sig")
            return {"text": text.strip()} if suffix == "txt" else json.loads(text, object_pairs_hook=json_object)
        except UnicodeDecodeError as error:
            raise ValueError(f"{suffix}: is not UTF-8 text ({error.reason})") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"json: is not JSON ({error})") from error
        except (RecursionError, ValueError) as error:  # ValueError: more digits than Python converts
            raise ValueError("json: nests too deep or has a number too long") from error
    raise ValueError("has neither .json nor .txt")
