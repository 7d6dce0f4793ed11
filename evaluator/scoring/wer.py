"""Word and character error rates over a set: words of references and hypotheses in, counts and rates out.

The rate of a set is the sum of its edits over the sum of its reference words, never the mean of the rows'
rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

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


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Error counts of a set and of each of its rows, in their order."""

    total: ErrorCounts
    rows: tuple[ErrorCounts, ...]

    @classmethod
    def of(cls, rows: Sequence[ErrorCounts]) -> "ErrorRate":
        """The counts of a set from those of its rows."""
        sums = (sum(getattr(row, kind.name) for row in rows) for kind in fields(ErrorCounts))
        return cls(total=ErrorCounts(*sums), rows=tuple(rows))


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
    if not references:
        return ErrorRate(total=ErrorCounts(0, 0, 0, 0), rows=())
    output = process(list(references), list(hypotheses))
    rows = tuple(_row(chunks) for chunks in output.alignments)
    total = ErrorCounts(output.hits, output.substitutions, output.deletions, output.insertions)
    return ErrorRate(total=total, rows=rows)


def _row(chunks: Sequence[Any]) -> ErrorCounts:
    """Counts of one row from jiwer's alignment, which is made of runs of one kind."""
    counts = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in chunks:
        reference_length = chunk.ref_end_idx - chunk.ref_start_idx
        hypothesis_length = chunk.hyp_end_idx - chunk.hyp_start_idx
        counts[chunk.type] += max(reference_length, hypothesis_length)
    return ErrorCounts(counts["equal"], counts["substitute"], counts["delete"], counts["insert"])
