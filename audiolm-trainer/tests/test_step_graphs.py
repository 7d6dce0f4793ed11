"""Steps by key: plain the first time, recorded the second, then replayed; how strict the recorder for CPUs is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorded_steps import recorded

from salmonn.decoding.step_graphs import StepGraphs


def count_up(counter: torch.Tensor, log: list[str]) -> Callable[[], torch.Tensor]:
    def work() -> torch.Tensor:
        log.append("python")
        counter.add_(1)
        return counter * 10

    return work


def test_python_runs_twice_and_the_step_every_time() -> None:
    counter, log = torch.zeros(1), list[str]()
    graphs = StepGraphs(recorded)
    results = [graphs.run("key", count_up(counter, log)).clone() for _ in range(5)]
    assert [float(result) for result in results] == [10, 20, 30, 40, 50]
    assert (float(counter), log) == (5, ["python", "python"])
    graphs.run("other", count_up(counter, log))
    assert (float(counter), len(log)) == (6, 3)
    graphs.clear()
    graphs.run("key", count_up(counter, log))
    assert (float(counter), len(log)) == (7, 4)


def test_without_a_recorder_all_runs_as_it_is() -> None:
    counter, log = torch.zeros(1), list[str]()
    graphs = StepGraphs(None)
    for _ in range(3):
        graphs.run("key", count_up(counter, log))
    assert (float(counter), len(log)) == (3, 3)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda x: x[0].item(), "waits for the device"),
        (lambda x: x.nonzero(), "waits for the device"),
        (lambda x: x + torch.tensor([1.0]), "brings values from the host"),
    ],
)
def test_what_a_graph_could_not_hold_is_refused(work: Callable[[torch.Tensor], Any], words: str) -> None:
    values = torch.ones(2)
    with pytest.raises(AssertionError, match=words):
        recorded(lambda: work(values))


def test_a_replay_knows_nothing_new_from_the_host() -> None:
    """The mistake that recording invites: a number of the host that changes from step to step."""
    total, step = torch.zeros(1), 1
    replay, _ = recorded(lambda: total.add_(step))
    assert float(total) == 0
    step = 100
    replay()
    assert float(total) == 1
