"""Words of answers laid below those of their reference: where they differ, and lines that show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluator.board.text_columns import width
from evaluator.statistics.mapsswe import WordErrors
from evaluator.wording import printable

MISSING = "*"
_COLUMNS = 100


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


def alignment_lines(title: str, answers: Mapping[str, Alignment], *, indent: str = "  ") -> list[str]:
    """Lines that show answers word below word; wrong words stand in brackets, missing ones are [*].

    Args:
        title: of the reference's line.
        answers: title -> alignment, of the same reference.
        indent: before each line.

    Returns:
        list[str]: blocks of at most 100 columns, where a Korean or Chinese character counts two.
    """
    columns = _columns(list(answers.values()))
    titles = [title, *map(printable, answers)]
    left = max(map(width, titles)) + 2
    lines: list[str] = []
    while columns:
        taken, used = 0, left + len(indent)
        for column in columns:
            used += max(map(width, column)) + 1
            if taken and used > _COLUMNS:
                break
            taken += 1
        part, columns = columns[:taken], columns[taken:]
        for row, name in enumerate(titles):
            cells = [column[row] + " " * (max(map(width, column)) - width(column[row])) for column in part]
            lines.append(f"{indent}{name}{' ' * (left - width(name))}{' '.join(cells)}".rstrip())
    return lines


def _columns(answers: Sequence[Alignment]) -> list[list[str]]:
    """Columns of one word each: the reference's, then each answer's."""
    reference = answers[0].reference
    columns: list[list[str]] = []
    for place in range(len(reference) + 1):
        for number in range(max(len(answer.inserted[place]) for answer in answers)):
            words = [answer.inserted[place][number : number + 1] for answer in answers]
            columns.append(["", *(f"[{printable(word[0])}]" if word else "" for word in words)])
        if place < len(reference):
            columns.append(
                [
                    printable(reference[place]),
                    *(_shown(answer.said[place], reference[place]) for answer in answers),
                ]
            )
    return columns


def _shown(said: str | None, word: str) -> str:
    if said is None:
        return f"[{MISSING}]"
    return printable(said) if said == word else f"[{printable(said)}]"
