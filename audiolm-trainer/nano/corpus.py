"""A set of short clips in two files: all samples in one array, and one JSON line per clip with its labels.

Clips go in while they are made; a memory-mapped corpus comes out. The JSON Lines file is written last, so where
it exists the corpus is complete.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips [N] of int16 at 16 kHz, and a dictionary of labels for each."""

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    labels: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.labels)

    def wave(self, index: int) -> NDArray[np.float32]:
        """Return one clip as float32 in -1..1."""
        piece = self.samples[self.starts[index] : self.starts[index + 1]]
        return piece.astype(np.float32) / 32768.0


def write_corpus(folder: Path, clips: Iterable[tuple[NDArray[np.float32], dict[str, Any]]]) -> None:
    """Write clips (waveform, labels) as a corpus."""
    waves, labels = [], []
    for wave, label in clips:
        waves.append(to_int16(wave))
        labels.append(label)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "samples.npy", np.concatenate(waves))
    np.save(folder / "starts.npy", np.cumsum([0, *(len(wave) for wave in waves)], dtype=np.int64))
    with (folder / "labels.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(label) + "\n" for label in labels)


def read_corpus(folder: Path) -> Corpus:
    """Read a corpus; its samples stay on disk until they are used."""
    lines = (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    return Corpus(
        np.load(folder / "samples.npy", mmap_mode="r"),
        np.load(folder / "starts.npy"),
        [json.loads(line) for line in lines],
    )


def to_int16(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round a waveform in -1..1 to 16 bits."""
    return np.round(np.clip(wave, -1, 32767 / 32768) * 32768).astype(np.int16)
