"""Scoring: the references and hypotheses of a task in, its Scores out.

Every metric names its protocol, because that decides the number more than the library does. A metric that
cannot be had is None with the reason and what to do about it, and never costs the others. Needs no model and
no audio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evaluator.config.sections import ScoringConfig, nearest
from evaluator.errors import ConfigError, Problem
from evaluator.submission.invisible import is_invisible
from evaluator.tasks import AAC, ASR, Task, TaskName

# The metrics' libraries are imported where they are used: a command's --help imports this file.
if TYPE_CHECKING:
    from evaluator.scoring.outcome import Outcome
    from evaluator.scoring.wer import ErrorCounts

_ERRORS = "errors per reference unit, 0 is best, 1 is 100 %"
_UNIT = "0 to 1"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known of a metric before it is computed."""

    task: TaskName
    scale: str
    higher_is_better: bool = True
    usual: bool = True


# Every metric there is, in the order of reports.
_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "wer": _Kind("asr", _ERRORS, higher_is_better=False),
        "cer": _Kind("asr", _ERRORS, higher_is_better=False),
        "spider": _Kind("aac", "0 to 5.5"),
        "cider_d": _Kind("aac", "0 to 10"),
        "spice": _Kind("aac", _UNIT),
        **{f"bleu_{order}": _Kind("aac", _UNIT) for order in (1, 2, 3, 4)},
        "rouge_l": _Kind("aac", _UNIT),
        "meteor": _Kind("aac", _UNIT, usual=False),
    }
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One score of a set.

    Attributes:
        name: exact name, for example "cider_d"; "spider" is (CIDEr-D + SPICE) / 2 and nothing else.
        value: the score; None where it cannot be had.
        scale: the range of the value.
        protocol: what decides the value besides the texts: normalisation, versions, number of references.
        reason: why there is no value.
        fix: what to do about that.
        higher_is_better: False for error rates.
        requested: asked for by name, so that its absence is a failure.
    """

    name: str
    value: float | None
    scale: str
    protocol: str
    reason: str | None = None
    fix: str | None = None
    higher_is_better: bool = True
    requested: bool = False


@dataclass(frozen=True, slots=True)
class Scores:
    """What a set scores.

    Attributes:
        task: "asr" or "aac".
        num_samples: rows scored; a row without an answer is scored as an empty text.
        metrics: in the order of reports.
        details: counts behind the scores (substitutions, reference words ...), plain JSON values.
        per_sample: name -> one value a row, in their order; None where a row has none (no reference words).
    """

    task: str
    num_samples: int
    metrics: tuple[Metric, ...]
    details: dict[str, Any]
    per_sample: dict[str, tuple[float | None, ...]]

    def missing(self) -> tuple[Metric, ...]:
        """The metrics that were asked for by name and have no value."""
        return tuple(metric for metric in self.metrics if metric.requested and metric.value is None)


def metric_names(task: Task) -> tuple[str, ...]:
    """The names that `scoring.metrics` may have for a task."""
    return tuple(name for name, kind in _KINDS.items() if kind.task == task.name)


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
        found = _nothing(wanted)
    elif task.name == ASR.name:
        found = _score_transcripts([row[0] for row in references], lowered)
    else:
        found = _score_captions(references, lowered, wanted, config)
    requested = config.metrics or ()
    return Scores(
        task=task.name,
        num_samples=len(lowered),
        metrics=tuple(_metric(name, found, requested=name in requested) for name in wanted),
        details={"empty_hypotheses": sum(all(map(is_invisible, text)) for text in lowered), **found.details},
        per_sample={name: outcome.rows for name, outcome in found.outcomes.items() if outcome.rows},
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
        Problem("scoring.metrics", f'"{name}" is no metric; {nearest(name, _KINDS)}')
        for name in named
        if name not in _KINDS
    ]
    if problems:
        raise ConfigError("The configuration asks for metrics that do not exist.", problems)
    names = metric_names(task)
    chosen = [name for name in names if name in named] or [name for name in names if _KINDS[name].usual]
    return tuple(name for name in names if name in chosen or (name == "meteor" and config.meteor))


def _check_rows(task: Task, references: Sequence[tuple[str, ...]], hypotheses: int) -> None:
    if len(references) != hypotheses:
        raise ValueError(f"{len(references)} rows of references, but {hypotheses} hypotheses")
    for number, row in enumerate(references, start=1):
        if not row:
            raise ValueError(f"row {number} has no reference")
        if len(row) > 1 and not task.many_references:
            raise ValueError(f"row {number} has {len(row)} references; {task.title} takes one")


@dataclass(frozen=True, slots=True)
class _Found:
    """What was computed: outcomes and protocols by metric, and the details."""

    outcomes: "dict[str, Outcome]"
    protocols: dict[str, str]
    details: dict[str, Any]


def _metric(name: str, found: _Found, *, requested: bool) -> Metric:
    outcome, kind = found.outcomes[name], _KINDS[name]
    return Metric(
        name=name,
        value=outcome.value,
        scale=kind.scale,
        protocol=found.protocols[name],
        reason=outcome.reason,
        fix=outcome.fix,
        higher_is_better=kind.higher_is_better,
        requested=requested,
    )


def _nothing(wanted: Sequence[str]) -> _Found:
    from evaluator.scoring.outcome import Outcome

    outcome = Outcome(None, reason="there are no rows to score", fix="check the annotation")
    return _Found(dict.fromkeys(wanted, outcome), dict.fromkeys(wanted, ""), {})


def _score_transcripts(references: Sequence[str], hypotheses: Sequence[str]) -> _Found:
    """WER by the original's protocol, and CER, which is the same for English and keeps other scripts' letters."""
    from evaluator.scoring.normalize import cer_protocol, cer_text, wer_protocol, wer_words
    from evaluator.scoring.outcome import Outcome
    from evaluator.scoring.wer import character_errors, word_errors

    reference_words = [wer_words(text) for text in references]
    hypothesis_words = [wer_words(text) for text in hypotheses]
    words = word_errors(reference_words, hypothesis_words)
    characters = character_errors([cer_text(text) for text in references], [cer_text(text) for text in hypotheses])
    outcomes: dict[str, Outcome] = {}
    details: dict[str, Any] = {"empty_references": sum(not row for row in reference_words)}
    for name, unit, errors in (("wer", "words", words), ("cer", "characters", characters)):
        details[unit] = _counts(errors.total)
        rows = tuple(row.rate for row in errors.rows)
        if errors.total.rate is None:
            reason = f"the references have no {unit}; there are {errors.total.insertions} insertions"
            outcomes[name] = Outcome(None, rows, reason=reason, fix="check the annotation's texts")
        else:
            outcomes[name] = Outcome(errors.total.rate, rows)
    # The rate of a set is a ratio of two sums; whoever resamples rows needs both terms.
    outcomes["word_edits"] = Outcome(None, tuple(float(row.edits) for row in words.rows))
    outcomes["reference_words"] = Outcome(None, tuple(float(row.reference_length) for row in words.rows))
    return _Found(outcomes, {"wer": wer_protocol(), "cer": cer_protocol()}, details)


def _counts(errors: "ErrorCounts") -> dict[str, int]:
    return {
        "hits": errors.hits,
        "substitutions": errors.substitutions,
        "deletions": errors.deletions,
        "insertions": errors.insertions,
        "reference_length": errors.reference_length,
        "hypothesis_length": errors.hypothesis_length,
    }


def _score_captions(
    references: Sequence[tuple[str, ...]],
    hypotheses: Sequence[str],
    wanted: Sequence[str],
    config: ScoringConfig,
) -> _Found:
    from evaluator.scoring.caption_scores import score_captions

    scores = score_captions(hypotheses, references, wanted=wanted, options=config)
    # What SPIDEr is made of is shown only if it is wanted itself.
    outcomes = {name: scores.outcomes[name] for name in wanted}
    return _Found(outcomes, scores.protocols, scores.details)
