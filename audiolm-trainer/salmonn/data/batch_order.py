"""The order of training batches: which samples a step takes, from the seed and the step's number alone.

Every pass is shuffled anew. A task's weight says how often its rows are drawn in a pass; sorting by length happens
within pools of neighbouring batches, so that the order stays random.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from salmonn.data.dataset import Samples
from salmonn.errors import DatasetError

POOL_BATCHES = 64
_ROWS_AT_ONCE = 1 << 18
_ROTATION = 1
"""Keeps the seeds of rotations apart from those of shuffles; a 0 at the end of a seed would not."""


def count_batches(rows: int, batch_size: int, *, drop_last: bool) -> int:
    """Count the batches of a pass over so many rows; without `drop_last` the incomplete one is among them."""
    whole, rest = divmod(rows, batch_size)
    return whole + (rest > 0 and not drop_last)


@dataclass(frozen=True, slots=True)
class Share:
    """A task whose weight is no whole number: every pass takes the next `extra` of its rows, in turn.

    Attributes:
        task_id: the task's place among the set's tasks.
        extra: rows taken once more in a pass, no more than the task has.
    """

    task_id: int
    extra: int


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """Batches over any number of passes; build one with `build_batch_order`.

    Stateless: batch number `n` is the same whatever was asked before, so a run can start in the middle.

    Attributes:
        num_samples: rows of the set.
        drawn_per_pass: rows of a pass, counted as often as they are drawn.
        batch_size: samples of a batch; the last of a pass may have fewer without `drop_last`.
        seed: of all passes.
        drop_last: leave a pass's incomplete batch out.
        lengths: int32 [num_samples], what batches are sorted by; None leaves the shuffled order.
        task_ids: integer [num_samples]; None where every row is drawn once.
        copies: int [tasks], how often every row of a task is drawn at least.
        shares: the tasks of which some rows are drawn once more.
    """

    num_samples: int
    drawn_per_pass: int
    batch_size: int
    seed: int
    drop_last: bool
    lengths: NDArray[np.int32] | None = None
    task_ids: NDArray[np.int16] | None = None
    copies: tuple[int, ...] = ()
    shares: tuple[Share, ...] = ()

    @property
    def batches_per_pass(self) -> int:
        """How many batches a pass has."""
        return count_batches(self.drawn_per_pass, self.batch_size, drop_last=self.drop_last)

    def indices(self, start: int, stop: int) -> Iterator[list[int]]:
        """Yield the samples of batches `start` to `stop` - 1, counted over all passes."""
        order: NDArray[np.int32] | None = None
        for number in range(start, stop):
            cycle, place = divmod(number, self.batches_per_pass)
            if order is None or place == 0:
                # The old pass goes before the new one comes: both at once would double the memory.
                order = None
                order = self._pass(cycle)
            batch: list[int] = order[place * self.batch_size : (place + 1) * self.batch_size].tolist()
            yield batch

    def _pass(self, cycle: int) -> NDArray[np.int32]:
        """Every drawn row of a pass in order: int32 [drawn_per_pass]."""
        rng = np.random.default_rng((self.seed, cycle))
        # Shuffled in place: `rng.permutation(n)` gives the same order in eight bytes a row.
        order = self._drawn(cycle)
        rng.shuffle(order)
        if self.lengths is None:
            return order
        count = self.drawn_per_pass // self.batch_size
        whole = order[: count * self.batch_size]
        pool = POOL_BATCHES * self.batch_size
        for start in range(0, whole.size, pool):
            part = whole[start : start + pool]
            whole[start : start + pool] = part[np.argsort(self.lengths[part], kind="stable")]
        rows = whole.reshape(count, self.batch_size)
        rows[:] = rows[rng.permutation(count)]
        return order

    def _drawn(self, cycle: int) -> NDArray[np.int32]:
        """The rows of a pass in the set's order, each as often as it is drawn: int32 [drawn_per_pass]."""
        if self.task_ids is None:
            return np.arange(self.num_samples, dtype=np.int32)
        extra = self._extra(cycle)
        copies = np.asarray(self.copies, dtype=np.int32)
        drawn = np.empty(self.drawn_per_pass, dtype=np.int32)
        done = 0
        # Part by part: numpy.repeat needs eight bytes for every count.
        for start in range(0, self.num_samples, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, self.num_samples)
            times = copies[self.task_ids[start:stop]] + extra[start:stop]
            part = np.repeat(np.arange(start, stop, dtype=np.int32), times)
            drawn[done : done + part.size] = part
            done += part.size
        return drawn

    def _extra(self, cycle: int) -> NDArray[np.bool_]:
        """Which rows are drawn once more in a pass: bool [num_samples]."""
        extra = np.zeros(self.num_samples, dtype=np.bool_)
        for share in self.shares:
            # A fixed order of the task's rows, and a window that goes on from pass to pass: every row's turn comes.
            own = np.flatnonzero(self.task_ids == share.task_id).astype(np.int32)
            np.random.default_rng((self.seed, share.task_id, _ROTATION)).shuffle(own)
            first = cycle * share.extra % own.size
            extra[own[first : first + share.extra]] = True
            extra[own[: max(0, first + share.extra - own.size)]] = True
        return extra


