"""What is left out when a checkpoint overwrites it, and what never is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import Blip2QFormerModel, LlamaConfig, LlamaForCausalLM

from salmonn.config.config import load_config
from salmonn.model.components import add_lora, give_memory, qformer_config
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


def test_only_what_has_no_values_gets_new_memory(fresh_memory_is_nan: None) -> None:
    kept = nn.Linear(16, 8)
    values = kept.weight.detach().clone()
    before = torch.get_rng_state()
    sizes = qformer_config("", encoder_width=32)
    sizes.update({"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32})
    with torch.device("meta"):
        modules = nn.ModuleList([kept, nn.LayerNorm(16), Blip2QFormerModel(sizes)])
    give_memory(modules, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert kept.weight.equal(values)
    assert all(parameter.device == CPU for parameter in modules.parameters())
    assert all(parameter.isnan().all() for part in modules[1:] for parameter in part.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_adapter_without_values_is_built_as_one_with_values(dtype: torch.dtype) -> None:
    sizes = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    drawn, empty = (
        add_lora(
            LlamaForCausalLM(sizes).to(dtype),
            LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj"], task_type="CAUSAL_LM"),
            drawn=drawn,
        )
        for drawn in (True, False)
    )
    expected = [(name, p.shape, p.dtype, p.device, p.requires_grad) for name, p in drawn.named_parameters()]
    assert [(name, p.shape, p.dtype, p.device, p.requires_grad) for name, p in empty.named_parameters()] == expected
    assert str(drawn) == str(empty)


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
