"""Tests of evaluator/run/timing.py: quantiles, ratios, rounds put together."""

import pytest

from evaluator.run.timing import Spread, answer_speed, quantile, ratio


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 0.95, 4.0),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.95, 7.0),
        ([float(n) for n in range(1, 21)], 0.95, 19.0),
        ([float(n) for n in range(1, 101)], 0.95, 95.0),
        ([float(n) for n in range(1, 101)], 0.5, 50.0),
    ],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_rounds_are_a_median_and_a_range() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, (3.0, 1.0, 2.0))
    assert Spread.of([1.0, 2.0]).median == 1.5


@pytest.mark.parametrize(("above", "below", "expected"), [(300.0, 20.0, 15.0), (0.0, 2.0, None), (2.0, 0.0, None)])
def test_nothing_is_divided_by_nothing(above: float, below: float, expected: float | None) -> None:
    assert ratio(above, below) == expected


def test_speed_of_an_evaluation() -> None:
    speed = answer_speed(seconds=4.0, audio_seconds=20.0, waits=[1.0, 3.0, 2.0, 4.0], tokens=[5, 7, 0, 0])
    assert (speed.rtfx, speed.rtf) == (5.0, 0.2)
    assert (speed.clips_per_second, speed.tokens, speed.tokens_per_second) == (1.0, 12, 3.0)
    assert (speed.pull_to_answer_seconds_p50, speed.pull_to_answer_seconds_p95) == (2.0, 4.0)


def test_the_waits_of_few_answers_have_no_median() -> None:
    speed = answer_speed(seconds=4.0, audio_seconds=20.0, waits=[1.0, 3.0, 2.0], tokens=[5, 7, 0])
    assert (speed.pull_to_answer_seconds_p50, speed.pull_to_answer_seconds_p95) == (None, None)


def test_a_run_without_answers_has_no_speed() -> None:
    speed = answer_speed(seconds=4.0, audio_seconds=0.0, waits=[], tokens=[])
    assert speed.tokens == 0
    assert {speed.rtfx, speed.rtf, speed.clips_per_second} == {None}
    assert {speed.tokens_per_second, speed.pull_to_answer_seconds_p50, speed.pull_to_answer_seconds_p95} == {None}
