"""Random states: put back exactly, storable as plain values, different for every process."""

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from salmonn.training.random_state import capture_random_state, restore_random_state, seed_everything
from salmonn.training.stop_request import StopRequest
from salmonn.weights.checkpoint import read_weights, save_checkpoint


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_stored_state_draws_the_same_again(tmp_path: Path) -> None:
    seed_everything(1)
    draw()
    save_checkpoint(tmp_path / "x.pth", {}, random=[capture_random_state()])
    first = draw()
    draw()
    [state] = read_weights(tmp_path / "x.pth")["random"]
    restore_random_state(state)
    assert draw() == first


def test_processes_and_steps_draw_differently() -> None:
    drawn = set()
    for step, rank in ((0, 0), (0, 1), (1, 0)):
        seed_everything(1, step=step, rank=rank)
        drawn.add(draw())
    assert len(drawn) == 3


def test_a_signal_is_noted_and_a_second_interrupt_obeyed() -> None:
    request = StopRequest()
    before = signal.getsignal(signal.SIGTERM)
    with request.listening():
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before
