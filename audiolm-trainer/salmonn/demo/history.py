"""What a visitor asked of all clips so far: as a table of the page, which the browser saves as a CSV."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

HEADINGS = ("Clip", "Question", "Answer")
MOST_ENTRIES = 200
"""The newest are kept: a session stays in the server's memory."""
# Runs in the browser, from the table alone: no file is made on the server.
SAVE = """() => {
    const rows = [...document.querySelectorAll('#history tr')];
    const cell = text => /[",\\r\\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
    const line = row => [...row.cells].map(part => cell(part.textContent)).join(',');
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([rows.map(line).join('\\r\\n') + '\\r\\n'], {type: 'text/csv'}));
    link.download = 'answers.csv';
    link.click();
    URL.revokeObjectURL(link.href);
}"""


class Entry(NamedTuple):
    """One question and its answer."""

    clip: str
    question: str
    answer: str


def extended(entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    """The entries and one more, the newest MOST_ENTRIES of them."""
    return [*entries, entry][-MOST_ENTRIES:]


def table(entries: Sequence[Entry]) -> str:
    """The entries as HTML, every text escaped."""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADINGS)
    rows = ["".join(f"<td>{escape(text)}</td>" for text in entry) for entry in entries]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>"
