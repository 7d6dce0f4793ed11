"""The frozen encoders' outputs of a whole set, kept as float16: in memory for one run, or on disk for all runs.

A source that encodes is replaced by one that looks up. A folder on disk is complete or absent: it gets its name when
its last file, the manifest, is written. It belongs to one set, read from one place, and one state of the encoders.
Clips that could not be read when it was filled are noted in it.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from salmonn.data.dataset import Samples, in_order
from salmonn.data.file_lock import build_lock
from salmonn.data.unreadable import UnreadableClips
from salmonn.errors import DatasetError
from salmonn.model.speech_encoder import Encoded
from salmonn.training.encoded_batch import EncodedBatch, EncodedSource
from salmonn.weights.atomic_write import whole_folder

logger = logging.getLogger(__name__)

VERSION = 1
MANIFEST = "manifest.json"
LOGGED_BATCHES = 20

Half = NDArray[np.float16]


class CachedEncoded:
    """Looks the encoded clips of batches up.

    Args:
        whisper: float16 [rows, T, Dw], in memory or mapped from a file.
        beats: for each row float16 [its tokens, Db].
        rows: int32 [samples], each sample's row, -1 where the clip could not be read.
        device: where batches are wanted.
    """

    def __init__(self, whisper: Half, beats: Sequence[Half], *, rows: NDArray[np.int32], device: torch.device) -> None:
        self._whisper = whisper
        self._beats = beats
        self._rows = rows
        self._device = device

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[EncodedBatch]:
        """Yield what could be read of each batch, one for each, in order."""
        for indices in batches:
            kept = [index for index in indices if self._rows[index] >= 0]
            yield EncodedBatch(kept, self._look_up(self._rows[kept]) if kept else None)

    def _look_up(self, rows: NDArray[np.int32]) -> Encoded:
        chosen = [self._beats[row] for row in rows]
        lengths = [tokens.shape[0] for tokens in chosen]
        beats = np.zeros((len(chosen), max(lengths), chosen[0].shape[1]), dtype=np.float16)
        for place, tokens in enumerate(chosen):
            beats[place, : tokens.shape[0]] = tokens
        return Encoded(
            whisper=torch.from_numpy(np.array(self._whisper[rows])).to(self._device),
            beats=torch.from_numpy(beats).to(self._device),
            beats_tokens=torch.tensor(lengths),
        )


def fill_memory(live: EncodedSource, samples: Samples, *, batch_size: int) -> CachedEncoded:
    """Encode every sample once and keep all in memory.

    Args:
        live: encodes.
        samples: the set.
        batch_size: clips that are encoded at once.

    Raises:
        AudioError: more clips cannot be read than allowed.
        DatasetError: no clip can be read.
    """
    stream = live.stream(in_order(len(samples), batch_size))
    first = _first(stream)
    size = _Sizes.of(first).total(len(samples))
    logger.info("keeping %d encoded clips in memory: about %.2f GB", len(samples), size / 1e9)
    rows = np.full(len(samples), -1, dtype=np.int32)
    whisper = np.empty((len(samples), *first.whisper.shape[1:]), dtype=np.float16)
    beats: list[Half] = []
    for part in _parts(first, stream, len(samples)):
        rows[part.indices] = np.arange(len(beats), len(beats) + len(part.indices))
        whisper[len(beats) : len(beats) + len(part.indices)] = part.whisper
        beats += part.beats
    return CachedEncoded(whisper, beats, rows=rows, device=first.device)


def open_on_disk(
    live: EncodedSource,
    samples: Samples,
    *,
    folder: Path,
    batch_size: int,
    unreadable: UnreadableClips,
    encoder_identity: str,
    device: torch.device,
) -> CachedEncoded:
    """Map a set's encoded clips, and encode them first if they are not there.

    Args:
        live: encodes.
        samples: the set.
        folder: where encoded sets are kept, each in a folder of its own.
        batch_size: clips that are encoded at once.
        unreadable: where `live` notes clips that cannot be read; clips noted earlier on disk are added.
        encoder_identity: a digest of the encoders' weights.
        device: where batches are wanted.

    Raises:
        AudioError: more clips cannot be read than allowed.
        DatasetError: no clip can be read, or the encoded clips do not fit on the disk.
        CheckpointError: they cannot be written.
    """
    parts = [VERSION, samples.fingerprint, samples.location, encoder_identity]
    path = folder / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    if not (path / MANIFEST).is_file():
        with build_lock(path):
            if not (path / MANIFEST).is_file():
                _fill_folder(path, live, samples, batch_size=batch_size, unreadable=unreadable)
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    rows = np.zeros(len(samples), dtype=np.int32)
    for index, name, reason in manifest["unreadable"]:
        rows[index] = -1
        unreadable.add(name, f"{reason} (so it was when {path} was written; delete that folder to try again)")
    readable = rows >= 0
    rows[readable] = np.arange(int(readable.sum()))
    logger.info("encoded clips: %d from %s", int(readable.sum()), path)
    beats = _Ragged(np.load(path / "beats.npy", mmap_mode="r"), np.load(path / "beats_offsets.npy"))
    return CachedEncoded(np.load(path / "whisper.npy", mmap_mode="r"), beats, rows=rows, device=device)


class _Part(NamedTuple):
    """Some encoded clips as arrays: whisper float16 [B, T, Dw], for each clip beats float16 [its tokens, Db]."""

    indices: list[int]
    whisper: Half
    beats: list[Half]
    device: torch.device


class _Sizes(NamedTuple):
    """Bytes of one clip, BEATs' by the mean of those seen."""

    whisper: float
    beats: float

    @classmethod
    def of(cls, part: _Part) -> "_Sizes":
        count = len(part.indices)
        return cls(part.whisper.nbytes / count, sum(tokens.nbytes for tokens in part.beats) / count)

    def total(self, clips: int) -> int:
        return round(clips * (self.whisper + self.beats))


