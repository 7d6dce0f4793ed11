"""Attention of several beams over keys they share, without copying keys for the query heads that share them.

transformers repeats keys and values for grouped queries whenever a step has more than one query and a mask. A decoding
step has K queries and always a mask, so that would copy the whole cache in every layer of every step.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "salmonn_shared_prefix"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' SDPA does, with the query heads of a group as further queries of their key head.

    Args:
        module: the attention layer.
        query: [n, heads, K, width].
        key, value: [n, kv heads, columns, width].
        attention_mask: [n, 1, K, columns], additive.
        dropout: 0 in evaluation.
        scaling: of the scores.
        kwargs: for transformers' own function, where a model has more to say about its attention.

    Returns:
        [n, K, heads, width] and no weights.
    """
    group = query.shape[1] // key.shape[1]
    special = any(kwargs.get(name) is not None for name in ("softcap", "position_bias", "s_aux"))
    if group == 1 or special or attention_mask is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    rows, _, beams, width = query.shape
    packed = query.reshape(rows, key.shape[1], group * beams, width)
    mask = attention_mask.repeat(1, 1, group, 1)
    output = scaled_dot_product_attention(packed, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return output.reshape(rows, -1, beams, value.shape[-1]).transpose(1, 2).contiguous(), None


def masked_kernels() -> AbstractContextManager[None]:
    """Let PyTorch choose among the attention kernels that take any mask.

    cuDNN's, which PyTorch prefers on Hopper in 16 bit, reads past a mask whose rows or first element are not aligned to
    16 bytes ("misaligned address"), as masks of our buffers' first columns are.
    """
    kernels: AbstractContextManager[None] = sdpa_kernel(
        [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    )
    return kernels


@contextmanager
def shared_attention(config: PreTrainedConfig) -> Iterator[None]:
    """Use `grouped_attention` with `masked_kernels` inside the block, if the model's attention is SDPA."""
    before = config._attn_implementation
    if before != "sdpa":
        yield
        return
    config._attn_implementation = NAME
    try:
        with masked_kernels():
            yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(NAME, grouped_attention)
# Without it a forward pass of another thread that meets the name would be given no mask at all.
AttentionMaskInterface.register(NAME, sdpa_mask)
