"""Text in columns on a terminal, where a Korean or Chinese character takes two places."""

import unicodedata
from collections.abc import Sequence


def width(text: str) -> int:
    """Places that a text takes: "abc" -> 3, "모델" -> 4; combining marks take none.

    The vowels and finals of decomposed Hangul (U+1160-11FF) take none either: they join the consonant before them.
    """
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def aligned(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> list[str]:
    """Lay rows of cells out in columns.

    Args:
        rows: of equal length.
        left: columns that begin at the left; the others end at the right, as numbers do.
    """
    widths = [max(width(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for place, cell in enumerate(row):
            space = " " * (widths[place] - width(cell))
            cells.append(cell + space if place in left else space + cell)
        lines.append("  ".join(cells).rstrip())
    return lines
