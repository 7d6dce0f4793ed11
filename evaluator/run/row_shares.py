"""Who is asked which clips: the rows of an annotation dealt to processes so that they finish together.

In: the cost of each clip, its seconds of audio. Out: for each process the places of its clips. The same costs give the
same shares.
"""

from collections.abc import Sequence


def balance(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Deal clips, the longest first.

    Clips of like length are dealt one to each process in turn, the longest of them to the process that has least so
    far. So the numbers of clips differ by one at most, which matters where a clip costs something whatever its length
    (an encoder that always sees 30 s), and the seconds differ by the length of a clip at most.

    Args:
        costs: the cost of each clip, for example its seconds.
        processes: how many there are, from 1.

    Returns:
        list[list[int]]: for each process the places of its clips, ascending; each place once.

    Example:
        costs [5.0, 1.0, 4.0, 2.0, 3.0], 2 processes -> [[0, 1, 3], [2, 4]]: 8 s and 7 s.
    """
    longest_first = sorted(range(len(costs)), key=lambda place: (-costs[place], place))
    shares: list[list[int]] = [[] for _ in range(processes)]
    load = [0.0] * processes
    for start in range(0, len(longest_first), processes):
        alike = longest_first[start : start + processes]
        takers = sorted(range(processes), key=lambda process: (load[process], process))
        for place, taker in zip(alike, takers, strict=False):
            shares[taker].append(place)
            load[taker] += costs[place]
    return [sorted(share) for share in shares]