@dataclass(frozen=True, slots=True)
class Draws:
    """How often rows are drawn in a pass; see the attributes of the same names of `BatchOrder`."""

    drawn: int
    task_ids: NDArray[np.int16] | None
    copies: tuple[int, ...]
    shares: tuple[Share, ...]


def plan_draws(samples: Samples, task_weights: Mapping[str, float]) -> Draws:
    """Plan how often the rows of each task are drawn in a pass.

    Raises:
        DatasetError: a task of `task_weights` is not in the set, or its weight draws none of its rows.
    """
    names = samples.tasks()
    unknown = sorted(set(task_weights) - set(names))
    if unknown:
        known = ", ".join(sorted(names))
        raise DatasetError(
            f"datasets.task_weights: {', '.join(unknown)} is no task of the training set (it has {known})"
        )
    weights = [float(task_weights.get(name, 1.0)) for name in names]
    task_ids = samples.task_ids() if any(weight != 1.0 for weight in weights) else None
    if task_ids is None:
        return Draws(len(samples), None, tuple(floor(weight) for weight in weights), ())
    rows = np.bincount(task_ids, minlength=len(names)).tolist()
    copies = tuple(floor(weight) for weight in weights)
    extras = [round((weight - floor(weight)) * count) for weight, count in zip(weights, rows, strict=True)]
    for name, weight, count, extra in zip(names, weights, rows, extras, strict=True):
        if count and not floor(weight) and not extra:
            raise DatasetError(
                f"datasets.task_weights.{name}: {weight:g} of {count} rows is less than half a row, so that none would "
                f"ever be drawn: set it to {1 / count:.2g} or more, or leave the task out of the annotation"
            )
    shares = tuple(Share(task_id, extra) for task_id, extra in enumerate(extras) if extra)
    drawn = sum(c * r for c, r in zip(copies, rows, strict=True)) + sum(extras)
    return Draws(drawn, task_ids, copies, shares)


def build_batch_order(
    samples: Samples,
    *,
    batch_size: int,
    seed: int,
    drop_last: bool,
    bucket_by_length: bool,
    task_weights: Mapping[str, float],
) -> BatchOrder:
    """Plan the batches of a training set.

    Args:
        samples: the set.
        batch_size: samples of a batch.
        seed: of every pass.
        drop_last: leave a pass's incomplete batch out.
        bucket_by_length: put texts of similar length together: within pools of POOL_BATCHES batches of the shuffled
            order samples are sorted by length, then the batches are shuffled.
        task_weights: task -> how often each of its rows is drawn in a pass; a task without one has 1. With weight 2.25
            every row is drawn twice, and a quarter of the rows, the next quarter in every pass, once more. Empty, or
            1 throughout, draws every row once, in the order of
            `numpy.random.default_rng((seed, cycle)).permutation(len(samples))`.

    Raises:
        DatasetError: a task of `task_weights` is not in the set or would never be drawn, or there are too few rows for
            one batch.
    """
    draws = plan_draws(samples, task_weights)
    order = BatchOrder(
        num_samples=len(samples),
        drawn_per_pass=draws.drawn,
        batch_size=batch_size,
        seed=seed,
        drop_last=drop_last,
        lengths=samples.text_lengths() if bucket_by_length else None,
        task_ids=draws.task_ids,
        copies=draws.copies,
        shares=draws.shares,
    )
    if order.batches_per_pass < 1:
        raise DatasetError(
            f"{draws.drawn} training samples do not fill one batch of {batch_size}: lower run.batch_size_train"
        )
    return order
