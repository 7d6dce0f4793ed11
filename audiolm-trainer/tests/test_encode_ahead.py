"""Batches encoded one ahead: the order of what is queued, and what happens at the ends."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from salmonn.inference.encode_ahead import encode_ahead, side_stream_of


class LoggedStream:
    """Notes when work is queued and when its results are waited for."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def begin(self, work: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
        results = work()

        def join() -> list[Tensor]:
            self.log.append(f"join {int(results[0])}")
            return results

        return join


def run(number: int, *, ahead: bool) -> list[str]:
    log: list[str] = []

    def batches() -> Iterator[int]:
        for batch in range(number):
            log.append(f"pull {batch}")
            yield batch

    def encode(batch: int) -> list[Tensor]:
        log.append(f"encode {batch}")
        return [torch.tensor(batch)]

    for batch, (result,) in encode_ahead(batches(), encode, LoggedStream(log) if ahead else None):
        assert int(result) == batch
        log.append(f"out {batch}")
    return log


def test_the_next_batch_is_queued_before_one_is_handed_out() -> None:
    expected = "pull 0,encode 0,pull 1,encode 1,join 0,out 0,pull 2,encode 2,join 1,out 1,join 2,out 2"
    assert run(3, ahead=True) == expected.split(",")
    assert run(1, ahead=True) == ["pull 0", "encode 0", "join 0", "out 0"]
    assert run(0, ahead=True) == []


def test_without_a_side_stream_nothing_is_done_early() -> None:
    assert run(2, ahead=False) == ["pull 0", "encode 0", "out 0", "pull 1", "encode 1", "out 1"]


def test_an_error_of_the_batches_is_raised() -> None:
    def batches() -> Iterator[int]:
        yield 0
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(encode_ahead(batches(), lambda batch: [torch.tensor(batch)], LoggedStream([])))


def test_a_cpu_has_no_side_stream() -> None:
    assert side_stream_of(torch.device("cpu")) is None
