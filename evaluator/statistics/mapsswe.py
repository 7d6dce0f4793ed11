"""Matched pairs sentence-segment word error: the test of NIST's sctk (sc_stats) for two recognisers.

Clips are cut where both systems have two words right in a row, so that errors on one side of a cut are taken as
independent of those on the other side. A piece with an error of either system is a segment; the test asks whether the
mean difference of errors a segment is 0, by the normal distribution.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

GOOD_WORDS = 2
"""Words that both have right between two segments."""


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Where one answer is wrong.

    Attributes:
        wrong: of each reference word whether it is replaced or missing.
        inserted: words too many before each reference word, and at the end: one longer than `wrong`.
    """

    wrong: tuple[bool, ...]
    inserted: tuple[int, ...]

    @property
    def edits(self) -> int:
        """All errors."""
        return sum(self.wrong) + sum(self.inserted)


@dataclass(frozen=True, slots=True)
class Mapsswe:
    """The result of the test.

    Attributes:
        segments: how many there are.
        mean: mean difference of errors a segment, second system less first.
        z: the statistic; 0 where the differences do not vary.
        p: two-sided.
    """

    segments: int
    mean: float
    z: float
    p: float


def mapsswe(pairs: Iterable[tuple[WordErrors, WordErrors]]) -> Mapsswe:
    """Test whether two systems differ.

    Args:
        pairs: of each clip the errors of the first and of the second system, against the same words.
    """
    return _test([second - first for pair in pairs for first, second in segments(*pair)])


def segments(first: WordErrors, second: WordErrors) -> Iterator[tuple[int, int]]:
    """The segments of a clip, as errors of both systems in each.

    Unlike sctk, which passes over words that only the second system has behind the reference's last word, both
    systems' insertions count there: the order of the systems then changes the sign and nothing else.

    Raises:
        ValueError: the two are not about the same number of words.
    """
    if len(first.wrong) != len(second.wrong):
        raise ValueError(f"{len(first.wrong)} words cannot be compared with {len(second.wrong)}")
    errors = [0, 0]
    good = 0
    for place in range(len(first.wrong)):
        found = [each.inserted[place] + each.wrong[place] for each in (first, second)]
        if any(found):
            errors = [before + new for before, new in zip(errors, found, strict=True)]
            # The word behind an insertion may be the first of the two that end a segment.
            good = 0 if first.wrong[place] or second.wrong[place] else 1
        else:
            good += 1
        if any(errors) and good >= GOOD_WORDS:
            yield errors[0], errors[1]
            errors = [0, 0]
    errors = [before + each.inserted[-1] for before, each in zip(errors, (first, second), strict=True)]
    if any(errors):
        yield errors[0], errors[1]


def _test(differences: Sequence[int]) -> Mapsswe:
    number = len(differences)
    mean = sum(differences) / number if number else 0.0
    squares = sum((value - mean) ** 2 for value in differences)
    z = mean / math.sqrt(squares / (number - 1) / number) if squares else 0.0
    return Mapsswe(number, mean, z, math.erfc(abs(z) / math.sqrt(2)))
