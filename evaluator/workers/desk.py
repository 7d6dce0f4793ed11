"""The desk that deals leases to workers, takes back what a dead one had, and finds the row that ends workers.

In: leases, who asks for one, who died with which rows begun. Out: who is asked what next. No process and no clock is
in here: only the books.

A worker that dies leaves two kinds of rows: those whose clip it had begun, of which one may be the cause, and the
others, which are dealt again as if nothing had been. The first are asked again without any others beside them. When
they have ended MOST_DEATHS workers, they are halved, and again at each further death, until the row is alone.
"""

from collections import deque
from collections.abc import Collection, Sequence

from evaluator.workers.leases import Lease

MOST_DEATHS = 3


class LeaseDesk:
    """Who has which rows.

    Args:
        leases: in the order in which they are to be dealt.
    """

    def __init__(self, leases: Sequence[Lease]) -> None:
        self._open = deque(leases)
        self._suspects: deque[Lease] = deque()
        self._held: dict[int, list[Lease]] = {}

    @property
    def over(self) -> bool:
        """Whether nothing is left to deal, and nobody has anything in hand."""
        return not (self._open or self._suspects or any(self._held.values()))

    @property
    def open(self) -> bool:
        """Whether rows wait to be dealt."""
        return bool(self._open or self._suspects)

    def held(self, worker: int) -> tuple[int, ...]:
        """The rows that a worker was given and that may be unanswered."""
        return tuple(row for lease in self._held.get(worker, ()) for row in lease.rows)

    def holds(self, worker: int) -> bool:
        """Whether a worker has rows that may be unanswered."""
        return bool(self._held.get(worker))

    def take(self, worker: int, *, idle: bool) -> Lease | None:
        """The next lease of a worker.

        Args:
            worker: who asks.
            idle: whether everything that it had is answered. One that is not idle wants more beside what it has.

        Returns:
            Lease, or None: there is nothing for it now. An idle one may get something later, unless it is `over`.
        """
        held = self._held.setdefault(worker, [])
        if idle:
            held.clear()
        elif any(lease.alone for lease in held):
            return None
        if self._open:
            held.append(self._open.popleft())
        elif idle and self._suspects:
            held.append(self._suspects.popleft())
        else:
            return None
        return held[-1]

    def lose(self, worker: int, *, answered: Collection[int], begun: Collection[int]) -> tuple[int, ...]:
        """Take back what a worker had that died.

        Args:
            worker: who died.
            answered: rows that it has answered.
            begun: rows whose clip it had begun to read, answered or not.

        Returns:
            The row that has ended one worker too many, which is not dealt any more; () while it is not known.
        """
        held = self._held.pop(worker, [])
        left = [row for lease in held for row in lease.rows if row not in answered]
        suspects = tuple(row for row in left if row in begun)
        rest = tuple(row for row in left if row not in begun)
        if rest:
            self._open.appendleft(Lease(rest))
        if not suspects:
            return ()
        deaths = 1 + max(lease.deaths for lease in held)
        if deaths < MOST_DEATHS:
            self._suspects.append(Lease(suspects, deaths, alone=True))
        elif len(suspects) > 1:
            middle = (len(suspects) + 1) // 2
            for half in (suspects[:middle], suspects[middle:]):
                self._suspects.append(Lease(half, MOST_DEATHS - 1, alone=True))
        else:
            return suspects
        return ()
