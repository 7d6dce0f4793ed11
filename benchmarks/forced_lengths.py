"""Answers of forced lengths, for transformers and for the package's decoder alike.

A random model would run most answers to the limit, where the decoder's gains are largest: so every answer ends where it
is told to, and nowhere else. Both ways use one function on the scores.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from salmonn.decoding.slots import ScoreRule


def force(scores: Tensor, end: int, *, now: Tensor) -> Tensor:
    """Let answers end now or not yet.

    Args:
        scores: float32 [..., V].
        end: id of the token that ends an answer.
        now: bool [...], whether it ends with this token.

    Returns:
        float32 [..., V]: the end's score alone is left, or it alone is -inf. The argument stays as it is.
    """
    forced = scores.masked_fill(now[..., None], -torch.inf)
    # No `torch.where` with a number: it would bring a tensor from the host, which a CUDA graph does not allow.
    forced[..., end] = scores[..., end].masked_fill(~now, -torch.inf)
    return forced


class ForcedLengths(LogitsProcessor):
    """For transformers: row n's answer has `tokens[n // beams]` tokens."""

    def __init__(self, tokens: Sequence[int], end: int, *, beams: int, device: torch.device) -> None:
        self.tokens = torch.tensor(tokens, device=device).repeat_interleave(beams)
        self.end = end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Change scores [N, V] of the token after `input_ids` [N, G]."""
        return force(scores, self.end, now=self.tokens == input_ids.shape[1] + 1)


def forced_lengths(tokens: Sequence[int], end: int, device: torch.device) -> ScoreRule:
    """For `salmonn.decoding.decoder.Decoder`: the answer to clip n has `tokens[n]` tokens.

    The rule runs inside a CUDA graph: it only computes with tensors that are on the device beforehand.
    """
    wanted = torch.tensor(tokens, device=device)

    def rule(scores: Tensor, clips: Tensor, steps: Tensor) -> Tensor:
        now = wanted[clips] == steps + 1
        return force(scores, end, now=now[:, None].expand(scores.shape[:2]))

    return rule
