"""Answers laid below their references for a page: a short list for each row that is not right.

A word that is right is a string; a wrong one is a pair of the reference's word and the answer's, where None is a word
that is missing or too many: ["turn", ["on", "off"], ["please", None], [None, "now"]].
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.diagnosis.alignment import Alignment, align
from evaluator.diagnosis.units import Split, counted_splits
from evaluator.errors import ConfigError
from evaluator.extras import check_installed
from evaluator.report.runs import Run
from evaluator.scoring.result import MetricKind

Piece = str | tuple[str | None, str | None]
_PROTOCOL = re.compile(r"(?:^|\|)protocol:([^|]+)")


@dataclass(frozen=True, slots=True)
class Aligner:
    """Makes a row's pieces.

    Attributes:
        unit: "word" or "character"; "" where answers are not aligned.
        reason: why they are not, or None.
    """

    unit: str
    reason: str | None
    _splits: tuple[Split, Split] | None

    def pieces(self, reference: str, text: str) -> list[Piece] | None:
        """One row's; None where answers are not aligned."""
        if self._splits is None:
            return None
        return _pieces(align(self._splits[0](reference), self._splits[1](text)))

    def count_edits(self, pieces: Sequence[Piece]) -> int:
        """How many pieces are wrong."""
        return sum(not isinstance(piece, str) for piece in pieces)


def aligner_of(run: Run) -> Aligner:
    """What aligns a run's answers, by the protocol of its first error rate; none for tasks without one."""
    signature = next((each.get("signature") or "" for each in run.scores["metrics"] if each["name"] == run.metric), "")
    return aligner(run.kind, signature)


def aligner(kind: MetricKind | None, signature: str) -> Aligner:
    """What aligns answers as an error rate counts them; none for other metrics.

    Args:
        kind: the metric; None: there is none.
        signature: of its score.
    """
    if kind is None or not kind.unit:
        return Aligner("", None, None)
    try:
        check_installed("asr")
    except ConfigError as error:
        return Aligner("", error.message, None)
    found = _PROTOCOL.search(signature)
    return Aligner(kind.unit, None, counted_splits(found[1] if found else "challenge", kind.unit))


def _pieces(found: Alignment) -> list[Piece]:
    pieces: list[Piece] = []
    for place, inserted in enumerate(found.inserted):
        pieces += [(None, word) for word in inserted]
        if place < len(found.reference):
            word, said = found.reference[place], found.said[place]
            pieces.append(word if said == word else (word, said))
    return pieces
