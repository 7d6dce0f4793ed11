"""The rows of the table of clips as values for JSON, one after the other: a page of many rows is a stream."""

from collections.abc import Iterator, Sequence
from typing import Any

from evaluator.report.alignments import Aligner, Piece
from evaluator.report.contents import Contents
from evaluator.report.embedding import link
from evaluator.scoring.result import KINDS

COLUMNS = (
    *("row", "id", "score", "wrong", "length", "seconds", "tokens", "took", "finish", "flags", "changes"),
    *("speaker", "question", "reference", "references", "text", "pieces", "clip", "link", "scores", "others", "error"),
)
"""What the values of a row are, in their order; `assets/clips.js` reads them by these names."""
MOST_ROWS = 50_000
"""Rows of the table: of a larger set those that score worst. Figures, pictures and clusters are always of all rows."""
_MOST_METRICS = 4
_MOST_TEXT = 20_000
"""Characters of a text that are shown: an answer that never ends would be most of the page."""


def shown_metrics(contents: Contents) -> list[str]:
    """The metrics that a row tells: at most four that have rows."""
    per_sample = contents.run.scores["per_sample"]
    names = [each["name"] for each in contents.run.scores["metrics"] if each.get("value") is not None]
    return [name for name in names if name in per_sample and name in KINDS][:_MOST_METRICS]


def table_rows(contents: Contents) -> list[int]:
    """The rows of the table, in the set's order."""
    worst = contents.worst_first()
    return sorted(worst[:MOST_ROWS])


def row_values(contents: Contents, rows: Sequence[int], embedded: Sequence[int]) -> Iterator[list[Any]]:
    """Each row's values, in the order of COLUMNS.

    Args:
        contents: of the report.
        rows: those of the table.
        embedded: those whose clip is in the page.
    """
    inside = set(embedded)
    flags = contents.flags()
    metrics = shown_metrics(contents)
    per_sample = contents.run.scores["per_sample"]
    above, below = contents.run.sums
    scores = contents.run.row_scores
    error_rate = bool(contents.run.kind and contents.run.kind.unit)
    for row in rows:
        each = contents.run.predictions[row]
        references = contents.run.system.references[row]
        first = references[0] if references else ""
        score = scores[row] if scores else None
        wrong = int(above[row]) if error_rate else None
        yield [
            row + 1,
            each.id,
            _short(score),
            wrong,
            int(below[row]) if error_rate else len(first.split()),
            round(each.audio_seconds, 2),
            each.num_tokens,
            round(each.seconds, 3),
            each.finish_reason,
            flags.get(row, []),
            [told.changes.get(row, "") for told in contents.differences],
            contents.facts.speakers[row] if contents.facts.speakers else "",
            contents.facts.questions[row][:_MOST_TEXT] if contents.facts.questions else "",
            first[:_MOST_TEXT],
            [told[:_MOST_TEXT] for told in references[1:]],
            each.text[:_MOST_TEXT],
            _pieces(contents.aligner, first, each.text, wrong),
            1 if row in inside else 0,
            link(each.path),
            [_short(per_sample[name][row]) for name in metrics],
            _others(contents, row, first),
            each.error,
        ]


def _others(contents: Contents, row: int, reference: str) -> list[Any]:
    """What the other runs say: text, score, pieces; None where it is the run's own text."""
    found: list[Any] = []
    for told in contents.differences:
        text, measured = told.other.texts[row], told.other.metrics[told.metric]
        if text == contents.run.system.texts[row]:
            found.append(None)
            continue
        score = measured.above[row] / measured.below[row] if measured.below[row] else None
        wrong = int(measured.above[row]) if KINDS[told.metric].unit else None
        found.append([text[:_MOST_TEXT], _short(score), _pieces(contents.aligner, reference, text, wrong)])
    return found


def _pieces(aligner: Aligner, reference: str, text: str, wrong: int | None) -> list[Piece] | None:
    """A wrong row's words; None where all are right, nothing is aligned, or a text is too long to be looked at."""
    if not wrong or max(len(reference), len(text)) > _MOST_TEXT:
        return None
    return aligner.pieces(reference, text)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
