"""Small values from the host to a device without waiting for what the device is doing.

A plain `torch.tensor(values, device="cuda")` copies from pageable memory and waits for everything queued before it;
copied from pinned memory the values only join the queue.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Sequence[int], device: torch.device) -> Tensor:
    """Integers of the host as an int64 tensor on a device, [len(values)]."""
    host = torch.tensor(values, dtype=torch.int64)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
