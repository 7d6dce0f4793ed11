"""Choosing one token at a time, the likeliest or a drawn one: decoding without beams."""

import torch
from torch import Tensor

from salmonn.decoding.decoder_settings import DecoderSettings


class TokenChoice:
    """The answers of S clips, one each: a `TokenSearch`.

    Args:
        settings: of the decoder, with one beam.
        slots: S.
        device: of all tensors.
    """

    def __init__(self, settings: DecoderSettings, *, slots: int, device: torch.device) -> None:
        self.settings = settings
        self.width = 1
        # One place more than an answer has: what a clip writes there that is done and computed all the same.
        self.tokens = torch.zeros(slots, 1, settings.max_new_tokens + 1, dtype=torch.int64, device=device)
        self.last = torch.zeros(slots, 1, dtype=torch.int64, device=device)
        self.done = torch.ones(slots, dtype=torch.bool, device=device)
        self._lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        self._eos = torch.tensor(settings.eos_ids, device=device)

    def start(self, slots: slice) -> None:
        """Give slots to new clips."""
        self.tokens[slots] = 0
        self.done[slots] = False
        self._lengths[slots] = 0

    def to_scores(self, logits: Tensor) -> Tensor:
        """What the score rules work on: the logits, float32."""
        return logits.float()

    def advance(
        self, slots: slice, scores: Tensor, *, steps: Tensor, generators: list[torch.Generator] | None
    ) -> Tensor | None:
        """Choose the next token of n clips, see `TokenSearch`."""
        rows = scores[:, 0]
        if generators is None:
            ids = rows.argmax(dim=-1)
        else:
            chances = torch.softmax(rows, dim=-1)
            drawn = [
                torch.multinomial(row, 1, generator=generator)
                for row, generator in zip(chances, generators, strict=True)
            ]
            ids = torch.cat(drawn)
        running = ~self.done[slots]
        self.tokens[slots, 0].scatter_(1, steps[:, None], ids[:, None])
        self.last[slots, 0] = ids
        self._lengths[slots] += running
        ended = (ids[:, None] == self._eos).any(dim=1) | (steps + 1 >= self.settings.max_new_tokens)
        self.done[slots] |= ended
        return None

    def results(self, slots: Tensor) -> list[list[int]]:
        """The answers of clips, int64 [m] slots, each with its end id if it has one."""
        return cut(self.tokens[slots, 0], self._lengths[slots])

    def move(self, source: int, target: int) -> None:
        """Put a clip into another slot."""
        for state in (self.tokens, self.last, self.done, self._lengths):
            state[target] = state[source]


def cut(tokens: Tensor, lengths: Tensor) -> list[list[int]]:
    """Rows of int64 [m, G] at their lengths, int64 [m], brought to the host in one transfer."""
    rows = torch.cat([lengths[:, None], tokens], dim=1).tolist()
    return [row[1 : 1 + row[0]] for row in rows]
