"""Choosing beams, by transformers' rule: same candidates, same arithmetic in float32, same order of equal scores.

Shapes: S slots of which a slice of n is advanced, K beams, V vocabulary, G longest answer, C candidates, which are
(1 + number of end ids) x K.
"""

import torch
from torch import Tensor

from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.token_choice import cut

# Added to a score that must not be chosen. Not -inf: transformers' own number decides how such scores tie.
NEVER = -1.0e9


class BeamSearch:
    """The beams of S clips and their finished answers: a `TokenSearch`.

    Args:
        settings: of the decoder.
        slots: S.
        device: of all tensors.
    """

    def __init__(self, settings: DecoderSettings, *, slots: int, device: torch.device) -> None:
        beams, length = settings.num_beams, settings.max_new_tokens
        self.settings = settings
        self.width = beams
        # One place more than an answer has: what a clip writes there that is done and computed all the same.
        self.tokens = torch.zeros(slots, beams, length + 1, dtype=torch.int64, device=device)
        self.last = torch.zeros(slots, beams, dtype=torch.int64, device=device)
        self.done = torch.ones(slots, dtype=torch.bool, device=device)
        self._scores = torch.zeros(slots, beams, device=device)
        self._improvable = torch.zeros(slots, dtype=torch.bool, device=device)
        self._ended_tokens = torch.zeros_like(self.tokens)
        self._ended_scores = torch.zeros_like(self._scores)
        self._ended_lengths = torch.zeros(slots, beams, dtype=torch.int64, device=device)
        self._has_ended = torch.zeros(slots, beams, dtype=torch.bool, device=device)
        self._eos = torch.tensor(settings.eos_ids, device=device)
        self._candidates = max(2, 1 + len(settings.eos_ids)) * beams
        # Python's power, as in transformers; length 0 is never looked up, length + 1 only for clips that are done.
        powers = [1.0, *(float(n**settings.length_penalty) for n in range(1, length + 2))]
        self._length_power = torch.tensor(powers, dtype=torch.float64, device=device).float()

    def start(self, slots: slice) -> None:
        """Give slots to new clips. A clip's beams are equal, so all but the first are kept from being chosen."""
        self.tokens[slots] = 0
        self.done[slots] = False
        self._scores[slots] = NEVER
        self._scores[slots, 0] = 0.0
        self._improvable[slots] = True
        self._ended_tokens[slots] = 0
        self._ended_scores[slots] = NEVER
        self._ended_lengths[slots] = 0
        self._has_ended[slots] = False

    def to_scores(self, logits: Tensor) -> Tensor:
        """What the score rules work on: log-probabilities, float32."""
        return torch.log_softmax(logits.float(), dim=-1)

    def advance(
        self, slots: slice, scores: Tensor, *, steps: Tensor, generators: list[torch.Generator] | None
    ) -> Tensor:
        """Choose the next token of every beam, see `TokenSearch`; scores are log-probabilities."""
        vocabulary = scores.shape[-1]
        total = (scores + self._scores[slots, :, None]).flatten(1)
        best, places = self._pick(total, generators)
        parents, ids = places // vocabulary, places % vocabulary
        tokens = _rows(self.tokens[slots], parents)
        tokens.scatter_(2, steps[:, None, None].expand(-1, tokens.shape[1], 1), ids[:, :, None])
        hits = (ids[:, :, None] == self._eos).any(dim=2) | (steps + 1 >= self.settings.max_new_tokens)[:, None]
        running = best + hits.float() * NEVER
        order = torch.topk(running, self.width)[1]
        self._collect_ended(slots, best, tokens, hits, steps)
        self.tokens[slots] = _rows(tokens, order)
        self.last[slots] = ids.gather(1, order)
        self._scores[slots] = running.gather(1, order)
        self._judge(slots, hits, steps + 1)
        return parents.gather(1, order)

    def results(self, slots: Tensor) -> list[list[int]]:
        """The best answers of clips, int64 [m] slots, each with its end id if it has one."""
        return cut(self._ended_tokens[slots, 0], self._ended_lengths[slots, 0])

    def move(self, source: int, target: int) -> None:
        """Put a clip into another slot."""
        for state in (self.tokens, self.last, self.done, self._scores, self._improvable):
            state[target] = state[source]
        for state in (self._ended_tokens, self._ended_scores, self._ended_lengths, self._has_ended):
            state[target] = state[source]

    def _pick(self, total: Tensor, generators: list[torch.Generator] | None) -> tuple[Tensor, Tensor]:
        """C candidates of [n, K x V] total scores: the best, or drawn without replacement."""
        if generators is None:
            best, places = torch.topk(total, self._candidates)
            return best, places
        chances = torch.softmax(total, dim=-1)
        places = torch.stack(
            [
                torch.multinomial(row, self._candidates, generator=generator)
                for row, generator in zip(chances, generators, strict=True)
            ]
        )
        return total.gather(1, places), places

    def _collect_ended(self, slots: slice, best: Tensor, tokens: Tensor, hits: Tensor, steps: Tensor) -> None:
        """Merge candidates that end now into the K best answers; only the first K candidates count."""
        ends = hits.clone()
        ends[:, self.width :].fill_(False)
        scores = best / self._length_power[steps + 1][:, None]
        has_ended = self._has_ended[slots]
        if self.settings.early_stopping is True:
            scores = scores + has_ended.all(dim=1, keepdim=True).float() * NEVER
        scores = scores + (~self._improvable[slots, None]).float() * NEVER
        scores = scores + (~ends).float() * NEVER
        merged = torch.cat([self._ended_scores[slots], scores], dim=1)
        order = torch.topk(merged, self.width)[1]
        # The answers of a clip that is done stay as they are: choosing anew could change the order of equal ones.
        kept = torch.arange(self.width, device=order.device)
        order = torch.where(self.done[slots, None], kept, order)
        lengths = torch.cat([self._ended_lengths[slots], (steps + 1)[:, None].expand_as(ends)], dim=1)
        self._ended_tokens[slots] = _rows(torch.cat([self._ended_tokens[slots], tokens], dim=1), order)
        self._ended_scores[slots] = merged.gather(1, order)
        self._ended_lengths[slots] = lengths.gather(1, order)
        self._has_ended[slots] = torch.cat([has_ended, ends], dim=1).gather(1, order)

    def _judge(self, slots: slice, hits: Tensor, lengths: Tensor) -> None:
        """Decide which clips are done: nothing can improve, all answers are in, or no beam can go on."""
        settings, has_ended = self.settings, self._has_ended[slots]
        if settings.early_stopping == "never" and settings.length_penalty > 0.0:
            lengths = torch.full_like(lengths, settings.max_new_tokens)
        possible = self._scores[slots, :1] / self._length_power[lengths][:, None]
        worst = self._ended_scores[slots].min(dim=1, keepdim=True)[0]
        # Not `where`: on a GPU that would bring the number from the host.
        better = (possible > worst.masked_fill(~has_ended, NEVER)).any(dim=1)
        open_ = ~hits.all(dim=1)
        if settings.early_stopping is True:
            open_ &= ~has_ended.all(dim=1)
        self._improvable[slots] &= better & open_
        self.done[slots] = ~self._improvable[slots]


def _rows(tensor: Tensor, places: Tensor) -> Tensor:
    """Rows of [n, X, G] by [n, Y] int64 -> [n, Y, G]."""
    return tensor.gather(1, places[:, :, None].expand(-1, -1, tensor.shape[2]))
