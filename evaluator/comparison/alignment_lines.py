"""Lines that show answers word below word of their reference."""

from collections.abc import Mapping, Sequence

from evaluator.board.text_columns import width
from evaluator.diagnosis.alignment import Alignment
from evaluator.wording import printable

MISSING = "*"
_COLUMNS = 100


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
