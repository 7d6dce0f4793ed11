"""Units of an answer laid below those of its reference: words, or characters; where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.statistics.mapsswe import WordErrors


@dataclass(frozen=True, slots=True)
class Alignment:
    """One answer against its reference.

    Attributes:
        said: of each reference word the answer's word in its place, or None where it is missing.
        inserted: the words too many before each reference word, and at the end: one longer than `said`.
    """

    reference: tuple[str, ...]
    said: tuple[str | None, ...]
    inserted: tuple[tuple[str, ...], ...]

    @property
    def errors(self) -> WordErrors:
        """Where the answer is wrong."""
        return WordErrors(
            tuple(said != word for said, word in zip(self.said, self.reference, strict=True)),
            tuple(map(len, self.inserted)),
        )


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Align words by the fewest edits, as the word error rate does.

    Example:
        ("a", "b", "c"), ("a", "x", "c", "d") -> said ("a", "x", "c"), inserted ((), (), (), ("d",))
    """
    from rapidfuzz.distance import Levenshtein

    said: list[str | None] = list(reference)
    inserted: list[list[str]] = [[] for _ in range(len(reference) + 1)]
    for edit in Levenshtein.editops(reference, hypothesis):
        if edit.tag == "insert":
            inserted[edit.src_pos].append(hypothesis[edit.dest_pos])
        else:
            said[edit.src_pos] = None if edit.tag == "delete" else hypothesis[edit.dest_pos]
    return Alignment(tuple(reference), tuple(said), tuple(map(tuple, inserted)))
