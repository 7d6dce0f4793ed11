"""The kinds of quantisation: which library does each, and what that library's kernels ask of device and widths.

Weights are quantised while they are loaded, layer by layer, by transformers; embeddings, the language model's head,
norms and convolutions stay as they are. The libraries are extras and imported when a kind is used, not before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

NO_KIND = "none"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind.

    Attributes:
        number_bytes: bytes of a weight's number, scales left out unless they are many.
        settings: computed dtype -> transformers' own settings of it.
        capability: least compute capability of a GPU.
        gpu_multiple: a GPU's kernel takes widths, in and out, that are multiples of this.
    """

    number_bytes: float
    settings: Callable[[torch.dtype], Any]
    capability: tuple[int, int] = (0, 0)
    gpu_multiple: int = 1


def _int8(_: torch.dtype) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _int8_dynamic(_: torch.dtype) -> Any:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig())


def _llm_int8(_: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]


def _nf4(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


KINDS: Mapping[str, Kind] = {
    "int8": Kind(1, _int8),
    "int8_dynamic": Kind(1, _int8_dynamic, capability=(7, 5), gpu_multiple=8),
    "llm_int8": Kind(1, _llm_int8, capability=(7, 5)),
    "nf4": Kind(0.516, _nf4),
}
"""Name -> kind: torchao's 8 bit weights, and activations too; bitsandbytes' LLM.int8 and NF4. Which package each needs
is `config/choices.py`'s to say: that is known before PyTorch is imported."""


def transformers_settings(kind: str, dtype: torch.dtype) -> Any:
    """What `from_pretrained(quantization_config=...)` takes for a kind.

    Args:
        kind: one of KINDS; its library is installed.
        dtype: what the layers compute in.
    """
    return KINDS[kind].settings(dtype)


def device_problem(kind: str, device: torch.device, capability: tuple[int, int] | None = None) -> str:
    """Say why a device cannot compute with a kind, "" where it can: all run on a CPU, some not on older GPUs.

    Args:
        kind: one of KINDS.
        device: where the model will be.
        capability: of the GPU, where it is known; else it is asked.
    """
    if device.type != "cuda":
        return ""
    found = capability or torch.cuda.get_device_capability(device)
    least = KINDS[kind].capability
    if found >= least:
        return ""
    return (
        f"{kind} needs a GPU of compute capability {least[0]}.{least[1]} or newer, this one has {found[0]}.{found[1]}: "
        "use nf4 or int8"
    )


def width_problems(kind: str, layers: Iterable[tuple[str, nn.Linear]], device: torch.device) -> Iterator[str]:
    """Yield a sentence for the first layer with widths that the kernel of a kind does not take, and count the others.

    Args:
        kind: one of KINDS.
        layers: name and layer of everything that would be quantised, with or without values.
        device: where the model will be.
    """
    multiple = KINDS[kind].gpu_multiple if device.type == "cuda" else 1
    wrong = [(name, layer) for name, layer in layers if layer.in_features % multiple or layer.out_features % multiple]
    if wrong:
        name, layer = wrong[0]
        more = f" (and {len(wrong) - 1} more layers)" if len(wrong) > 1 else ""
        yield (
            f"{kind} takes widths that are multiples of {multiple}, and {name} is {layer.in_features} -> "
            f"{layer.out_features}{more}: choose another kind"
        )
