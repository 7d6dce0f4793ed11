"""Scoring: the references and hypotheses of a task in, its Scores out.

Every metric names its protocol, because that decides the number more than the library does. A metric that
cannot be had is None with the reason and what to do about it, and never costs the others. Needs no model and
no audio.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evaluator.config.sections import ScoringConfig
from evaluator.errors import ConfigError, MetricUnavailableError, Problem
from evaluator.scoring.answers import OTHER_TASKS, score_other
from evaluator.scoring.answers.translations import check_language
from evaluator.scoring.protocols.advice import better_protocol
from evaluator.scoring.protocols.korean import read_references
from evaluator.scoring.protocols.protocol import Protocol, Rate
from evaluator.scoring.protocols.table import protocol_of
from evaluator.scoring.result import KINDS, MetricResult, Rows, Scores, failed
from evaluator.submission.invisible import is_invisible
from evaluator.tasks import AAC, ASR, ST, Task
from evaluator.wording import did_you_mean

# The metrics' libraries are imported where they are used: a command's --help imports this file.
if TYPE_CHECKING:
    from evaluator.scoring.wer import ErrorRate


def metric_names(task: Task, config: ScoringConfig) -> tuple[str, ...]:
    """The names that `scoring.metrics` may have for a task under the configured protocol.

    Raises:
        ConfigError: the protocol cannot be used.
    """
    own = [rate.metric for rate in protocol_of(task, config).rates] if task.name == ASR.name else KINDS
    return tuple(name for name, kind in KINDS.items() if kind.task == task.name and name in own)


def score(
    task: Task,
    references: Sequence[tuple[str, ...]],
    hypotheses: Sequence[str],
    config: ScoringConfig,
    choices: Sequence[tuple[str, ...]] = (),
) -> Scores:
    """Score a set.

    Args:
        task: decides the metrics.
        references: N rows of at least one raw reference; exactly one for speech recognition.
        hypotheses: N raw texts, "" for a row without an answer.
        config: by which protocol, which metrics, and where Java and SPICE's files are.
        choices: N rows of a question's choices as they were asked, () for a free answer; for question answering alone.

    Returns:
        Scores: every wanted metric, with a value or with a reason.

    Raises:
        ConfigError: `scoring.metrics` has a name that the protocol does not give, or the protocol cannot be used.
        AnnotationError: references have dual transcripts that cannot be read.
        ValueError: the numbers of references and hypotheses differ, or a row has the wrong number of
            references.
    """
    wanted = _wanted(task, config)
    _check_rows(task, references, len(hypotheses))
    if not hypotheses:
        reason, fix = "there are no rows to score", "check the annotation"
        found = Scores(task.name, 0, tuple(MetricResult(name, None, reason=reason, fix=fix) for name in wanted), {})
    elif task.name in OTHER_TASKS:
        found = score_other(task, hypotheses, references, choices, config)
    elif task.name == ASR.name:
        found = _score_transcripts(protocol_of(task, config), [row[0] for row in references], hypotheses, config)
    else:
        from evaluator.scoring.caption_scores import score_captions

        found = score_captions(hypotheses, references, protocol=protocol_of(task, config), wanted=wanted, config=config)
    requested = config.metrics or ()
    return replace(
        found,
        metrics=tuple(
            replace(metric, requested=metric.name in requested) for metric in found.metrics if metric.name in wanted
        ),
        details={"empty_hypotheses": sum(all(map(is_invisible, text)) for text in hypotheses), **found.details},
    )


def preflight(
    task: Task, config: ScoringConfig, references: Sequence[tuple[str, ...]] = (), labels: Sequence[str] = ()
) -> list[str]:
    """Find out before any model is loaded what scoring will lack.

    Args:
        task: what will be scored.
        config: the same as for `score`.
        references: the same as for `score`, as far as they are known.
        labels: the rows' task labels, as far as they are known.

    Returns:
        list[str]: a sentence for each group of metrics that will be unavailable, and one for references that another
            protocol, or tokenizer of translations, is made for.

    Raises:
        ConfigError: as `score`.
        AnnotationError: as `score`; translations have several target languages.
    """
    wanted = _wanted(task, config)
    if task.name in OTHER_TASKS:
        return check_language(labels, config.bleu_tokenizer) if task.name == ST.name else []
    protocol = protocol_of(task, config)
    if task.name != AAC.name:
        texts = [row[0] for row in references]
        _read(protocol, texts, config)
        return better_protocol(protocol, texts)
    from evaluator.scoring.caption_scores import check_captions

    return check_captions(wanted, config)


def _wanted(task: Task, config: ScoringConfig) -> tuple[str, ...]:
    """The metrics to compute. A list that has none of this task's means the protocol's usual ones."""
    named = config.metrics or []
    names = metric_names(task, config)
    problems = [
        Problem("scoring.metrics", f'"{name}" is no metric; {did_you_mean(name, KINDS)}')
        for name in named
        if name not in KINDS
    ] + [
        Problem("scoring.metrics", f'the protocol {config.protocol} has no "{name}", only {", ".join(names)}')
        for name in named
        if name in KINDS and KINDS[name].task == task.name and name not in names
    ]
    if problems:
        raise ConfigError("The configuration asks for metrics that do not exist.", problems)
    captions = protocol_of(task, config).captions if task.name == AAC.name else None
    usual = names if captions is None else captions.usual
    chosen = [name for name in names if name in named] or usual
    return tuple(name for name in names if name in chosen or (name == "meteor" and config.meteor))


def _check_rows(task: Task, references: Sequence[tuple[str, ...]], hypotheses: int) -> None:
    if len(references) != hypotheses:
        raise ValueError(f"{len(references)} rows of references, but {hypotheses} hypotheses")
    for number, row in enumerate(references, start=1):
        if not row:
            raise ValueError(f"row {number} has no reference")
        if len(row) > 1 and not task.many_references:
            raise ValueError(f"row {number} has {len(row)} references; {task.title} takes one")


def _read(protocol: Protocol, references: Sequence[str], config: ScoringConfig) -> list[str]:
    """The references as they are compared: one side of dual transcripts, where the protocol reads them."""
    return read_references(references, config.dual_transcripts) if protocol.dual else list(references)


def _score_transcripts(
    protocol: Protocol, references: Sequence[str], hypotheses: Sequence[str], config: ScoringConfig
) -> Scores:
    """The protocol's error rates; the first of them says which references are empty."""
    from evaluator.scoring.counting.batches import count_errors

    read = _read(protocol, references, config)
    metrics: list[MetricResult] = []
    details: dict[str, Any] = {}
    per_sample: dict[str, Rows] = {}
    terms: dict[str, Rows] = {}
    try:
        counted = count_errors([rate.compare for rate in protocol.rates], read, hypotheses)
    except MetricUnavailableError as error:
        return Scores(ASR.name, len(hypotheses), failed([rate.metric for rate in protocol.rates], error), details)
    for rate, errors in zip(protocol.rates, counted, strict=True):
        signature = protocol.sign_rate(rate, rows=len(hypotheses), dual=config.dual_transcripts)
        metric = replace(_error_rate(rate, errors), signature=signature)
        metrics.append(metric)
        details.setdefault("empty_references", errors.lengths.count(0))
        details[f"{metric.kind.unit}s"] = {**metric.totals, **_lengths(rate, errors)}
        per_sample[metric.name] = metric.rows
        # The rate of a set is a ratio of two sums; whoever resamples rows needs both terms.
        if metric.name == "wer":
            terms = {"word_edits": array("d", errors.edits), "reference_words": array("d", errors.lengths)}
    notes = better_protocol(protocol, references)
    if notes:
        details["notes"] = notes
    return Scores(ASR.name, len(hypotheses), tuple(metrics), details, {**per_sample, **terms})


def _lengths(rate: Rate, errors: "ErrorRate") -> dict[str, int]:
    lengths = {"reference_length": errors.total.reference_length}
    return {**lengths, "hypothesis_length": errors.total.hypothesis_length} if rate.one_to_one else lengths


def _error_rate(rate: Rate, errors: "ErrorRate") -> MetricResult:
    from evaluator.scoring.wer import Ratios

    result = MetricResult(
        rate.metric,
        errors.total.rate,
        rows=Ratios(errors.edits, errors.lengths),
        evidence=errors.columns,
        protocol=rate.described(),
    )
    if result.value is not None:
        return result
    reason = f"the references have no {result.kind.unit}s; there are {errors.total.insertions} insertions"
    return replace(result, reason=reason, fix="check the annotation's texts")
