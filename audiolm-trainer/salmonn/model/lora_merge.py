"""A LoRA adapter merged into the weights of its language model, layer by layer and without a second copy.

A model that peft has wrapped, its adapter loaded, becomes the plain language model again. Every sum `weight + scaling *
B A` is computed in float32 and rounded once, to the dtype of the weight. In float32 the merged model computes what the
adapter would, up to rounding; in float16 and bfloat16 the rounded weight is another number than the weight with the
adapter beside it, and answers may differ. peft's own merging rounds twice there: the product, then the sum.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from salmonn.device import dtype_name
from salmonn.errors import CheckpointError
from salmonn.quantization.layers import is_quantised

logger = logging.getLogger(__name__)

ADAPTER = "default"
_INSTEAD = "keep the adapter beside the weights (model.merge_lora: False)"


class Merged(NamedTuple):
    """A plain language model, and how many numbers its adapter had."""

    llm: PreTrainedModel
    adapter_numbers: int


@torch.no_grad()
def merge_adapter(wrapped: PreTrainedModel) -> Merged:
    """Add an adapter to the weights below it and take the wrapper away.

    Args:
        wrapped: a language model from `components.add_lora`, adapter loaded. It must not be used afterwards.

    Raises:
        CheckpointError: an adapted layer is no linear one, its weight belongs to another layer as well, or a sum is too
            large for the weight's dtype.
    """
    # peft declares on each kind of layer what all kinds have.
    layers: dict[str, Any] = {name: module for name, module in wrapped.named_modules() if isinstance(module, LoraLayer)}
    owners: dict[int, list[str]] = defaultdict(list)
    for owner, parameter in wrapped.named_parameters(remove_duplicate=False):
        owners[id(parameter)].append(owner)
    weights = {name: _mergeable_weight(name, layer, owners) for name, layer in layers.items()}
    numbers = sum(p.numel() for name, p in wrapped.named_parameters() if ".lora_" in name)
    for name, layer in layers.items():
        weight = weights[name]
        # float32 whatever the weight's dtype, so that the sum is rounded once.
        delta: torch.Tensor = layer.get_delta_weight(ADAPTER)
        merged = delta.float().add_(weight).to(weight.dtype)
        if not bool(torch.isfinite(merged).all()):
            raise CheckpointError(f"the sums of {name} are not finite in {weight.dtype}: {_INSTEAD}")
        weight.data = merged
    peft_model: Any = wrapped
    llm: PreTrainedModel = peft_model.unload()
    _report(len(layers), numbers, llm)
    return Merged(llm.requires_grad_(False), numbers)


def _mergeable_weight(name: str, layer: Any, owners: Mapping[int, Sequence[str]]) -> nn.Parameter:
    """The weight that a layer's adapter is added to.

    Raises:
        CheckpointError: it cannot be added to.
    """
    base: Any = layer.get_base_layer()
    weight = getattr(base, "weight", None)
    if is_quantised(base):
        raise CheckpointError(f"the adapter of {name} cannot be merged into a quantised weight: {_INSTEAD}")
    if not isinstance(base, nn.Linear) or not isinstance(weight, nn.Parameter) or not weight.is_floating_point():
        raise CheckpointError(f"the adapter of {name} cannot be merged into a {type(base).__name__}: {_INSTEAD}")
    shared = owners[id(weight)]
    if len(shared) > 1:
        raise CheckpointError(
            f"the adapter of {name} cannot be merged: the weight is shared by {', '.join(shared)}; {_INSTEAD}"
        )
    return weight


def _report(layers: int, numbers: int, llm: PreTrainedModel) -> None:
    dtype = dtype_name(llm.dtype)
    rounding = (
        "answers are those of the adapter beside it up to rounding"
        if llm.dtype == torch.float32
        else f"the sums are rounded to {dtype}, and answers may differ from those of the adapter beside it"
    )
    logger.info("merged the LoRA adapter, %s numbers, into %d layers: %s", f"{numbers:,}", layers, rounding)