class _Ragged(Sequence[Half]):
    """Arrays of different lengths that lie in one: row i is flat[offsets[i] : offsets[i + 1]]."""

    def __init__(self, flat: Half, offsets: NDArray[np.int64]) -> None:
        self._flat = flat
        self._offsets = offsets

    def __len__(self) -> int:
        return self._offsets.size - 1

    def __getitem__(self, index: Any) -> Any:
        return self._flat[self._offsets[index] : self._offsets[index + 1]]


class _GrowingFile:
    """A .npy file of float16 [rows, *shape] that is written row by row; the number of rows is filled in at the end."""

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self._file = file
        self._shape = shape
        self._rows = 0
        self._header_size = file.write(self._header())

    def append(self, rows: Half) -> None:
        """Write rows, [any, *shape]."""
        self._rows += rows.shape[0]
        self._file.write(np.ascontiguousarray(rows).data if rows.size else b"")

    def finish(self) -> None:
        """Write the header that says how many rows there are."""
        header = self._header()
        if len(header) != self._header_size:
            raise RuntimeError("this version of NumPy leaves no room in the headers of growing files")
        self._file.seek(0)
        self._file.write(header)

    def _header(self) -> bytes:
        # NumPy leaves room for the first number of any shape, so that files can grow: all headers are equally long.
        header = BytesIO()
        entries = {"descr": "<f2", "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_1_0(header, entries)
        return header.getvalue()


def _first(stream: Iterator[EncodedBatch]) -> _Part:
    """Encode the first batch of which anything can be read: it tells the sizes."""
    for batch in stream:
        if batch.encoded is not None:
            return _to_part(batch.indices, batch.encoded)
    raise DatasetError("no clip of the set can be read")


def _parts(first: _Part, stream: Iterator[EncodedBatch], clips: int) -> Iterator[_Part]:
    """Yield the first part and all others, and say how far it is."""
    others = (_to_part(batch.indices, batch.encoded) for batch in stream if batch.encoded is not None)
    for number, part in enumerate(chain([first], others)):
        if number % LOGGED_BATCHES == 0:
            logger.info("encoded %d of %d clips", part.indices[-1] + 1, clips)
        yield part


def _to_part(indices: list[int], encoded: Encoded) -> _Part:
    lengths = encoded.beats_tokens.tolist()
    beats = encoded.beats.to("cpu", torch.float16).numpy()
    return _Part(
        indices,
        encoded.whisper.to("cpu", torch.float16).numpy(),
        [tokens[:length].copy() for tokens, length in zip(beats, lengths, strict=True)],
        encoded.whisper.device,
    )


def _fill_folder(
    path: Path, live: EncodedSource, samples: Samples, *, batch_size: int, unreadable: UnreadableClips
) -> None:
    """Encode every sample once into a folder that gets its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for remains in path.parent.glob(f".{path.name}.*.tmp"):
        # Whoever began it is gone: this process holds the lock.
        shutil.rmtree(remains)
    stream = live.stream(in_order(len(samples), batch_size))
    first = _first(stream)
    size = _announce(first, len(samples), path)
    done: set[int] = set()
    lengths = [0]
    with whole_folder(path, size=size) as unfinished:
        with (unfinished / "whisper.npy").open("wb") as one, (unfinished / "beats.npy").open("wb") as two:
            whisper = _GrowingFile(one, first.whisper.shape[1:])
            beats = _GrowingFile(two, first.beats[0].shape[1:])
            for part in _parts(first, stream, len(samples)):
                done.update(part.indices)
                whisper.append(part.whisper)
                beats.append(np.concatenate(part.beats))
                lengths += [tokens.shape[0] for tokens in part.beats]
            whisper.finish()
            beats.finish()
        np.save(unfinished / "beats_offsets.npy", np.cumsum(lengths, dtype=np.int64))
        names = {index: samples[index].name for index in range(len(samples)) if index not in done}
        noted = [[index, name, unreadable.reason(name)] for index, name in names.items()]
        manifest = {"version": VERSION, "clips": len(samples), "unreadable": noted}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _announce(first: _Part, clips: int, path: Path) -> int:
    """Say how much disk the clips will take; return the bytes.

    Raises:
        DatasetError: that much is not free.
    """
    size, free = _Sizes.of(first).total(clips), shutil.disk_usage(path.parent).free
    figures = f"about {size / 1e9:.2f} GB, {free / 1e9:.2f} GB free"
    logger.info("encoding %d clips into %s: %s", clips, path, figures)
    if size > free:
        raise DatasetError(
            f"{clips} encoded clips do not fit into {path.parent}: {figures}; make room, set datasets.cache_dir to a "
            "larger disk, or run.cache_features to False"
        )
    return size
