"""Leases: the rows of a run in portions, of which a process takes the next one when it has nearly finished its last.

In: rows and what each costs. Out: portions, those with the longest clips first, that become smaller towards the end
(guided self-scheduling, Polychronopoulos and Kuck 1987): a slow process takes fewer of them, and what it still has when
the others are done is short. The same rows and costs give the same leases.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_ROWS = 1024
"""Of one lease: what is dealt again when its process dies."""
_TURNS = 4
"""A lease is at most one part in `_TURNS` of an even share of what is left."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A portion of the rows.

    Attributes:
        rows: places of the rows among all rows of the run.
        deaths: how many processes have ended while they had these rows in hand.
        alone: whether its rows are asked without any others, because one of them may be what ends processes.
    """

    rows: tuple[int, ...]
    deaths: int = 0
    alone: bool = False


def cut_leases(rows: Sequence[int], costs: Sequence[float], processes: int) -> list[Lease]:
    """Cut rows into leases.

    Args:
        rows: places of the rows that are to be asked.
        costs: the cost of each of them, for example its seconds of audio.
        processes: how many will take leases, from 1; of one alone the rows keep their order.

    Returns:
        list[Lease]: each row in one of them; none is larger than an even share of what is left by then, in rows
        (where a clip costs something whatever its length) and in cost.

    Example:
        rows [0, 1, 2, 3], costs [5.0, 1.0, 4.0, 2.0], 2 processes -> (0,), (2,), (3,), (1,).
    """
    if processes == 1:
        return [Lease(tuple(rows[start : start + MOST_ROWS])) for start in range(0, len(rows), MOST_ROWS)]
    order = sorted(range(len(rows)), key=lambda place: (-costs[place], place))
    return [
        Lease(tuple(rows[place] for place in order[start:end]))
        for start, end in _cuts([costs[place] for place in order], processes)
    ]


def _cuts(costs: Sequence[float], processes: int) -> Iterator[tuple[int, int]]:
    """Where each lease begins and ends, for costs that fall."""
    left, start = sum(costs), 0
    while start < len(costs):
        most = min(MOST_ROWS, max(1, (len(costs) - start) // (_TURNS * processes)))
        end, taken, allowed = start + 1, costs[start], left / (_TURNS * processes)
        while end < start + most and taken + costs[end] <= allowed:
            taken += costs[end]
            end += 1
        yield start, end
        start, left = end, left - taken
