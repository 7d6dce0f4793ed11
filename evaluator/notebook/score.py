"""`score`: what `audiolm-evaluator score` does, from Python."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from evaluator.answer_files.scored_file import ScoredAnswers
from evaluator.answer_files.signed import score_as_signed
from evaluator.config.scoring_settings import scoring_settings
from evaluator.errors import ConfigError
from evaluator.notebook.loaded import LoadedAnnotation
from evaluator.notebook.options import option_texts
from evaluator.notebook.paths import typed_path, typed_path_or_none
from evaluator.run.record import EvaluationResult
from evaluator.tasks import TASKS, TaskName, task_named
from evaluator.wording import did_you_mean


def score(
    annotation: str | PathLike[str] | LoadedAnnotation,
    answers: str | PathLike[str] | Mapping[str, str] | EvaluationResult,
    *,
    task: TaskName | None = None,
    protocol: str | None = None,
    signature: str | None = None,
    config: str | PathLike[str] | None = None,
    options: Mapping[str, object] | None = None,
) -> ScoredAnswers:
    """Score answers without a model and without audio; nothing is written.

    Args:
        annotation: with the references.
        answers: testset_id -> text; a file (CSV, JSON Lines, JSON); a run's folder, or what `run_model` gave.
        task: "asr", "aac", "qa", "cls" or "st"; None: what the rows' labels say.
        protocol: how (docs/protocols.md); None: "challenge".
        signature: score as this line says; it says the protocol too.
        config: score as this run's YAML file would.
        options: settings of scoring by their dotted names: {"scoring.unit": "speaker"}.

    Raises:
        AudioLMError: with every problem of the annotation, of the answers, or of how they fit.
    """
    if signature is not None and protocol is not None:
        raise ConfigError("signature says the protocol: give it alone.")
    names = [each.name for each in TASKS]
    if task is not None and task not in names:
        raise ConfigError(f"task {task!r}: there is no such task; {did_you_mean(str(task), names)}.")
    settings, shuffle = scoring_settings(typed_path_or_none(config), option_texts(options))
    if protocol is not None:
        settings = settings.model_copy(update={"protocol": protocol})
    return score_as_signed(
        annotation.path if isinstance(annotation, LoadedAnnotation) else typed_path(annotation),
        _given(answers),
        None if task is None else task_named(task),
        settings,
        signature,
        shuffle=shuffle,
    )


def _given(answers: str | PathLike[str] | Mapping[str, str] | EvaluationResult) -> Path | Mapping[str, str]:
    if isinstance(answers, EvaluationResult):
        return answers.folder
    return typed_path(answers) if isinstance(answers, (str, PathLike)) else answers
