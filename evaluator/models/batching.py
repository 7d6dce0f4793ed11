"""Batches of clips of like length, halved where memory does not hold them.

In: requests as the evaluator hands them out, and a function that answers a few of them together. Out: their answers;
a clip that does not fit into memory, even alone, has none, and the others go on.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from evaluator.model import Answer, Request

logger = logging.getLogger(__name__)

WINDOW = 4
"""Batches that are pulled and sorted by length at a time."""
MOST_WITHOUT_ANSWER = 20
"""So many clips that do not fit before the first answer, the longest first, mean that the model itself does not."""


class BatchedLM:
    """A model of the contract's shape around a function that answers a batch.

    Args:
        ask: answers a batch, one answer a request in its order.
        sampling_rate: of the audio, in Hz.
        most: clips in a batch at first.
        alike: only requests of equal value share a batch.
        is_full: whether an error says that memory is full.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Request]], Sequence[Answer]],
        *,
        sampling_rate: int,
        most: int,
        alike: Callable[[Request], str] = lambda request: "",
        is_full: Callable[[BaseException], bool] = lambda error: isinstance(error, MemoryError),
    ) -> None:
        self.sampling_rate = sampling_rate
        self.most = most
        self._ask, self._alike, self._is_full = ask, alike, is_full
        self._unfit = 0
        self._is_any_answered = False

    def generate(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answer the requests of a window, the longest first, then those of the next.

        Raises:
            Exception: what the function raises; that memory is full where the first clips do not fit, each alone.
        """
        stream = iter(requests)
        while window := list(islice(stream, WINDOW * self.most)):
            window.sort(key=lambda request: (self._alike(request), len(request.audio)), reverse=True)
            while window:
                first = self._alike(window[0])
                size = next((at for at, other in enumerate(window) if self._alike(other) != first), len(window))
                batch = window[: min(self.most, size)]
                answers = self._answered(batch)
                if answers is not None:
                    del window[: len(batch)]
                    yield from answers

    def _answered(self, batch: Sequence[Request]) -> Sequence[Answer] | None:
        """The answers; None where memory was full, and batches are smaller from now on."""
        try:
            answers = self._ask(batch)
        except Exception as error:
            self._unfit += len(batch) == 1
            hopeless = not self._is_any_answered and self._unfit >= MOST_WITHOUT_ANSWER
            if not self._is_full(error) or hopeless:
                raise
        else:
            self._is_any_answered = True
            return answers
        if len(batch) == 1:
            return [Answer(batch[0].index, "", 0, "error", "it does not fit into memory, even alone")]
        self.most = len(batch) // 2
        logger.warning("Memory does not hold %d clips at once: batches are %d from now on.", len(batch), self.most)
        return None
