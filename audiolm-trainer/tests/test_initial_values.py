"""What is left out when a checkpoint overwrites it, and what never is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Blip2QFormerModel

from salmonn.config.config import load_config
from salmonn.model.components import qformer_config
from salmonn.model.initial_values import initial_values
from salmonn.model.salmonn import SALMONN

ROOT = Path(__file__).resolve().parents[2]
DECODE = ROOT / "audiolm-trainer/configs/nano/decode.yaml"
CPU = torch.device("cpu")


@pytest.fixture
def fresh_memory_is_nan() -> Iterator[None]:
    """Let PyTorch fill memory that nobody has written to with NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def build() -> nn.Module:
    sizes = qformer_config("", encoder_width=32)
    sizes.update({"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32})
    return nn.ModuleList([nn.Linear(16, 8), nn.Conv1d(2, 4, 3), nn.LayerNorm(16), Blip2QFormerModel(sizes)])


def test_nothing_is_drawn_and_constants_are_there(fresh_memory_is_nan: None) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with initial_values(wanted=False):
        modules = build()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(modules.get_parameter("2.weight"), torch.ones(16))
    assert torch.equal(modules.get_parameter("2.bias"), torch.zeros(16))
    assert modules.get_parameter("0.weight").isnan().all()
    assert all(torch.isfinite(buffer).all() for buffer in modules.buffers())


def test_wanted_values_are_pytorchs_own() -> None:
    torch.manual_seed(0)
    plain = build()
    torch.manual_seed(0)
    with initial_values(wanted=True):
        again = build()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_covers_all_that_was_not_drawn(fresh_memory_is_nan: None, nano: Any) -> None:
    config = load_config(DECODE, purpose="evaluate")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = SALMONN.from_config(config, device=CPU, dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    theirs = nano.model.state_dict()
    assert model.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())


def test_training_draws_the_same_numbers_with_and_without_a_checkpoint() -> None:
    """A run's further random numbers follow from those that were drawn before."""
    states = []
    for options in ((), ("model.ckpt=none",)):
        torch.manual_seed(7)
        config = load_config(DECODE, options, purpose="evaluate")
        SALMONN.from_config(config, device=CPU, dtype=torch.float32, train=True)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_without_a_checkpoint_everything_is_drawn(fresh_memory_is_nan: None) -> None:
    config = load_config(DECODE, ("model.ckpt=none",), purpose="evaluate")
    model = SALMONN.from_config(config, device=CPU, dtype=torch.float32)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
