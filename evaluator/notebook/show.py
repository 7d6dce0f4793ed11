"""`show`: an annotation, a run, scores or a comparison, as tables in a notebook and as plain text anywhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.annotation.annotation import Sample
from evaluator.answer_files.scored_file import ScoredAnswers
from evaluator.board.text_columns import aligned
from evaluator.comparison.compare import Comparison
from evaluator.comparison.lines import lines as comparison_lines
from evaluator.comparison.lines import pair_rows, system_rows, verdicts
from evaluator.diagnosis.diagnosis import KEY
from evaluator.notebook.html import Html, details, escaped, sound, table, words
from evaluator.notebook.loaded import LoadedAnnotation
from evaluator.report.alignments import aligner
from evaluator.report.contents import told_value
from evaluator.report.embedding import can_embed, embedded
from evaluator.report.summary import summarize, summarize_answers
from evaluator.run.folder import paths_of
from evaluator.run.journal import read_journal
from evaluator.run.record import EvaluationResult
from evaluator.scoring.result import KINDS, MetricResult, Scores
from evaluator.statistics.interval import LEVEL, told
from evaluator.wording import printable

_LONGEST = 300
"""Characters of a text that a table shows."""


@dataclass(frozen=True, slots=True)
class View:
    """Something to be looked at: the last value of a notebook's cell, or `print(view)`.

    Attributes:
        lines: as plain text.
        html: as a notebook shows it.
    """

    lines: tuple[str, ...]
    html: str

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True, slots=True)
class _Row:
    """A clip with what it should say and what was said."""

    id: str
    references: tuple[str, ...]
    text: str
    path: str = ""


def show(found: LoadedAnnotation | EvaluationResult | ScoredAnswers | Comparison, *, clips: int = 5) -> View:
    """Make something to be looked at.

    Args:
        found: what one of the other functions gave.
        clips: the most clips that are shown of each kind; those of an annotation or a run with sound, where it can be
            read.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(found, LoadedAnnotation):
        return _annotation(found, clips)
    if isinstance(found, EvaluationResult):
        return _run(found, clips)
    if isinstance(found, ScoredAnswers):
        lines = summarize_answers(found)
        given = zip(found.ids, found.references, found.texts, strict=True)
        shown = _clips(found.scores, [_Row(*each) for each in given], clips)
        title = f"{found.source}: {found.task.title}"
        return View(tuple(lines), f"{_scores(found.scores, title)}{shown}{details('All of it', lines)}")
    if isinstance(found, Comparison):
        return _comparison(found, clips)
    raise TypeError(f"show takes what load_annotation, run_model, score and compare give, not {type(found).__name__}")


def _annotation(found: LoadedAnnotation, clips: int) -> View:
    first = list(found[:clips])
    seconds = sum(found.seconds)
    title = f"{found.path}: {len(found)} clips for {found.mode}" + (f", {seconds:.1f} s" if found.seconds else "")
    head = ["testset_id", "task", "seconds", "question", "references"]
    rows = [_sample_cells(sample, found, place) for place, sample in enumerate(first)]
    sounds = _sounds([str(each.path) if not each.further else "" for each in first])
    html = table(
        [*head, "sound"], [[*row, sounds.get(place, Html(""))] for place, row in enumerate(rows)], caption=title
    )
    more = [f"... and {len(found) - clips} more"] if len(found) > clips else []
    text = aligned([head, *[[printable(cell) for cell in row] for row in rows]], left=(0, 1, 3, 4)) if rows else []
    return View((title, *found.notices, *text, *more), html + "".join(f"<p>{escaped(each)}</p>" for each in more))


def _sample_cells(sample: Sample, found: LoadedAnnotation, place: int) -> list[str]:
    seconds = f"{found.seconds[place]:.1f}" if found.seconds else ""
    return [sample.id, sample.task, seconds, _cut(sample.question), _cut(" | ".join(sample.references))]


