"""Telling too little memory from other errors."""

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means too little memory; PyTorch raises a plain RuntimeError for it on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in text or "out of memory" in text
