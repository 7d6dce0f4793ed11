"""The optimizer and its schedule: AdamW in two groups, linear warm-up, then one cosine over the whole run.

The numbers equal the original's; its one defect, a warm-up that starts again with every epoch, is gone: steps are
global here.
"""

from collections.abc import Mapping
from math import cos, pi
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

NO_DECAY = ("bias", "ln", "bn")
"""A parameter whose released name contains one of these is not decayed; a substring test, as before."""


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: matrices and larger, except those that NO_DECAY names."""
    return parameter.ndim >= 2 and not any(part in name for part in NO_DECAY)


def build_optimizer(
    parameters: Mapping[str, nn.Parameter], *, init_lr: float, weight_decay: float, beta2: float
) -> AdamW:
    """Build AdamW with a decayed group and an undecayed one, betas (0.9, beta2), eps 1e-8.

    Args:
        parameters: released name -> trainable parameter.
        init_lr: the rate before the schedule sets one.
        weight_decay: of the first group.
        beta2: AdamW's second coefficient.

    Raises:
        ValueError: nothing is trainable.
    """
    if not parameters:
        raise ValueError("nothing is trainable: the configuration freezes every part")
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in parameters.items() if is_decayed(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in parameters.items() if not is_decayed(n, p)], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    # Fused: one kernel for the many small tensors of a bridge, several times faster than the loop on a CPU.
    return AdamW(kept, lr=init_lr, betas=(0.9, beta2), eps=1e-8, fused=True)


def learning_rate(
    step: int, *, total_steps: int, warmup_steps: int, warmup_start_lr: float, init_lr: float, min_lr: float
) -> float:
    """Return the rate of a global step, counted from 0 in batches.

    Up to `warmup_steps` the rate climbs linearly from `warmup_start_lr` towards `init_lr`; from there on it
    follows a cosine from `init_lr` to `min_lr` that spans all of `total_steps`, warm-up included.

    Example:
        >>> learning_rate(5, total_steps=100, warmup_steps=10, warmup_start_lr=0.0, init_lr=1.0, min_lr=0.0)
        0.5
    """
    if step < warmup_steps:
        return warmup_start_lr + (init_lr - warmup_start_lr) * step / warmup_steps
    return min_lr + (init_lr - min_lr) * 0.5 * (1 + cos(pi * step / total_steps))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group of an optimizer the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
