"""What one process computes of every step: its share of the samples, cut to what fits at once.

For any range of steps every process gets the same number of micro-batches, so that their exchanges of gradients meet.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from salmonn.data.batch_order import BatchOrder
from salmonn.data.dataset import Batch, collate
from salmonn.model.speech_encoder import Encoded
from salmonn.training.data_split import Split
from salmonn.training.processes import Engine


class MicroBatch(NamedTuple):
    """Some samples of a step; fewer than planned, or none, where clips cannot be read.

    Attributes:
        step: of the whole run, from 0.
        last: whether it is the step's last one.
        encoded: the encoded clips, None for none.
        prompts: a filled prompt for each clip.
        targets: a text for each clip.
    """

    step: int
    last: bool
    encoded: Encoded | None
    prompts: tuple[str, ...]
    targets: tuple[str, ...]


class MicroBatches:
    """Deals the samples of every step out.

    Args:
        split: the training set.
        order: the batches of the steps.
        engine: the processes.
        at_once: samples in a micro-batch at most.
        seed: of the drawn wordings.
        multi_prompt: draw a wording for every sample, not for every batch.
    """

    def __init__(
        self, split: Split, order: BatchOrder, engine: Engine, *, at_once: int, seed: int, multi_prompt: bool
    ) -> None:
        self.split = split
        self._order = order
        self._engine = engine
        self._at_once = at_once
        self._seed = seed
        self._multi_prompt = multi_prompt

    def stream(self, start: int, stop: int) -> Iterator[MicroBatch]:
        """Yield this process's part of steps `start` to `stop` - 1."""
        planned: deque[tuple[int, list[int], list[int], bool]] = deque()

        def indices_ahead() -> Iterator[list[int]]:
            for step, indices in enumerate(self._order.indices(start, stop), start):
                parts = self._parts(len(indices))
                for number, places in enumerate(parts):
                    planned.append((step, indices, places, number == len(parts) - 1))
                    yield [indices[place] for place in places]

        batch: tuple[int, Batch] | None = None
        for read, encoded in self.split.source.stream(indices_ahead()):
            step, indices, places, last = planned.popleft()
            if batch is None or batch[0] != step:
                batch = step, self._collate(step, indices)
            readable = set(read)
            kept = [place for place in places if indices[place] in readable]
            prompts, targets = (tuple(texts[p] for p in kept) for texts in (batch[1].prompts, batch[1].targets))
            yield MicroBatch(step, last, encoded, prompts, targets)

    def _parts(self, size: int) -> list[list[int]]:
        """Places of a batch that this process computes, a list for each micro-batch; some may be empty."""
        mine = self._engine.share(list(range(size)))
        largest_share = -(-size // self._engine.world)
        return [mine[i * self._at_once : (i + 1) * self._at_once] for i in range(-(-largest_share // self._at_once))]

    def _collate(self, step: int, indices: Sequence[int]) -> Batch:
        # Drawn for the whole batch on every process, so that the wordings do not depend on how it is shared.
        rng = random.Random(f"{self._seed}:{step}")
        return collate(self.split.samples, indices, self.split.book, rng=rng, multi_prompt=self._multi_prompt)
