"""Tests of the books of leases: every row is dealt until it is answered or found to be what ends workers."""

import random

import pytest

from evaluator.workers.desk import MOST_DEATHS, LeaseDesk
from evaluator.workers.leases import Lease


def test_leases_are_dealt_in_order_and_an_idle_worker_has_answered_all() -> None:
    desk = LeaseDesk([Lease((0, 1)), Lease((2,))])
    assert desk.take(1, idle=True) == Lease((0, 1))
    assert desk.take(2, idle=True) == Lease((2,))
    assert (desk.take(1, idle=False), desk.held(1)) == (None, (0, 1))
    assert (desk.take(1, idle=True), desk.over) == (None, False)
    assert (desk.take(2, idle=True), desk.over) == (None, True)


def test_rows_that_a_dead_worker_had_not_begun_are_dealt_like_others() -> None:
    desk = LeaseDesk([Lease((0, 1, 2, 3))])
    desk.take(1, idle=True)
    assert desk.lose(1, answered={0}, begun={0, 1}) == ()
    assert desk.take(2, idle=True) == Lease((2, 3))
    assert desk.take(2, idle=False) is None, "what may end a worker is not asked beside other rows"
    assert desk.take(2, idle=True) == Lease((1,), deaths=1, alone=True)
    assert desk.take(2, idle=False) is None


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_the_rows_that_end_workers_are_found_and_no_other(size: int, seed: int) -> None:
    """Simulated: a worker answers rows in order, having begun some ahead, and dies of a poisonous one."""
    draw = random.Random(seed)
    poison = set(draw.sample(range(size), min(size, draw.randint(1, 3))))
    desk, found, answered, worker = LeaseDesk([Lease(tuple(range(size)))]), set[int](), set[int](), 1
    while (lease := desk.take(worker, idle=True)) is not None:
        rows = list(lease.rows)
        while (lease := desk.take(worker, idle=False)) is not None:
            rows += lease.rows
        at = next((place for place, row in enumerate(rows) if row in poison), len(rows))
        assert not answered & set(rows), "asked again although it was answered"
        answered |= set(rows[:at])
        if at < len(rows):
            begun = rows[: at + draw.randint(1, 32)]
            found |= set(desk.lose(worker, answered=answered, begun=begun))
            worker += 1
    assert desk.over
    assert found == poison
    assert answered == set(range(size)) - poison
    assert worker - 1 <= len(poison) * (MOST_DEATHS + 5), "32 suspects are halved five times"
