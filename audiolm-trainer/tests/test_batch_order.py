"""The order of batches: seeded, stateless, weighted by task, bucketed by length."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from salmonn.data.batch_order import POOL_BATCHES, BatchOrder, build_batch_order
from salmonn.data.dataset import Sample, Samples
from salmonn.errors import DatasetError


def set_of(tasks: list[str], *, lengths: list[int] | None = None) -> Samples:
    sizes = lengths or [1] * len(tasks)
    return Samples.of([Sample(Path("x"), "a" * size, task, "") for task, size in zip(tasks, sizes, strict=True)])


def plan(
    samples: Samples,
    batch_size: int,
    *,
    seed: int = 1,
    drop_last: bool = True,
    bucket_by_length: bool = False,
    task_weights: Mapping[str, float] | None = None,
) -> BatchOrder:
    return build_batch_order(
        samples,
        batch_size=batch_size,
        seed=seed,
        drop_last=drop_last,
        bucket_by_length=bucket_by_length,
        task_weights=task_weights or {},
    )


def passes(order: BatchOrder, count: int) -> list[list[int]]:
    """The drawn rows of the first passes."""
    size = order.batches_per_pass
    batches = list(order.indices(0, count * size))
    return [[i for batch in batches[n * size : (n + 1) * size] for i in batch] for n in range(count)]


def test_the_plain_order_is_numpys_permutation_of_seed_and_pass() -> None:
    drawn = passes(plan(set_of(["asr"] * 10), 5, seed=7), 3)
    for cycle, one in enumerate(drawn):
        assert one == np.random.default_rng((7, cycle)).permutation(10).tolist()


def test_a_pass_holds_every_sample_once_and_the_next_is_shuffled_anew() -> None:
    samples = set_of(["asr"] * 10)
    drawn = passes(plan(samples, 5), 2)
    assert [sorted(one) for one in drawn] == [list(range(10))] * 2
    assert drawn[0] != drawn[1]
    assert passes(plan(samples, 5, seed=2), 1)[0] != drawn[0]


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("weights", [{}, {"asr": 1.5, "QA": 0.4}])
@pytest.mark.parametrize("drop_last", [False, True])
def test_any_batch_can_be_the_first(*, bucket: bool, weights: dict[str, float], drop_last: bool) -> None:
    samples = set_of(["asr", "QA"] * 5, lengths=list(range(10, 0, -1)))
    order = plan(samples, 3, drop_last=drop_last, bucket_by_length=bucket, task_weights=weights)
    drawn = list(order.indices(0, 11))
    for start in range(11):
        assert list(order.indices(start, 11)) == drawn[start:]


@pytest.mark.parametrize("bucket", [False, True])
def test_an_incomplete_batch_is_dropped_or_the_last_of_its_pass(*, bucket: bool) -> None:
    samples = set_of(["asr"] * 7, lengths=[7, 6, 5, 4, 3, 2, 1])
    dropped = plan(samples, 3, bucket_by_length=bucket)
    assert dropped.batches_per_pass == 2
    assert [len(batch) for batch in dropped.indices(0, 6)] == [3] * 6
    kept = plan(samples, 3, drop_last=False, bucket_by_length=bucket)
    assert kept.batches_per_pass == 3
    assert [len(batch) for batch in kept.indices(0, 6)] == [3, 3, 1] * 2
    assert sorted(passes(kept, 1)[0]) == list(range(7))


def test_a_set_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"3 training samples do not fill one batch of 4: lower run\.batch_size"):
        plan(set_of(["asr"] * 3), 4)
    assert sorted(next(plan(set_of(["asr"] * 3), 4, drop_last=False).indices(0, 1))) == [0, 1, 2]


def test_weights_say_how_often_rows_are_drawn() -> None:
    samples = set_of(["asr"] * 10 + ["QA"] * 4 + ["v2"] * 6)
    order = plan(samples, 1, task_weights={"QA": 2.25, "v2": 0.5})
    # 10 x 1 + 4 x 2.25 + 6 x 0.5
    assert order.batches_per_pass == 22
    drawn = passes(order, 4)
    for one in drawn:
        counts = Counter(one)
        assert [counts[row] for row in range(10)] == [1] * 10
        assert sorted(counts[row] for row in range(10, 14)) == [2, 2, 2, 3]
        assert sorted(counts[row] for row in range(14, 20)) == [0, 0, 0, 1, 1, 1]
    assert drawn[0] != drawn[2]


def test_no_row_is_starved() -> None:
    order = plan(set_of(["asr"] * 7 + ["v2"] * 3), 1, task_weights={"asr": 0.3})
    # 0.3 x 7 rounds to 2 rows a pass: within 7 passes each is drawn exactly twice.
    counts = Counter(row for one in passes(order, 7) for row in one)
    assert [counts[row] for row in range(7)] == [2] * 7
    assert [counts[row] for row in range(7, 10)] == [7] * 3


def test_a_weight_that_rounds_to_no_row_is_refused() -> None:
    samples = set_of(["asr"] * 100 + ["QA"] * 4)
    with pytest.raises(DatasetError, match=r"task_weights\.asr: 0\.001 of 100 rows .* set it to 0\.01 or more"):
        plan(samples, 1, task_weights={"asr": 0.001})
    # What is drawn at all may round.
    assert plan(samples, 1, task_weights={"asr": 0.01, "QA": 1.01}).drawn_per_pass == 5
    counts = Counter(row for one in passes(plan(samples, 1, task_weights={"asr": 0.01}), 100) for row in one)
    assert all(counts[row] == 1 for row in range(100))


def test_weights_of_one_change_nothing() -> None:
    samples = set_of(["asr", "QA"] * 6)
    assert list(plan(samples, 4, task_weights={"asr": 1.0, "QA": 1}).indices(0, 9)) == list(
        plan(samples, 4).indices(0, 9)
    )


def test_a_weight_for_no_task_of_the_set_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"task_weights: asrr, v2 is no task of the training set \(it has QA, asr\)"):
        plan(set_of(["asr", "QA"]), 1, task_weights={"v2": 1.0, "asrr": 2.0, "asr": 3.0})


def test_batches_of_a_pool_hold_texts_of_similar_length_in_random_order() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 300, size=4 * POOL_BATCHES + 3).tolist()
    samples = set_of(["asr"] * len(lengths), lengths=lengths)
    plain, bucketed = plan(samples, 4), plan(samples, 4, bucket_by_length=True)
    spread = [
        np.mean([np.ptp([lengths[i] for i in batch]) for batch in order.indices(0, POOL_BATCHES)])
        for order in (plain, bucketed)
    ]
    assert spread[1] < spread[0] / 10
    means = [np.mean([lengths[i] for i in batch]) for batch in bucketed.indices(0, POOL_BATCHES)]
    assert abs(np.corrcoef(means, range(POOL_BATCHES))[0, 1]) < 0.5
    # The pass holds the rows that it holds without buckets.
    assert sorted(passes(bucketed, 1)[0]) == sorted(passes(plain, 1)[0])
    assert passes(bucketed, 2)[0] != passes(bucketed, 2)[1]


def test_pools_keep_the_shuffled_order_apart() -> None:
    size = 2 * POOL_BATCHES
    lengths = list(range(1, 2 * size + 1))
    samples = set_of(["asr"] * len(lengths), lengths=lengths)
    shuffled = passes(plan(samples, 2), 1)[0]
    pools = [set(shuffled[:size]), set(shuffled[size:])]
    for batch in plan(samples, 2, bucket_by_length=True).indices(0, 2 * POOL_BATCHES):
        assert any(set(batch) <= pool for pool in pools)
