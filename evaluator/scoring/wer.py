"""Word and character error rates over a set: words of references and hypotheses in, counts and rates out.

The rate of a set is the sum of its edits over the sum of its reference words, never the mean of the rows'
rates.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, overload

import jiwer

Words = Sequence[str]


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """How one hypothesis, or a whole set, differs from its reference.

    Attributes:
        hits: reference units found.
        substitutions: reference units replaced by others.
        deletions: reference units that are missing.
        insertions: hypothesis units that are too many.
    """

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def edits(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis_length(self) -> int:
        """Units of the hypothesis."""
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float | None:
        """Edits per reference unit, which may exceed 1; None for a reference without any."""
        return self.edits / self.reference_length if self.reference_length else None


def _column() -> "array[int]":
    return array("i")


@dataclass(slots=True)
class ErrorRate:
    """Error counts of a set, row by row, in columns of 4 bytes a row: sets of millions of rows are counted.

    Attributes:
        hits: of each row, as those of `ErrorCounts`.
        substitutions: likewise.
        deletions: likewise.
        insertions: likewise.
    """

    hits: "array[int]" = field(default_factory=_column)
    substitutions: "array[int]" = field(default_factory=_column)
    deletions: "array[int]" = field(default_factory=_column)
    insertions: "array[int]" = field(default_factory=_column)

    @property
    def columns(self) -> "dict[str, array[int]]":
        """The columns by their names."""
        return {kind.name: getattr(self, kind.name) for kind in fields(self)}

    @property
    def total(self) -> ErrorCounts:
        """The counts of the set."""
        return ErrorCounts(*map(sum, self.columns.values()))

    @property
    def rows(self) -> tuple[ErrorCounts, ...]:
        """The counts of each row, made when they are asked for."""
        return tuple(ErrorCounts(*row) for row in zip(*self.columns.values(), strict=True))

    @property
    def lengths(self) -> "array[int]":
        """Units of each row's reference."""
        return array("i", map(sum, zip(self.hits, self.substitutions, self.deletions, strict=True)))

    @property
    def edits(self) -> "array[int]":
        """Edits of each row."""
        return array("i", map(sum, zip(self.substitutions, self.deletions, self.insertions, strict=True)))

    def add(self, hits: int, substitutions: int, deletions: int, insertions: int) -> None:
        """Add a row."""
        self.hits.append(hits)
        self.substitutions.append(substitutions)
        self.deletions.append(deletions)
        self.insertions.append(insertions)

    def extend(self, other: "ErrorRate") -> None:
        """Add the rows of another."""
        for name, column in other.columns.items():
            getattr(self, name).extend(column)


class Ratios(Sequence[float | None]):
    """The rate of each row, computed when it is asked for; None for a row whose reference has no unit.

    Args:
        edits: of each row.
        lengths: units of each row's reference.
    """

    def __init__(self, edits: "array[int]", lengths: "array[int]") -> None:
        self._edits = edits
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._edits)

    @overload
    def __getitem__(self, place: int) -> float | None: ...
    @overload
    def __getitem__(self, place: slice) -> "Ratios": ...
    def __getitem__(self, place: int | slice) -> "float | Ratios | None":
        if isinstance(place, slice):
            return Ratios(self._edits[place], self._lengths[place])
        return self._edits[place] / self._lengths[place] if self._lengths[place] else None


def word_errors(references: Sequence[Words], hypotheses: Sequence[Words]) -> ErrorRate:
    """Compare words: [("a", "b")] with [("a",)] -> 1 hit, 1 deletion, rate 0.5.

    Args:
        references: the words of each row's reference, already normalised; may be empty.
        hypotheses: the words of each row's hypothesis, in the same order.

    Returns:
        ErrorRate: the set's counts and each row's.

    Raises:
        ValueError: the numbers of references and hypotheses differ.
    """
    return _compare(jiwer.process_words, [" ".join(row) for row in references], [" ".join(row) for row in hypotheses])


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Compare the characters of normalised texts, of which spaces are some; see `word_errors`."""
    return _compare(jiwer.process_characters, references, hypotheses)


def aligned_characters(references: Sequence[str], hypotheses: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Which characters stand for each other: ("abc", "axc") -> [(0, 0), (1, 1), (2, 2)], equal or substituted.

    Args:
        references: N texts; may be empty.
        hypotheses: N texts, in the same order.

    Returns:
        list[list[tuple[int, int]]]: N lists of (place in the reference, place in the hypothesis).
    """
    if not references:
        return []
    output = jiwer.process_characters(list(references), list(hypotheses))
    return [
        [
            pair
            for chunk in chunks
            if chunk.type in ("equal", "substitute")
            for pair in zip(
                range(chunk.ref_start_idx, chunk.ref_end_idx),
                range(chunk.hyp_start_idx, chunk.hyp_end_idx),
                strict=True,
            )
        ]
        for chunks in output.alignments
    ]


def _compare(process: Any, references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references cannot be compared with {len(hypotheses)} hypotheses")
    errors = ErrorRate()
    for chunks in process(list(references), list(hypotheses)).alignments if references else ():
        errors.add(*_row(chunks))
    return errors


def _row(chunks: Sequence[Any]) -> tuple[int, int, int, int]:
    """Counts of one row from jiwer's alignment, which is made of runs of one kind."""
    counts = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in chunks:
        reference_length = chunk.ref_end_idx - chunk.ref_start_idx
        hypothesis_length = chunk.hyp_end_idx - chunk.hyp_start_idx
        counts[chunk.type] += max(reference_length, hypothesis_length)
    return counts["equal"], counts["substitute"], counts["delete"], counts["insert"]
