"""A LoRA adapter beside its weights in three operations: what peft computes, without peft's wrapper around it.

A step of one clip multiplies a handful of rows, so that starting an operation costs as much as computing it; peft's
wrapper looks through its adapters at every call, and adds in two operations what one can. Modules, names and memory
stay as they are. Only for models that answer; adapters that are more than two matrices are left to peft.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ADAPTER = "default"


def call_adapters_directly(llm: nn.Module) -> int:
    """Replace the forward pass of adapted linear layers.

    Args:
        llm: a language model with a LoRA adapter of peft, in evaluation mode; nothing is done to a plain one.

    Returns:
        int: layers that are called directly.
    """
    if not hasattr(llm, "peft_config"):
        return 0
    # peft takes a second to import, and is there already where it wraps a model.
    from peft.tuners.lora.layer import Linear

    found: list[Any] = [module for module in llm.modules() if type(module) is Linear and _is_plain(module)]
    for layer in found:
        layer.forward = _Direct(layer)
    return len(found)


def _is_plain(layer: Any) -> bool:
    """Whether a layer of peft is a linear one with the two matrices of one adapter, and nothing else."""
    if layer.merged or layer.disable_adapters or layer.lora_variant or layer.active_adapters != [ADAPTER]:
        return False
    pair = (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER])
    return type(layer.base_layer) is nn.Linear and all(type(one) is nn.Linear and one.bias is None for one in pair)


class _Direct:
    """The forward pass of one adapted layer: float [..., in] -> [..., out]."""

    def __init__(self, layer: Any) -> None:
        self._wrapped = type(layer).forward.__get__(layer)
        self._base: nn.Linear = layer.base_layer
        self._down: nn.Linear = layer.lora_A[ADAPTER]
        self._up: nn.Linear = layer.lora_B[ADAPTER]
        self._scale = float(layer.scaling[ADAPTER])

    def __call__(self, inputs: Tensor) -> Tensor:
        # Mixed precision chooses dtypes operation by operation.
        if torch.is_autocast_enabled(inputs.device.type):
            output: Tensor = self._wrapped(inputs)
            return output
        base, up = functional.linear(inputs, self._base.weight, self._base.bias), self._up.weight
        # In the adapter's dtype, as peft does it: beside 16-bit weights the sum is rounded once.
        rows = base.reshape(-1, base.shape[-1]).to(up.dtype)
        reduced = functional.linear(inputs.to(up.dtype), self._down.weight).reshape(-1, up.shape[1])
        return torch.addmm(rows, reduced, up.t(), alpha=self._scale).to(base.dtype).view(base.shape)
