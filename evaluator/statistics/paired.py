"""Two systems on the same units: the difference of their scores, its interval, and whether chance would do it.

Every unit is drawn for both systems at once, so that what is hard for both does not look like a difference.
"""

from collections.abc import Sequence

from evaluator.statistics.bootstrap import Columns

# Signs that are held at a time.
_CELLS = 1 << 21


def permutation_p(differences: Columns, *, resamples: int, seed: int) -> float:
    """How often a difference at least as large would come from swapping the two systems' units at random.

    The sign-flip (paired permutation) test, two-sided. With so few units that differ that all their signs can be
    tried, all are; else the draws count, the observed signs among them, so that p is never 0.

    Args:
        differences: [units], second system less first: of edits, or of scores.
        resamples: draws of signs.
        seed: of the draws.

    Returns:
        float: p; 1 where no unit differs.
    """
    import numpy as np

    differing = np.asarray(differences, dtype=np.float64)
    differing = np.sort(differing[differing != 0])
    number = len(differing)
    # Sums that are equal but for their rounding count as equal.
    observed = abs(differing.sum()) - 1e-9 * np.abs(differing).sum()
    if number < 60 and 2**number <= resamples:
        bits = (np.arange(2**number)[:, None] >> np.arange(number)) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ differing) >= observed))
    generator = np.random.default_rng(seed)
    as_large = 0
    at_once = max(1, _CELLS // number)
    for first in range(0, resamples, at_once):
        bits = generator.integers(0, 2, size=(min(at_once, resamples - first), number), dtype=np.int8)
        as_large += int(np.sum(np.abs((2.0 * bits - 1) @ differing) >= observed))
    return (1 + as_large) / (1 + resamples)


def holm(values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that one of them all is wrong at most as often as the level says.

    Example:
        [0.01, 0.04, 0.03] -> [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted = [0.0] * len(values)
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted
