"""What an annotation says of rows besides their references: who speaks, what is asked, which clips are joined."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.annotation.file import Row, read_rows
from evaluator.annotation.question_sets import choices_of, in_own_fields, shuffled, with_choices
from evaluator.annotation.row_field import field_values
from evaluator.errors import AudioLMError
from evaluator.files import sha256
from evaluator.report.runs import Run
from evaluator.statistics.units import PATH_RULE, find_units
from evaluator.wording import printable

MOST_ROWS = 50_000
_SPEAKER = "speaker"


@dataclass(frozen=True, slots=True)
class AnnotationFacts:
    """What the annotation says of rows besides their references.

    Attributes:
        speakers: of each row; () where it is not known.
        questions: of each row as it was asked, with its choices; () where no row has one.
        joined: rows whose clip is of several files, of which a page plays the first.
    """

    speakers: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    joined: frozenset[int] = frozenset()


def annotation_facts(run: Run) -> AnnotationFacts:
    """Read them, where the annotation is still there, unchanged, and of at most 50,000 rows."""
    told = run.record.annotation or {}
    path, digest = told.get("path"), told.get("sha256")
    if not path or not digest or len(run.predictions) > MOST_ROWS:
        return AnnotationFacts()
    try:
        if sha256(Path(path)) != digest:
            return AnnotationFacts()
        rows = read_rows(Path(path))
    except (OSError, AudioLMError):
        return AnnotationFacts()
    joined = {
        place
        for place, each in enumerate(run.predictions)
        if each.index < len(rows)
        and isinstance(rows[each.index].value, dict)
        and rows[each.index].value.get("expand_wav")
    }
    # Printable, as the page's filter writes them.
    speakers = tuple(map(printable, _speakers(run, rows, Path(path))))
    return AnnotationFacts(speakers, _questions(run, rows), frozenset(joined))


def _questions(run: Run, rows: Sequence[Row]) -> tuple[str, ...]:
    seed = ((run.record.config or {}).get("datasets") or {}).get("shuffle_choices")
    told = tuple(_question(rows[each.index], each.id, seed) for each in run.predictions if each.index < len(rows))
    return told if any(told) and len(told) == len(run.predictions) else ()


def _question(row: Row, identifier: str, seed: int | None) -> str:
    value = in_own_fields(row).value
    question = value.get("Q") if isinstance(value, dict) else None
    if not isinstance(question, str):
        return ""
    return with_choices(question, shuffled(choices_of(value)[0], seed=seed, identifier=identifier))


def _speakers(run: Run, rows: Sequence[Row], path: Path) -> tuple[str, ...]:
    scoring = run.system.scoring
    field = scoring.unit_field if scoring.unit == _SPEAKER and scoring.unit_field else _SPEAKER
    samples = [Sample(each.index, each.id, Path(each.path), each.task, "", ()) for each in run.predictions]
    try:
        if PATH_RULE.fullmatch(field):
            return find_units(_SPEAKER, field, rows, samples, annotation=path).labels
        return field_values(rows, samples, field, annotation=path)
    except (AudioLMError, LookupError, AttributeError):
        return ()
