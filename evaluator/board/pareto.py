"""The Pareto frontier: the systems that no other one beats in both of two criteria."""

from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """A system by what it costs and how good it is; of `good` more is better, of `cost` less."""

    system: str
    cost: float
    good: float


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other dominates, from the cheapest on.

    A point is dominated by one that is at least as good in both and better in one. Equal points are on it together.

    Example:
        [("a", 1, 1), ("b", 2, 3), ("c", 3, 2)] -> a, b: c costs more than b and is worse
    """
    return sorted(
        (one for one in points if not any(_dominates(other, one) for other in points)),
        key=lambda point: (point.cost, -point.good),
    )


def _dominates(one: Point, other: Point) -> bool:
    return one.cost <= other.cost and one.good >= other.good and one[1:] != other[1:]
