"""What changes the scores of the next token before one is chosen, in transformers' order and with its arithmetic.

Shapes: n slots, K beams, V vocabulary, G room for generated tokens. Scores are float32 [n, K, V]: logits with one beam,
log-probabilities with several.
"""

import torch
from torch import Tensor

from salmonn.decoding.decoder_settings import DecoderSettings


class ScoreRules:
    """The rules of a decoder's settings; a rule that is off costs nothing.

    Args:
        settings: with the numbers of the rules.
        device: of the scores.
    """

    def __init__(self, settings: DecoderSettings, device: torch.device) -> None:
        self.settings = settings
        self.eos = torch.tensor(settings.eos_ids, device=device)
        # With embeddings the shortest length counts the prompt, which has one token at least.
        self.may_hold_back = (settings.min_new_tokens or 0) > 0 or settings.min_length > 1
        # transformers keeps so many candidates that a beam search can always go on.
        self.kept = 1 if settings.num_beams == 1 else len(settings.eos_ids) + 1

    def apply(self, scores: Tensor, tokens: Tensor, *, steps: Tensor, eos_from: Tensor) -> Tensor:
        """Change the scores.

        Args:
            scores: float32 [n, K, V].
            tokens: int64 [n, K, G], what each beam has generated.
            steps: int64 [n], how many of them.
            eos_from: int64 [n], how many tokens an answer has at least before it may end.

        Returns:
            float32 [n, K, V]; the argument itself when no rule is on.
        """
        settings = self.settings
        if settings.repetition_penalty != 1.0:
            scores = penalise_repetition(scores, tokens, steps=steps, penalty=settings.repetition_penalty)
        if self.may_hold_back:
            places = torch.arange(scores.shape[-1], device=scores.device)
            ends = (places[:, None] == self.eos).any(dim=1)
            scores = scores.masked_fill((steps < eos_from)[:, None, None] & ends, -torch.inf)
        if not settings.do_sample:
            return scores
        if settings.temperature != 1.0:
            scores = scores / settings.temperature
        if settings.top_k:
            scores = keep_top_k(scores, max(settings.top_k, self.kept))
        if settings.top_p < 1.0:
            scores = keep_top_p(scores, settings.top_p, at_least=self.kept)
        return scores


def penalise_repetition(scores: Tensor, tokens: Tensor, *, steps: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative scores of the tokens that a beam has already generated."""
    places = torch.arange(tokens.shape[-1], device=tokens.device)
    used = (places < steps[:, None])[:, None].expand_as(tokens)
    # Places not used yet repeat the first token, so that all writes to one score agree.
    ids = torch.where(used, tokens, tokens[:, :, :1])
    old = scores.gather(2, ids)
    new = torch.where(old < 0, old * penalty, old / penalty)
    any_used = (steps > 0)[:, None, None]
    return scores.scatter(2, ids, torch.where(any_used, new, old))


def keep_top_k(scores: Tensor, top_k: int) -> Tensor:
    """Set all but the `top_k` highest scores (and what ties with the last of them) to -inf."""
    last = torch.topk(scores, min(top_k, scores.shape[-1]))[0][..., -1, None]
    return scores.masked_fill(scores < last, -torch.inf)


def keep_top_p(scores: Tensor, top_p: float, *, at_least: int) -> Tensor:
    """Keep the smallest set of likeliest tokens whose probabilities reach `top_p`, and never fewer than `at_least`."""
    ascending, order = torch.sort(scores)
    removed = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    removed[..., -at_least:] = False
    return scores.masked_fill(removed.scatter(-1, order, removed), -torch.inf)
