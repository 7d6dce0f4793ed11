"""Scoring without a model: an annotation and a file of answers in, the scores that a run with these answers has out."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluator.annotation.annotation import read_annotation
from evaluator.annotation.file import read_rows
from evaluator.annotation.references import group_references
from evaluator.answer_files.file import Answer, read_answers
from evaluator.answer_files.matching import match
from evaluator.config.sections import ScoringConfig
from evaluator.diagnosis.answers import Given
from evaluator.diagnosis.diagnosis import diagnosed
from evaluator.errors import ConfigError, Problem, ResultError
from evaluator.extras import check_installed
from evaluator.scoring import scoring
from evaluator.scoring.protocols.signature import Signature
from evaluator.scoring.result import Scores
from evaluator.scoring.scored_set import score_set
from evaluator.statistics.units import find_units
from evaluator.tasks import MODES, TASKS, Mode, Task, is_scored, task_of
from evaluator.wording import named

_MODES: dict[str, Mode] = {task_of(mode).name: mode for mode in MODES if is_scored(mode)}


@dataclass(frozen=True, slots=True)
class ScoredAnswers:
    """What answers score.

    Attributes:
        task: what was scored.
        ids: the testset_id of each clip, in the annotation's order.
        scores: of them.
        notices: what the user should know, in sentences.
    """

    task: Task
    ids: tuple[str, ...]
    scores: Scores
    notices: tuple[str, ...]


def score_answer_file(
    annotation: Path, answers: Path, task: Task | None, config: ScoringConfig, *, shuffle: int | None = None
) -> ScoredAnswers:
    """Score a file of answers, or the folder of a run.

    Args:
        annotation: with references; its audio is not looked at.
        answers: see answer_files/file.py.
        task: what the rows are; None: what their labels say.
        config: how.
        shuffle: `datasets.shuffle_choices` of the run that asked, for answers that are letters of choices.

    Raises:
        AudioLMError: with all problems of the annotation, of the answers, or of how they fit.
    """
    with contextlib.suppress(OSError):  # whoever reads the files says what is wrong with them
        if answers.samefile(annotation):
            raise ResultError(f"{answers} is the annotation itself: give the file of answers as --predictions.")
    task = task or _task_of(annotation)
    check_installed(*filter(None, (task.extra,)))
    labels = {label: False for each in TASKS for label in each.labels}
    read = read_annotation(annotation, prefix="", mode=_MODES[task.name], known_tasks=labels, shuffle=shuffle)
    samples, notices = read.without_problems(), list[str]()
    if task.many_references:
        samples, notices = group_references(samples)
    found = match(read_answers(answers), samples, path=answers, annotation=annotation)
    references = [sample.references for sample in samples]
    notices += [*_failed(found), *scoring.preflight(task, config, references, [sample.task for sample in samples])]
    units = find_units(config.unit, config.unit_field, read.rows, samples, annotation=annotation)
    choices = [sample.choices for sample in samples]
    scores = score_set(task, references, [answer.text for answer in found], config, units, choices)
    rows = [
        Given(sample.id, sample.references, answer.text, answer.cut_off, answer.failed)
        for sample, answer in zip(samples, found, strict=True)
    ]
    scores = diagnosed(scores, rows)
    return ScoredAnswers(task, tuple(sample.id for sample in samples), scores, tuple(notices))


def only_signed(scores: Scores, signature: Signature) -> Scores:
    """The metrics whose signature has every field of a given one.

    Raises:
        ConfigError: there is none; each metric's fields that differ are named.
    """
    fields = set(signature.fields)
    kept = tuple(metric for metric in scores.metrics if fields <= set(metric.signature.fields))
    if kept:
        return replace(scores, metrics=kept)
    problems: list[Problem] = []
    for metric in scores.metrics:
        here = dict(metric.signature.fields)
        if not here:
            problems.append(Problem(metric.kind.title, f"unavailable: {metric.reason}; {metric.fix}"))
            continue
        wrong = [f"{key} is {here.get(key, 'absent')}, not {value}" for key, value in signature.fields]
        told = [text for text, (key, value) in zip(wrong, signature.fields, strict=True) if here.get(key) != value]
        problems.append(Problem(metric.kind.title, "; ".join(told)))
    raise ConfigError("No score of these answers has the signature:", problems)


def _task_of(annotation: Path) -> Task:
    """The one task that the rows' labels belong to."""
    rows = read_rows(annotation)
    labels = {str(row.value.get("task")) for row in rows if isinstance(row.value, dict)}
    fitting = [task for task in TASKS if labels & set(task.labels)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(label for task in TASKS for label in task.labels)
    found = named(sorted(labels), 5) or "none"
    raise ConfigError(f"{annotation} does not tell what to score (labels: {found}; known: {known}): give --task.")


def _failed(answers: Sequence[Answer]) -> list[str]:
    failed = [answer.id for answer in answers if answer.failed]
    return [f"{len(failed)} clip(s) failed in the run and score as an empty text: {named(failed)}."] if failed else []
