"""The headers of a set's clips, read before any model is loaded.

In: samples, in any number. Out: how long each clip is, what tells it from others, what its files looked like, and what
is odd or wrong about them, row by row and in little memory. Files are read by threads, a stretch of rows ahead: on a
network disk they cost waiting, not work.
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import overload

from evaluator.annotation.annotation import Annotation, Sample, Samples
from evaluator.audio.loading import AudioFacts, check_audio
from evaluator.audio.reading import SILENCE_SECONDS
from evaluator.errors import AudioError

_STRETCH = 1024
"""Rows whose headers are read before they are looked at; files are remembered that long at least."""
_DIGEST_BYTES = 16


class Digests(Sequence[str | None]):
    """What tells each row's clip from others, in 16 bytes a row; None for a clip that cannot be read."""

    def __init__(self, digests: Sequence[str | None] = ()) -> None:
        self._bytes = bytearray()
        for digest in digests:
            self.append(digest)

    def append(self, digest: str | None) -> None:
        """Add a row's, 32 hexadecimal digits."""
        self._bytes += bytes(_DIGEST_BYTES) if digest is None else bytes.fromhex(digest)

    def __len__(self) -> int:
        return len(self._bytes) // _DIGEST_BYTES

    @overload
    def __getitem__(self, place: int) -> str | None: ...
    @overload
    def __getitem__(self, place: slice) -> "list[str | None]": ...
    def __getitem__(self, place: int | slice) -> "str | list[str | None] | None":
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        found = bytes(self._bytes[place * _DIGEST_BYTES : (place + 1) * _DIGEST_BYTES])
        return found.hex() if any(found) else None


class ClipHeaders:
    """The headers of samples, row by row.

    Attributes:
        samples: the same samples with the stamps of their files.
        lengths: seconds of each clip, joined files and the silence between them; 0.0 where it cannot be read.
        digests: what tells each clip from others.
        unreadable: ids of the rows whose clip cannot be read.
        warnings: what is odd about files, in sentences.
    """

    def __init__(self) -> None:
        self.samples = Samples()
        self.lengths = array("d")
        self.digests = Digests()
        self.unreadable: list[str] = []
        self.warnings: list[str] = []
        self._warned: set[Path] = set()
        self._known: dict[Path, AudioFacts | AudioError] = {}

    def read(self, annotation: Annotation, samples: Sequence[Sample], *, tolerant: bool, workers: int) -> None:
        """Read the headers of samples, each file once.

        Args:
            annotation: theirs; gets the problems of files that cannot be read.
            samples: to look at.
            tolerant: whether such files are no problem, but a row that says so.
            workers: threads.
        """
        pool = ThreadPoolExecutor(max_workers=max(1, workers))
        try:
            for stretch in _stretches(samples):
                files = dict.fromkeys(file for sample in stretch for file in sample.files)
                new = [file for file in files if file not in self._known]
                self._known.update(zip(new, pool.map(_facts, new), strict=True))
                annotation.check_audio((lambda file: None) if tolerant else self._problem, stretch)
                for sample in stretch:
                    self._note(sample)
                if len(self._known) > 4 * _STRETCH:
                    self._known = {file: self._known[file] for file in files}
        finally:
            pool.shutdown(cancel_futures=True)

    def _problem(self, file: Path) -> str | None:
        found = self._known[file]
        return found.message if isinstance(found, AudioError) else None

    def _note(self, sample: Sample) -> None:
        facts = [facts for file in sample.files if (facts := self._readable(file)) is not None]
        if len(facts) < len(sample.files):
            self.unreadable.append(sample.id)
            self.samples.append(sample)
            self.lengths.append(0.0)
            self.digests.append(None)
            return
        self.samples.append(replace(sample, stamps=tuple(each.stamp for each in facts)))
        self.lengths.append(sum(each.seconds for each in facts) + SILENCE_SECONDS * len(sample.further))
        self.digests.append(_joined([each.digest for each in facts]))

    def _readable(self, file: Path) -> AudioFacts | None:
        found = self._known[file]
        if isinstance(found, AudioError):
            return None
        if found.warning is not None and file not in self._warned:
            self._warned.add(file)
            self.warnings.append(f"{str(file)!r} {found.warning}.")
        return found


def _facts(path: Path) -> AudioFacts | AudioError:
    try:
        return check_audio(path)
    except AudioError as error:
        return error


def _stretches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    stretch: list[Sample] = []
    for sample in samples:
        stretch.append(sample)
        if len(stretch) == _STRETCH:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _joined(digests: Sequence[str]) -> str:
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("+".join(digests).encode()).hexdigest()[: 2 * _DIGEST_BYTES]
