"""Pieces of HTML for the output of a notebook's cell: tables, words that differ, sound.

Styles are in the elements: a notebook keeps them, and nothing reaches its page. Texts of others are escaped.
"""

from collections.abc import Sequence

from evaluator.report.alignments import Piece
from evaluator.report.page.escaping import text

_CELL = 'style="text-align:left;vertical-align:top;padding:2px 10px"'


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def escaped(value: str) -> Html:
    """A text of others as HTML; HTML as it is."""
    return value if isinstance(value, Html) else Html(text(value))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> Html:
    """A table; cells that are not `Html` are escaped, and columns without a cell are left out."""
    kept = [place for place in range(len(head)) if any(row[place] for row in rows)]
    titles = "".join(f'<th scope="col" {_CELL}>{escaped(head[place])}</th>' for place in kept)
    lines = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{escaped(row[place])}</td>" for place in kept) + "</tr>" for row in rows
    )
    told = f'<caption style="text-align:left"><b>{escaped(caption)}</b></caption>' if caption else ""
    return Html(f"<table>{told}<thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>")


def words(pieces: Sequence[Piece]) -> Html:
    """A reference with what was said instead: words left out struck through, words said underlined."""
    told: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            told.append(escaped(piece))
            continue
        reference, said = piece
        told += [f'<del style="color:#b00020">{escaped(reference)}</del>'] if reference is not None else []
        told += [f'<ins style="color:#00692b">{escaped(said)}</ins>'] if said is not None else []
    return Html(f"<bdi>{' '.join(told)}</bdi>")


def sound(opus: str | None) -> Html:
    """A player of a clip that is Ogg Opus in base64; "" for none."""
    if opus is None:
        return Html("")
    return Html(f'<audio controls preload="none" src="data:audio/ogg;base64,{opus}"></audio>')


def details(title: str, lines: Sequence[str]) -> Html:
    """Lines of plain text that are unfolded by a click."""
    told = escaped("\n".join(lines)) if len(lines) < 2 else Html("\n".join(escaped(line) for line in lines))
    return Html(f"<details><summary>{escaped(title)}</summary><pre>{told}</pre></details>")
