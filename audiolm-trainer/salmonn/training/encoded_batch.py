"""What travels from the frozen encoders to the trained half: batches of encoded clips, and what gives them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from salmonn.model.speech_encoder import Encoded


class EncodedBatch(NamedTuple):
    """What could be read of a batch.

    Attributes:
        indices: places of the readable samples, in the batch's order.
        encoded: their clips, None where nothing could be read.
    """

    indices: list[int]
    encoded: Encoded | None


class EncodedSource(Protocol):
    """Gives the encoded clips of batches."""

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[EncodedBatch]:
        """Yield what could be read of each batch, one for each, in order; empty batches are allowed."""
        ...
