"""Scoring without a model: an annotation and a file of answers in, the scores that a run with these answers has out."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.annotation.annotation import read_annotation
from evaluator.annotation.file import read_rows
from evaluator.annotation.references import group_references
from evaluator.answer_files.file import Answer, given_answers, read_answers
from evaluator.answer_files.matching import match
from evaluator.config.sections import ScoringConfig
from evaluator.diagnosis.answers import Given
from evaluator.diagnosis.diagnosis import diagnosed
from evaluator.errors import ConfigError, ResultError
from evaluator.extras import check_installed
from evaluator.scoring import scoring
from evaluator.scoring.result import Scores
from evaluator.scoring.scored_set import score_set
from evaluator.statistics.units import find_units
from evaluator.tasks import MODES, TASKS, Mode, Task, is_scored, task_of
from evaluator.wording import named

VALID_MODES: dict[str, Mode] = {task_of(mode).name: mode for mode in MODES if is_scored(mode)}
"""Task -> the mode that scores it."""


@dataclass(frozen=True, slots=True)
class ScoredAnswers:
    """What answers score.

    Attributes:
        task: what was scored.
        annotation: the file with the references.
        source: the file of answers; "given" where they were in memory.
        ids: the testset_id of each clip, in the annotation's order.
        references: of each clip.
        texts: the answer to each clip.
        scores: of them.
        notices: what the user should know, in sentences.
    """

    task: Task
    annotation: Path
    source: str
    ids: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]
    scores: Scores
    notices: tuple[str, ...]


def score_answer_file(
    annotation: Path,
    answers: Path | Mapping[str, str],
    task: Task | None,
    config: ScoringConfig,
    *,
    shuffle: int | None = None,
) -> ScoredAnswers:
    """Score a file of answers, the folder of a run, or answers in memory.

    Args:
        annotation: with references; its audio is not looked at.
        answers: see answer_files/file.py; or testset_id -> text.
        task: what the rows are; None: what their labels say.
        config: how.
        shuffle: `datasets.shuffle_choices` of the run that asked, for answers that are letters of choices.

    Raises:
        AudioLMError: with all problems of the annotation, of the answers, or of how they fit.
    """
    if isinstance(answers, Path):
        with contextlib.suppress(OSError):  # whoever reads the files says what is wrong with them
            if answers.samefile(annotation):
                raise ResultError(f"{answers} is the annotation itself: give the file of answers as --predictions.")
    task = task or task_of_labels(annotation)
    check_installed(*filter(None, (task.extra,)))
    labels = {label: False for each in TASKS for label in each.labels}
    read = read_annotation(annotation, prefix="", mode=VALID_MODES[task.name], known_tasks=labels, shuffle=shuffle)
    samples, notices = read.without_problems(), list[str]()
    if task.many_references:
        samples, notices = group_references(samples)
    source, given = (
        (str(answers), read_answers(answers)) if isinstance(answers, Path) else ("given", given_answers(answers))
    )
    found = match(given, samples, path=source, annotation=annotation)
    references = tuple(sample.references for sample in samples)
    notices += [*_failed(found), *scoring.preflight(task, config, references, [sample.task for sample in samples])]
    units = find_units(config.unit, config.unit_field, read.rows, samples, annotation=annotation)
    choices = [sample.choices for sample in samples]
    texts = tuple(answer.text for answer in found)
    scores = score_set(task, references, texts, config, units, choices)
    rows = [
        Given(sample.id, sample.references, answer.text, answer.cut_off, answer.failed, answer.refused)
        for sample, answer in zip(samples, found, strict=True)
    ]
    scores = diagnosed(scores, rows)
    ids = tuple(sample.id for sample in samples)
    return ScoredAnswers(task, annotation, source, ids, references, texts, scores, tuple(notices))


def task_of_labels(annotation: Path) -> Task:
    """The one task that the labels of an annotation's rows belong to.

    Raises:
        AudioLMError: the file cannot be read, or its labels are of no task or of several.
    """
    rows = read_rows(annotation)
    labels = {str(row.value.get("task")) for row in rows if isinstance(row.value, dict)}
    fitting = [task for task in TASKS if labels & set(task.labels)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(label for task in TASKS for label in task.labels)
    found = named(sorted(labels), 5) or "none"
    cure = "give --task (in Python task= or mode=)"
    raise ConfigError(f"{annotation} does not tell what to score (labels: {found}; known: {known}): {cure}.")


def _failed(answers: Sequence[Answer]) -> list[str]:
    failed = [answer.id for answer in answers if answer.failed]
    return [f"{len(failed)} clip(s) failed in the run and score as an empty text: {named(failed)}."] if failed else []
