"""Scoring: the references and hypotheses of a task in, its Scores out.

Every metric names its protocol, because that decides the number more than the library does. A metric that
cannot be had is None with the reason and what to do about it, and never costs the others. Needs no model and
no audio.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from evaluator.config.sections import ScoringConfig
from evaluator.errors import ConfigError, Problem
from evaluator.scoring.result import KINDS, MetricResult, Scores
from evaluator.submission.invisible import is_invisible
from evaluator.tasks import AAC, ASR, Task
from evaluator.wording import did_you_mean

# The metrics' libraries are imported where they are used: a command's --help imports this file.
if TYPE_CHECKING:
    from evaluator.scoring.wer import ErrorRate


def metric_names(task: Task) -> tuple[str, ...]:
    """The names that `scoring.metrics` may have for a task."""
    return tuple(name for name, kind in KINDS.items() if kind.task == task.name)


def score(
    task: Task,
    references: Sequence[tuple[str, ...]],
    hypotheses: Sequence[str],
    config: ScoringConfig,
) -> Scores:
    """Score a set.

    Args:
        task: decides the metrics.
        references: N rows of at least one raw reference; exactly one for speech recognition.
        hypotheses: N raw texts, "" for a row without an answer; lower-cased here, as the original does.
        config: which metrics, and where Java and SPICE's files are.

    Returns:
        Scores: every wanted metric, with a value or with a reason.

    Raises:
        ConfigError: `scoring.metrics` has an unknown name.
        ValueError: the numbers of references and hypotheses differ, or a row has the wrong number of
            references.
    """
    wanted = _wanted(task, config)
    _check_rows(task, references, len(hypotheses))
    lowered = [text.lower() for text in hypotheses]
    if not lowered:
        reason, fix = "there are no rows to score", "check the annotation"
        found = Scores(task.name, 0, tuple(MetricResult(name, None, reason=reason, fix=fix) for name in wanted), {})
    elif task.name == ASR.name:
        found = _score_transcripts([row[0] for row in references], lowered)
    else:
        from evaluator.scoring.caption_scores import score_captions

        found = score_captions(lowered, references, wanted=wanted, config=config)
    requested = config.metrics or ()
    return replace(
        found,
        metrics=tuple(
            replace(metric, requested=metric.name in requested) for metric in found.metrics if metric.name in wanted
        ),
        details={"empty_hypotheses": sum(all(map(is_invisible, text)) for text in lowered), **found.details},
    )


def preflight(task: Task, config: ScoringConfig) -> list[str]:
    """Find out before any model is loaded what scoring will lack.

    Args:
        task: what will be scored.
        config: the same as for `score`.

    Returns:
        list[str]: a sentence for each group of metrics that will be unavailable.

    Raises:
        ConfigError: `scoring.metrics` has an unknown name.
    """
    wanted = _wanted(task, config)
    if task.name != AAC.name:
        return []
    from evaluator.scoring.caption_scores import check_captions

    return check_captions(wanted, config)


def _wanted(task: Task, config: ScoringConfig) -> tuple[str, ...]:
    """The metrics to compute. A list that has none of this task's means its usual ones."""
    named = config.metrics or []
    problems = [
        Problem("scoring.metrics", f'"{name}" is no metric; {did_you_mean(name, KINDS)}')
        for name in named
        if name not in KINDS
    ]
    if problems:
        raise ConfigError("The configuration asks for metrics that do not exist.", problems)
    names = metric_names(task)
    chosen = [name for name in names if name in named] or [name for name in names if KINDS[name].usual]
    return tuple(name for name in names if name in chosen or (name == "meteor" and config.meteor))


def _check_rows(task: Task, references: Sequence[tuple[str, ...]], hypotheses: int) -> None:
    if len(references) != hypotheses:
        raise ValueError(f"{len(references)} rows of references, but {hypotheses} hypotheses")
    for number, row in enumerate(references, start=1):
        if not row:
            raise ValueError(f"row {number} has no reference")
        if len(row) > 1 and not task.many_references:
            raise ValueError(f"row {number} has {len(row)} references; {task.title} takes one")


def _score_transcripts(references: Sequence[str], hypotheses: Sequence[str]) -> Scores:
    """WER by the original's protocol, and CER, which is the same for English and keeps other scripts' letters."""
    from evaluator.scoring.normalize import cer_protocol, cer_text, wer_protocol, wer_words
    from evaluator.scoring.wer import character_errors, word_errors

    reference_words = [wer_words(text) for text in references]
    words = word_errors(reference_words, [wer_words(text) for text in hypotheses])
    characters = character_errors([cer_text(text) for text in references], [cer_text(text) for text in hypotheses])
    wer, cer = _error_rate("wer", words, wer_protocol()), _error_rate("cer", characters, cer_protocol())
    details: dict[str, Any] = {"empty_references": sum(not row for row in reference_words)}
    for metric, errors in ((wer, words), (cer, characters)):
        lengths = {
            "reference_length": errors.total.reference_length,
            "hypothesis_length": errors.total.hypothesis_length,
        }
        details[f"{metric.kind.unit}s"] = {**metric.totals, **lengths}
    per_sample: dict[str, tuple[float | None, ...]] = {
        "wer": wer.rows,
        "cer": cer.rows,
        # The rate of a set is a ratio of two sums; whoever resamples rows needs both terms.
        "word_edits": tuple(float(row.edits) for row in words.rows),
        "reference_words": tuple(float(row.reference_length) for row in words.rows),
    }
    return Scores(ASR.name, len(hypotheses), (wer, cer), details, per_sample)


def _error_rate(name: str, errors: "ErrorRate", protocol: str) -> MetricResult:
    from evaluator.scoring.wer import ErrorCounts

    result = MetricResult(
        name,
        errors.total.rate,
        rows=tuple(row.rate for row in errors.rows),
        evidence={kind.name: tuple(getattr(row, kind.name) for row in errors.rows) for kind in fields(ErrorCounts)},
        protocol=protocol,
    )
    if result.value is not None:
        return result
    reason = f"the references have no {result.kind.unit}s; there are {errors.total.insertions} insertions"
    return replace(result, reason=reason, fix="check the annotation's texts")
