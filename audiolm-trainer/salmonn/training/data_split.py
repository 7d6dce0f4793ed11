"""One set of a run: its samples, the wordings they are asked with, and where their encoded audio comes from."""

from dataclasses import dataclass

from salmonn.data.dataset import Samples
from salmonn.prompts import PromptBook
from salmonn.training.encoded import EncodedSource


@dataclass(frozen=True, slots=True)
class Split:
    """A training or validation set.

    Attributes:
        samples: what is asked of which clip, and the answer.
        book: task -> wordings.
        source: gives the encoded clips of batches.
    """

    samples: Samples
    book: PromptBook
    source: EncodedSource
