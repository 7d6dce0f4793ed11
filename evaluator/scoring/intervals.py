"""Intervals of a set's scores: Scores in, the same Scores with an Interval at each metric out; no score changes.

Error rates are resampled as pairs of edits and reference units (Bisani and Ney, 2004), metrics that are a mean over
rows as their rows; BLEU, chrF and macro-F1 as the counts that they are made of. All metrics of a set share the draws.
CIDEr-D's document frequencies stay those of the whole set.
"""

import importlib.util
import re
from array import array
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evaluator.config.sections import ScoringConfig
from evaluator.scoring.result import MetricResult, Scores
from evaluator.statistics.bootstrap import Columns, ratio, resampled_sums, unit_sums
from evaluator.statistics.interval import LEVEL, Interval, Statistic, interval_of
from evaluator.statistics.units import CLIP, Units

_SEPARATORS = re.compile(r"[|:,\s]")
# What aac-metrics adds so that nothing is divided by 0.
_SMALL, _TINY = 1e-9, 1e-15


NO_NUMPY = "none: they need numpy (pip install 'audiolm-evaluator[audio]')"


def interval_token(config: ScoringConfig) -> str:
    """How intervals are made, as the value of a signature's field "ci"; "" without intervals.

    Example:
        "95,clip,n1000,seed0"; "95,speaker=name-1,n1000,seed0" by the rule name:1
    """
    if not config.bootstrap_resamples:
        return ""
    # A signature's values have no colon, bar or space.
    by = f"={_SEPARATORS.sub('-', config.unit_field)}" if config.unit_field and config.unit != CLIP else ""
    return f"{100 * LEVEL:g},{config.unit}{by},n{config.bootstrap_resamples},seed{config.bootstrap_seed}"


def with_intervals(scores: Scores, config: ScoringConfig, units: Units | None = None) -> Scores:
    """Add intervals, and to `per_sample` the edits and reference units of every error rate.

    Args:
        scores: of a set.
        config: `bootstrap_resamples` (0: no intervals) and `bootstrap_seed`.
        units: what is drawn; None: clips.

    Returns:
        Scores: the same values.
    """
    per_sample = dict(scores.per_sample)
    for metric in scores.metrics:
        if metric.kind.unit and metric.evidence:
            edits, length = error_columns(metric.name)
            per_sample.setdefault(edits, array("d", _edits(metric)))
            per_sample.setdefault(length, array("d", _length(metric)))
    scores = replace(scores, per_sample=per_sample)
    if not config.bootstrap_resamples:
        return scores
    if importlib.util.find_spec("numpy") is None:
        return replace(scores, details={**scores.details, "intervals": NO_NUMPY})
    return replace(scores, metrics=_intervals(scores.metrics, config, units or Units()))


def error_columns(name: str) -> tuple[str, str]:
    """The columns of `per_sample` that an error rate is the ratio of: "cer" -> ("cer_edits", "cer_length")."""
    return ("word_edits", "reference_words") if name == "wer" else (f"{name}_edits", f"{name}_length")


def _intervals(metrics: tuple[MetricResult, ...], config: ScoringConfig, units: Units) -> tuple[MetricResult, ...]:
    import numpy as np

    columns: list[Columns] = []
    places: dict[str, slice] = {}
    for metric in metrics:
        own = _columns(metric)
        if own:
            places[metric.name] = slice(len(columns), len(columns) + len(own))
            columns += own
    if not columns:
        return metrics
    seed = config.bootstrap_seed
    sums = unit_sums(np.stack(columns, axis=1), units.labels)
    drawn = resampled_sums(sums, resamples=config.bootstrap_resamples, seed=seed)
    found: dict[str, Interval] = {}
    for metric in metrics:
        if metric.name in places:
            part = places[metric.name]
            values = _statistic(metric)(drawn[:, part])
            found[metric.name] = interval_of(values, sums[:, part], units=units, seed=seed, rate_of=metric.kind.unit)
    token = {"ci": interval_token(config)}
    return tuple(
        replace(metric, interval=found[metric.name], signature=metric.signature.extended(token))
        if metric.name in found
        else metric
        for metric in metrics
    )


def _columns(metric: MetricResult) -> list[Columns]:
    """What a metric is a function of, one column [rows] each; [] where it has no value or no rows."""
    import numpy as np

    if metric.value is None or (metric.kind.unit and not metric.evidence):
        return []
    if metric.name in OF_COUNTS:
        return [np.asarray(counts, dtype=np.float64) for counts in metric.evidence.values()]
    if metric.kind.unit:
        return [np.array(_edits(metric), dtype=np.float64), np.array(_length(metric), dtype=np.float64)]
    told = [row for row in metric.rows if row is not None]
    if not told:
        return []
    rows = np.array([0.0 if row is None else row for row in metric.rows])
    return [rows, np.array([float(row is not None) for row in metric.rows])]


def _edits(metric: MetricResult) -> "array[int]":
    return _total(metric, "substitutions", "deletions", "insertions")


def _length(metric: MetricResult) -> "array[int]":
    return _total(metric, "hits", "substitutions", "deletions")


def _total(metric: MetricResult, *names: str) -> "array[int]":
    return array("i", map(sum, zip(*(metric.evidence[name] for name in names), strict=True)))


def _statistic(metric: MetricResult) -> Statistic:
    return OF_COUNTS.get(metric.name, ratio)


def _bleu(sums: Columns) -> Columns:
    """BLEU of sums of n-grams that match, n-grams, words of candidates and of references, as aac-metrics has it."""
    import numpy as np

    orders = (sums.shape[1] - 2) // 2
    matching, all_of_them = sums[:, :orders], sums[:, orders : 2 * orders]
    precision = np.prod((matching + _TINY) / (all_of_them + _SMALL), axis=1) ** (1 / orders)
    lengths = (sums[:, -2] + _TINY) / (sums[:, -1] + _SMALL)
    scores: Columns = precision * np.where(lengths < 1, np.exp(1 - 1 / np.minimum(lengths, 1)), 1.0)
    return scores


def _macro_f1(sums: Columns) -> Columns:
    """Macro-F1 of sums of right answers, answers and rows of each class; a class without a row in a draw is none."""
    import numpy as np

    right, answered, rows = np.split(sums, 3, axis=1)
    there = rows > 0
    f1 = np.divide(2 * right, answered + rows, out=np.zeros_like(right), where=there)
    return ratio(np.stack([f1.sum(axis=1), there.sum(axis=1)], axis=1))


def _translation_bleu(sums: Columns) -> Columns:
    from sacrebleu import BLEU

    return _by_sacrebleu(BLEU(), sums)


def _chrf(sums: Columns) -> Columns:
    from sacrebleu import CHRF

    return _by_sacrebleu(CHRF(), sums)


def _by_sacrebleu(metric: Any, sums: Columns) -> Columns:
    """The library's own score of each draw's sums."""
    import numpy as np

    return np.array([metric._compute_score_from_stats(row).score for row in sums.astype(int).tolist()])


OF_COUNTS: Mapping[str, Statistic] = {
    **dict.fromkeys(("bleu_1", "bleu_2", "bleu_3", "bleu_4"), _bleu),
    "bleu": _translation_bleu,
    "chrf": _chrf,
    "macro_f1": _macro_f1,
}
"""Metrics that are a function of the evidence's sums; all others are a mean over rows, or a ratio."""
