"""The errors of a set: raw references and hypotheses in, an ErrorRate for each way of comparing out.

A set is counted in batches: of a batch's texts nothing but counts is kept, and all ways of comparing meet the same
batch, so that what they share is normalised once. Large sets are counted by processes of their own, one a CPU
(processes.py). No row knows of another, so that the counts are the same whatever the batches are.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence

from evaluator.cpu_threads import available_cpus
from evaluator.scoring.counting.processes import CountingProcesses
from evaluator.scoring.protocols import comparison
from evaluator.scoring.wer import ErrorRate

log = logging.getLogger(__name__)

BATCH_ROWS = 1000
# A process needs about a second to start; an ordinary row is counted in a fifth of a millisecond.
FEWEST_ROWS = 20_000
"""Rows from which on processes are started."""


def count_errors(
    compare: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], *, processes: int | None = None
) -> list[ErrorRate]:
    """Count the errors of a set.

    Args:
        compare: names of functions of protocols/comparison.py.
        references: N raw references.
        hypotheses: N raw hypotheses, in the same order.
        processes: how many count beside each other; None: one for each CPU where the set is large; 1: this one.

    Returns:
        list[ErrorRate]: of each function.

    Raises:
        MetricUnavailableError: a library is not installed, or a process ended early.
        ValueError: the numbers of references and hypotheses differ.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references cannot be compared with {len(hypotheses)} hypotheses")
    if processes is None:
        processes = available_cpus() if len(references) >= FEWEST_ROWS else 1
    if processes == 1:
        return _joined(compare, (count_batch(compare, *batch) for batch in _batches(references, hypotheses)))
    with CountingProcesses(processes) as workers:
        return _joined(compare, _told(workers.count(compare, _batches(references, hypotheses)), len(references)))


def count_batch(compare: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorRate]:
    """Count the errors of one batch, here."""
    return [getattr(comparison, name)(references, hypotheses) for name in compare]


def _batches(references: Sequence[str], hypotheses: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    for first in range(0, len(references), BATCH_ROWS):
        part = slice(first, first + BATCH_ROWS)
        yield list(references[part]), list(hypotheses[part])


def _told(batches: Iterable[Sequence[ErrorRate]], rows: int) -> Iterator[Sequence[ErrorRate]]:
    """Say after each quarter how far it is: a million rows take minutes."""
    done = 0
    for batch in batches:
        before, done = done, done + len(batch[0].hits)
        if 4 * done // rows > 4 * before // rows:
            log.info("Scoring: errors of %d of %d rows are counted", done, rows)
        yield batch


def _joined(compare: Sequence[str], batches: Iterable[Sequence[ErrorRate]]) -> list[ErrorRate]:
    found = [ErrorRate() for _ in compare]
    for batch in batches:
        for whole, part in zip(found, batch, strict=True):
            whole.extend(part)
    return found
