"""What becomes of one metric: a value of the set and one a row, or the reason why there is none and what to do."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from evaluator.errors import MetricUnavailableError

log = logging.getLogger(__name__)

# What the metrics' libraries and Java raise when they cannot score. A bug of ours passes: NameError,
# TypeError and AttributeError are not among them.
FAILURES = (
    MetricUnavailableError,
    OSError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    AssertionError,
    LookupError,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One metric's outcome.

    Attributes:
        value: the set's score, None if there is none.
        rows: one value a row, None where a row has none; empty if the metric has failed.
        reason: why there is no value.
        fix: what to do about it.
    """

    value: float | None
    rows: tuple[float | None, ...] = ()
    reason: str | None = None
    fix: str | None = None


def attempt(name: str, compute: Callable[[], Outcome]) -> Outcome:
    """Compute a metric; what its library raises becomes the reason why there is none.

    Args:
        name: of what is computed, for the log.
        compute: computes it.

    Returns:
        Outcome: what `compute` returns, or one without a value.
    """
    try:
        return compute()
    except FAILURES as error:
        return failed(name, error)


def failed(name: str, error: BaseException) -> Outcome:
    """The outcome of a metric whose computation raised `error`."""
    if isinstance(error, MetricUnavailableError):
        return Outcome(None, reason=error.message, fix=error.fix)
    log.warning("%s failed", name, exc_info=error)
    return Outcome(None, reason=f"{type(error).__name__}: {error}", fix="the log has more; please report it")
