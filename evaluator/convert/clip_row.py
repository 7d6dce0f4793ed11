"""A clip of any data set: what every reader gives and every writer takes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluator.audio.reading import WHOLE, Span
from evaluator.errors import AnnotationError, Problem
from evaluator.wording import counted

MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip.

    Attributes:
        id: as the data set has it.
        path: the audio file as the data set writes it; "shard.tar!name" for a member of an archive.
        texts: transcript or captions; none where there is none.
        span: the part of the file, in seconds.
        extra: further fields that are worth keeping, "task" and "Q" among them.
    """

    id: str
    path: str
    texts: tuple[str, ...]
    span: Span = WHOLE
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problems:
    """What is wrong with a source, gathered until all of it has been read."""

    source: Path
    found: list[Problem] = field(default_factory=list)

    def note(self, file: Path, line: int | None, message: str) -> None:
        """Note a problem of a file, or of a line of it."""
        self.found.append(Problem(str(file) if line is None else f"{file}:{line}", message))

    def raise_any(self) -> None:
        """Report them.

        Raises:
            AnnotationError: there are some; it names the first MOST_SHOWN.
        """
        if self.found:
            more = len(self.found) - MOST_SHOWN
            shown = [*self.found[:MOST_SHOWN], *([Problem("", f"... and {more} more")] if more > 0 else [])]
            raise AnnotationError(f"{self.source} has {counted(self.found)}:", shown)


@dataclass(frozen=True, slots=True)
class Choices:
    """What a reader may need to be told.

    Attributes:
        suffix: ending of audio files that the data set names by id alone.
        audio: folder for audio that lies inside of tables; None: nothing is unpacked.
    """

    suffix: str | None = None
    audio: Path | None = None


Reader = Callable[[Path, Choices, Problems], Iterator[ClipRow]]
