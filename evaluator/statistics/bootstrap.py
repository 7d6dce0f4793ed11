"""The bootstrap: what the columns of a set sum up to when its units are drawn anew, with replacement.

Every score of a set is a function of sums over its rows (edits and words; row scores and rows), so that a resample is
a draw of units and the sums of what was drawn. Whatever shares its rows shares the draws: put all columns in one call.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

# Part of the extras, not of the core: imported by whoever computes.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.float64]
else:
    Columns = Any

RESAMPLES = 1000
SEED = 0

# Counts that are held at a time.
_CELLS = 1 << 21


def unit_sums(columns: Columns, labels: Sequence[str]) -> Columns:
    """Sum rows by the unit that they belong to: [[1, 4], [0, 3], [2, 5]], ("a", "b", "a") -> [[3, 9], [0, 3]].

    Args:
        columns: [rows, columns].
        labels: of each row; () where every row is a unit of its own.

    Returns:
        Columns: [units, columns], float64.
    """
    import numpy as np

    rows = np.asarray(columns, dtype=np.float64)
    if not labels:
        return rows
    names, places = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    return np.stack([np.bincount(places, weights=column, minlength=len(names)) for column in rows.T], axis=1)


def resampled_sums(units: Any, *, resamples: int = RESAMPLES, seed: int | Sequence[int] = SEED) -> Columns:
    """Draw as many units as there are, with replacement, again and again, and sum up what was drawn.

    The order of the units does not matter: they are sorted first.

    Args:
        units: [units, columns], at least one unit.
        resamples: how often.
        seed: the same seed, the same draws.

    Returns:
        Columns: [resamples, columns], float64.
    """
    import numpy as np

    ordered = np.asarray(units, dtype=np.float64)
    ordered = ordered[np.lexsort(ordered.T)]
    generator = np.random.default_rng(seed)
    number = len(ordered)
    sums = np.empty((resamples, ordered.shape[1]))
    firsts = _firsts_of_equal(ordered)
    distinct = ordered[firsts]
    at_once = max(1, min(resamples, _CELLS // len(distinct)))
    # How often each distinct unit was drawn; counts times columns costs one draw for all columns.
    counts = np.empty((at_once, len(distinct)))
    for first in range(0, resamples, at_once):
        part = counts[: min(at_once, resamples - first)]
        for row in part:
            drawn = np.bincount(generator.integers(0, number, size=number), minlength=number)
            row[:] = drawn if len(distinct) == number else np.add.reduceat(drawn, firsts)
        sums[first : first + len(part)] = part @ distinct
    return sums


def _firsts_of_equal(ordered: Columns) -> "NDArray[np.int64]":
    """Where equal units begin, in units that are sorted. Whole numbers alone add up to the same in any order."""
    import numpy as np

    if not np.array_equal(ordered, np.rint(ordered)):
        return np.arange(len(ordered))
    return np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])


def ratio(sums: Columns) -> Columns:
    """First column by second; NaN where that is 0."""
    import numpy as np

    above, below = sums[:, 0], sums[:, 1]
    rates: Columns = np.divide(above, below, out=np.full(len(sums), np.nan), where=below > 0)
    return rates
