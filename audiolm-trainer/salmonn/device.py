"""Devices and number formats by name, copies to a device without waiting, and running out of memory."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from salmonn.errors import ConfigError

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def dtype_name(dtype: torch.dtype) -> str:
    """torch.float16 -> "float16"."""
    return str(dtype).removeprefix("torch.")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the frozen parts: "auto" is float32 on CPU, bfloat16 on GPUs that have it, else float16."""
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def choose_device(name: str) -> torch.device:
    """The device of a name: "auto" is the first GPU, or the CPU where there is none.

    Raises:
        ConfigError: the name means no device of this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not known: use cpu, cuda, cuda:1 or auto") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported: use cpu, cuda, cuda:1 or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} is not here: PyTorch sees {torch.cuda.device_count()} GPUs")
    return device


def to_device(values: Sequence[int], device: torch.device) -> Tensor:
    """Copy integers of the host to a device as int64 [len(values)], without waiting for what the device is doing.

    `torch.tensor(values, device="cuda")` copies from pageable memory and waits for everything queued before it; copied
    from pinned memory the values only join the queue.
    """
    host = torch.tensor(values, dtype=torch.int64)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def free_cached_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for later, so that what comes next finds it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means too little memory; PyTorch raises a plain RuntimeError for it on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in text or "out of memory" in text
