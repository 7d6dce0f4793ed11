"""One optimizer step of a pretraining, the same for every part: AdamW, a schedule, clipped gradients.

The settings of a part go in; its parameters are changed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nano.pretrain_config import Pretraining


def build_optimizer(parameters: Sequence[nn.Parameter], settings: Pretraining) -> torch.optim.AdamW:
    """Build AdamW over all parameters."""
    return torch.optim.AdamW(
        parameters, lr=settings.init_lr, betas=(0.9, settings.beta2), weight_decay=settings.weight_decay
    )


def set_rate(optimizer: torch.optim.Optimizer, step: int, settings: Pretraining) -> None:
    """Give the optimizer the rate of a step, counted from 0."""
    rate = cosine(
        step,
        settings.steps,
        peak=settings.init_lr,
        warmup=settings.warmup_steps,
        final=settings.min_lr / settings.init_lr,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate


def update(
    optimizer: torch.optim.Optimizer, loss: Tensor, parameters: Sequence[nn.Parameter], settings: Pretraining
) -> None:
    """Go one step down the gradient of a scalar loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
    optimizer.step()


def cosine(step: int, steps: int, *, peak: float, warmup: int, final: float) -> float:
    """Linear warm-up to `peak`, then a cosine down to `final` x `peak` at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
