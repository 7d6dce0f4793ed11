"""Leases that processes of a launcher take themselves: the first one to make a lease's file in the run's folder has it.

In: the plan that process 0 wrote. Out: leases, each to one process. `open(..., O_EXCL)` is what network disks promise
to be exclusive, where locks are not always known.
"""

from collections.abc import Iterator

from evaluator.errors import JournalError
from evaluator.workers.leases import Lease
from evaluator.workers.worker import Attempt


def claimed(attempt: Attempt, leases: list[Lease]) -> Iterator[Lease]:
    """Take one lease after the other, as long as one is left; each is taken when it is asked for.

    Raises:
        JournalError: the folder cannot be written.
    """
    for number, lease in enumerate(leases):
        try:
            attempt.claim(number).open("xb").close()
        except FileExistsError:
            continue
        except OSError as error:
            raise JournalError(f"Cannot make {attempt.claim(number)}: {error.strerror}.") from error
        yield lease
