"""The interval of a score: percentiles of its resamples, and what must be said of sets that are small or faultless."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from evaluator.statistics.bootstrap import Columns
from evaluator.statistics.units import Units

LEVEL = 0.95
RULE_OF_THREE = "rule of three"
FEW_UNITS = 10
"""Fewer units than this, and the bootstrap's intervals are too narrow to be taken as they are."""

Statistic = Callable[[Columns], Columns]
"""Sums [resamples, columns] -> values [resamples]; NaN where there is nothing to divide by."""

# Bounds are told to 12 digits: the last ones depend on how a machine sums.
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of a score.

    Attributes:
        low: its lower bound; None where the set cannot tell one (see `remark`).
        high: its upper bound, in the score's own scale; as `low`.
        level: 0.95.
        method: "bootstrap, percentiles", or "rule of three" for a set without an error.
        unit: what was drawn: "clip", "speaker", "recording".
        units: how many there are.
        unit_source: where a row's unit is from: "rows", 'field "speaker"', "path:1".
        resamples: how often was drawn.
        seed: of the draws.
        remark: a sentence on what the interval does not say, or None.
    """

    low: float | None
    high: float | None
    level: float
    method: str
    unit: str
    units: int
    unit_source: str
    resamples: int
    seed: int
    remark: str | None = None

    def facts(self) -> dict[str, Any]:
        """What scores.json says of it."""
        return asdict(self)


def percentiles(values: Columns, level: float = LEVEL) -> tuple[float, float] | None:
    """The bounds between which the middle of the values lies; None where no value is a number."""
    import numpy as np

    told = values[np.isfinite(values)]
    if not len(told):
        return None
    low, high = np.quantile(told, [(1 - level) / 2, (1 + level) / 2])
    return round(float(low), _DIGITS), round(float(high), _DIGITS)


def interval_of(
    values: Columns,
    sums: Columns,
    *,
    units: Units,
    seed: int,
    rate_of: str = "",
) -> Interval:
    """The interval of one score.

    Args:
        values: [resamples], the score of each resample.
        sums: [units, columns], what the score is made of; of an error rate edits and reference units.
        units: what was drawn.
        seed: of the draws.
        rate_of: of an error rate what it counts, "word"; "" for other scores.

    Returns:
        Interval: of a set without any error from 0 to the rule of three's bound; without bounds where there is one
        unit, or all units are alike, for then every draw gives the same.
    """
    number = len(sums)
    low, high = percentiles(values) or (None, None)
    method, remark = "bootstrap, percentiles", _few(units, number)
    if rate_of and not sums[:, 0].any():
        words = float(sums[:, 1].sum())
        low, high, method = 0.0, min(1.0, 3 / words), RULE_OF_THREE
        remark = f"no error: one-sided, 3 errors in {words:.0f} {rate_of}s, as if {rate_of}s erred independently"
    elif number == 1:
        low = high = None
        remark = f"none: there is one {units.kind}, and nothing to draw from"
    elif low is not None and percentiles(values, 1.0) == (low, low):
        low = high = None
        remark = f"none: all {number} {units.kind}s score the same, so that every draw does"
    return Interval(low, high, LEVEL, method, units.kind, number, units.source, len(values), seed, remark)


def _few(units: Units, number: int) -> str | None:
    if number >= FEW_UNITS:
        return None
    return f"only {units.counted(number)}: the true interval is wider"


def told(interval: Interval, *, percent: bool) -> str:
    """An interval beside its value: "[1.52, 3.90]" of a rate in percent, "[3.81, 4.27]"; "" without bounds."""
    if interval.low is None or interval.high is None or not math.isfinite(interval.high):
        return ""
    factor, digits = (100, 2) if percent else (1, 4)
    return f"[{factor * interval.low:.{digits}f}, {factor * interval.high:.{digits}f}]"
