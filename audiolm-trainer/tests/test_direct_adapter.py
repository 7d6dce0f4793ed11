"""Tests of calling an adapter without peft's wrapper: the same numbers, and left to peft where it is something else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn.gradients import without_gradients
from salmonn.inference.direct_adapter import call_adapters_directly
from salmonn.model.components import add_lora
from salmonn.model.salmonn import SALMONN

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(dtype: torch.dtype, **lora: Any) -> Any:
    torch.manual_seed(0)
    sizes = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        attention_bias=True,
        mlp_bias=True,
    )
    config = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, **lora)
    llm: Any = add_lora(LlamaForCausalLM(sizes).to(dtype), config).eval()
    for name, parameter in llm.named_parameters():
        if ".lora_" in name:
            # As training has it; peft begins with a B of zeros.
            parameter.data = torch.randn(parameter.shape) * 0.3
    return llm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_gives_the_same_numbers(dtype: torch.dtype) -> None:
    llm, ids = adapted(dtype), torch.arange(40).reshape(4, 10)
    with torch.no_grad():
        expected = llm(input_ids=ids).logits
        names = [name for name, _ in llm.named_parameters()]
        assert call_adapters_directly(llm) == 14
        found = llm(input_ids=ids).logits
    assert found.dtype == dtype
    # In 16 bits a sum that lies between two numbers may be rounded the other way.
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert [name for name, _ in llm.named_parameters()] == names
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert llm(input_ids=ids).logits.dtype == torch.bfloat16


def test_without_its_adapter_the_numbers_are_others() -> None:
    """So that the test above could fail."""
    llm, ids = adapted(torch.float32), torch.arange(10)[None]
    with torch.no_grad():
        call_adapters_directly(llm)
        whole = llm(input_ids=ids).logits
        llm.base_model.model.model.layers[0].self_attn.q_proj.forward._scale = 0.0
        assert not torch.allclose(llm(input_ids=ids).logits, whole, atol=1e-3)


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"lora_bias": True, "bias": "none"}])
def test_other_adapters_are_left_to_peft(lora: dict[str, Any]) -> None:
    assert call_adapters_directly(adapted(torch.float32, **lora)) == 0


def test_a_plain_model_is_left_alone() -> None:
    llm = LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    assert call_adapters_directly(llm) == 0


def test_what_is_trained_keeps_to_no_grad(build: Callable[..., SALMONN]) -> None:
    assert without_gradients(build(train=True)) is torch.no_grad
    assert without_gradients(build()) is torch.inference_mode
