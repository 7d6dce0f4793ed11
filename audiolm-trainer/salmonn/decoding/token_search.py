"""What goes into a decoder, what comes out, and how the next tokens are chosen: with beams or one at a time."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Prompt(NamedTuple):
    """A clip's index and its whole prompt, embeddings [S, H]."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    embeds: Tensor


class Tokens(NamedTuple):
    """A clip's index and its answer, new token ids up to and including the first end id."""

    index: int  # type: ignore[assignment]
    ids: list[int]


class TokenSearch(Protocol):
    """The answers of S clips with K beams each, on the device; `BeamSearch` and `TokenChoice` (K = 1) are such.

    Attributes:
        width: K.
        tokens: int64 [S, K, G], what each beam has generated.
        last: int64 [S, K], the last token of each beam.
        done: bool [S], whether a clip's answer is complete, or its slot free.
    """

    width: int
    tokens: Tensor
    last: Tensor
    done: Tensor

    def start(self, slots: slice) -> None:
        """Give slots to new clips."""
        ...

    def to_scores(self, logits: Tensor) -> Tensor:
        """Turn logits [n, K, V] into what the score rules work on, float32 [n, K, V]."""
        ...

    def advance(
        self, slots: slice, scores: Tensor, *, steps: Tensor, generators: list[torch.Generator] | None
    ) -> Tensor | None:
        """Choose the next token of every beam.

        Args:
            slots: n slots.
            scores: float32 [n, K, V], after the score rules.
            steps: int64 [n], how many tokens each clip's beams have.
            generators: one a clip when sampling.

        Returns:
            int64 [n, K], the former place of each beam's parent; None where no beam changes places.
        """
        ...

    def results(self, slots: Tensor) -> list[list[int]]:
        """The answers of clips, int64 [m] slots, each with its end id if it has one."""
        ...

    def move(self, source: int, target: int) -> None:
        """Put a clip into another slot."""
        ...
