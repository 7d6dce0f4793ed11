"""An annotation that was read and has no problems: a sequence of its samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from evaluator.annotation.annotation import Sample
from evaluator.tasks import Mode


@dataclass(frozen=True, slots=True)
class LoadedAnnotation(Sequence[Sample]):
    """An annotation file's samples, and what it can be run as.

    Attributes:
        path: the file.
        prefix: folder that its relative audio paths start from.
        mode: what it can be run as.
        samples: one a clip, in the file's order; captions of one clip are its references.
        seconds: how long each clip is; empty where the clips were not looked at.
        notices: what should be known of it, in sentences.
    """

    path: Path
    prefix: str
    mode: Mode
    samples: Sequence[Sample]
    seconds: Sequence[float] = ()
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        return self.samples[place]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __repr__(self) -> str:
        return f"<{self.path}: {len(self)} clips for {self.mode}>"
