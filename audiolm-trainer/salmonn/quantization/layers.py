"""What quantised layers are made of, by shape: no library is imported to look at them.

bitsandbytes keeps scales beside a weight (`quant_state`, `SCB`) or, after a first use, beside its layer (`state`);
torchao makes a tensor of several. Neither shows in `parameters()` as what it takes in memory.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

PLAIN = "plain"
"""How weights are held that are not quantised."""
_CPU_BLOCK = 32
"""Rows that bitsandbytes packs together for its 4 bit kernel on a CPU."""


def packed_tensors(*modules: nn.Module | None) -> list[Tensor]:
    """Parameters, buffers and hidden scales of modules, None left out."""
    return [tensor for whole in modules if whole is not None for tensor in _tensors(whole)]


def _tensors(whole: nn.Module) -> Iterator[Tensor]:
    yield from whole.parameters()
    yield from whole.buffers()
    for module in whole.modules():
        state = getattr(module, "state", None)
        for owner in (getattr(module, "weight", None), state):
            yield from (scale for name in ("CB", "SCB") if isinstance(scale := getattr(owner, name, None), Tensor))
        yield from _state_tensors(getattr(getattr(module, "weight", None), "quant_state", None))


def _state_tensors(state: Any) -> Iterator[Tensor]:
    """The tensors of a 4 bit weight's state, whose scales may be quantised themselves."""
    if state is None:
        return
    yield from (
        found for name in ("absmax", "code", "offset") if isinstance(found := getattr(state, name, None), Tensor)
    )
    yield from _state_tensors(getattr(state, "state2", None))


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that tensors take in memory, shared ones once; of a quantised tensor what it is packed in counts."""
    storages = {}
    for tensor in tensors:
        for part in plain_parts(tensor):
            storage = part.untyped_storage()
            storages[part.device, storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def plain_parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that a tensor is made of, itself where it is one."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in plain_parts(getattr(tensor, name))]


def count_numbers(parameters: Iterable[Tensor]) -> int:
    """Count the numbers that tensors stand for: of 4 bit weights two lie in a byte."""
    return sum(_numbers(parameter) for parameter in parameters)


def _numbers(parameter: Tensor) -> int:
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else torch.Size(state.shape).numel()


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Names and layers that quantising is about: the linear ones, but for a language model's head and for adapters."""
    find_head = getattr(model, "get_output_embeddings", None)
    head = find_head() if find_head is not None else None
    return [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head and ".lora_" not in name
    ]


def is_quantised(layer: nn.Module) -> bool:
    """Whether a layer's weight is held in fewer bits than it computes with."""
    weight = getattr(layer, "weight", None)
    return isinstance(weight, Tensor) and (not weight.is_floating_point() or hasattr(weight, "__tensor_flatten__"))


def quantised_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and layers of a model that are quantised; adapters beside them are not looked into."""
    return [(name, layer) for name, layer in model.named_modules() if is_quantised(layer) and _is_innermost(layer)]


def _is_innermost(layer: nn.Module) -> bool:
    # An adapter shows the weight of the layer that it wraps as its own.
    return not any(is_quantised(child) for child in layer.children())


def unpack_for_cpu(model: nn.Module, *, train: bool) -> list[str]:
    """Keep 4 bit layers from being packed for bitsandbytes' kernel on CPUs with AVX-512 where they must not be.

    The kernel packs a weight for good on its first use without gradients. It takes widths that are multiples of its
    blocks only, and a packed weight gives no gradients. Otherwise a layer computes with its weight unpacked for the
    moment, to the same result up to rounding: what every other CPU does.

    Args:
        model: any model; without 4 bit layers nothing happens.
        train: whether gradients will flow through it.

    Returns:
        Names of the layers that would have been packed and are not because of their widths.
    """
    unfit = []
    for name, layer in model.named_modules():
        if not getattr(layer, "support_avx512bf16_for_cpu", False):
            continue
        weight: Any = layer.weight
        rows, columns = weight.quant_state.shape
        fits = rows % _CPU_BLOCK == 0 and columns % weight.blocksize == 0
        if not fits:
            unfit.append(name)
        if train or not fits:
            layer.support_avx512bf16_for_cpu = False
    return unfit


def weights_format(model: nn.Module) -> str:
    """How a model's quantised layers hold their weights, "plain" where there are none: "Int8Tensor", "nf4"."""
    kinds = {_format_of(layer.weight) for _, layer in quantised_layers(model)}
    return ", ".join(sorted(kinds)) or PLAIN


def _format_of(weight: Any) -> str:
    state = getattr(weight, "quant_state", None)
    return type(weight).__name__ if state is None else str(state.quant_type)