def _run(found: EvaluationResult, clips: int) -> View:
    lines = summarize(found)
    title = f"{found.mode}: {found.model}, {found.counts.rows} clips"
    rows = []
    if clips:
        for each in read_journal(paths_of(found.folder).predictions):
            reference = each.reference
            references = () if reference is None else (reference,) if isinstance(reference, str) else reference
            rows.append(_Row(each.id, references, each.text, each.path))
    scores = _scores(found.scores, title) if found.scores is not None else Html(f"<b>{escaped(title)}</b>")
    return View(tuple(lines), f"{scores}{_clips(found.scores, rows, clips)}{details('All of it', lines)}")


def _comparison(found: Comparison, clips: int) -> View:
    lines = comparison_lines(found, clips=clips)
    tables = []
    for each in found.tables:
        for head, *rows in (system_rows(each), pair_rows(each)):
            tables.append(table(head, rows))
        tables += [Html(f"<p>{escaped(verdict)}</p>") for verdict in verdicts(each)]
    return View(tuple(lines), "".join([*tables, details("All of it", lines)]))


def _scores(scores: Scores, title: str) -> Html:
    """The metrics as a table; of one that is not there the reason."""
    rows = [_metric_cells(metric) for metric in scores.metrics]
    return table(["metric", "value", f"{100 * LEVEL:g} %", ""], rows, caption=title)


def _metric_cells(metric: MetricResult) -> list[str]:
    if metric.value is None:
        return [metric.kind.title, "unavailable", "", "; ".join(filter(None, (metric.reason, metric.fix)))]
    interval = "" if metric.interval is None else told(metric.interval, percent=bool(metric.kind.unit))
    counts = metric.totals if metric.kind.unit else {}
    errors = ", ".join(f"{counts[kind]} {kind}" for kind in ("substitutions", "deletions", "insertions") if counts)
    return [metric.kind.title, told_value(metric.name, metric.value), interval, errors or metric.kind.scale]


def _clips(scores: Scores | None, rows: Sequence[_Row], most: int) -> str:
    """The worst clips, or the first ones where none is said to be worst."""
    places = {row.id: place for place, row in reversed(list(enumerate(rows)))}
    worst = [each for each in _worst(scores) if each["id"] in places][:most]
    chosen = [places[each["id"]] for each in worst] or list(range(min(most, len(rows))))
    if not chosen:
        return ""
    scored = [_told_worst(each) for each in worst] or [""] * len(chosen)
    sounds = _sounds([rows[place].path for place in chosen])
    cells = [
        [rows[place].id, score, *_texts(scores, rows[place]), sounds.get(number, Html(""))]
        for number, (place, score) in enumerate(zip(chosen, scored, strict=True))
    ]
    head = ["testset_id", "score", "reference, corrected to the answer", "reference", "answer", "sound"]
    return table(head, cells, caption="The worst clips" if worst else "The first clips")


def _worst(scores: Scores | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = scores.details.get(KEY, {}).get("worst", []) if scores is not None else []
    return found


def _told_worst(entry: Mapping[str, Any]) -> str:
    """{"id": ..., "edits": 4, "reference_words": 5} -> "4 of 5"; {"id": ..., "cider_d": 0.31} -> "CIDEr-D 0.3100"."""
    _, name, *_ = entry
    if name in KINDS:
        return f"{KINDS[name].title} {entry[name]:.4f}"
    return "{1} of {2}".format(*entry.values())


def _texts(scores: Scores | None, row: _Row) -> list[str]:
    """The words that differ; reference and answer as they are where words are not aligned."""
    reference = row.references[0] if row.references else ""
    metric = scores.metrics[0] if scores is not None and scores.metrics else None
    pieces = None
    if metric is not None and metric.value is not None and max(len(reference), len(row.text)) <= 20 * _LONGEST:
        pieces = aligner(metric.kind, str(metric.signature)).pieces(reference, row.text)
    if pieces is not None:
        return [words(pieces), "", ""]
    return ["", _cut(" | ".join(row.references)), _cut(row.text) or "(empty)"]


def _sounds(paths: Sequence[str]) -> dict[int, Html]:
    """Players of clips, by place; of those that can be read."""
    named = [place for place, path in enumerate(paths) if path]
    return {place: sound(opus) for place, opus in embedded(named, paths)} if named and can_embed() else {}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
