"""A decoding step recorded once for each shape and replayed afterwards: CUDA graphs, and the place for others.

A step of a language model is some hundreds of small kernels; starting them one by one takes the host longer than the
GPU needs to run them. A recorded step starts with one call. What is recorded works on the same memory at every replay,
so a step may only change tensors in place and must never ask the device for a value.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import torch

from salmonn.device import is_out_of_memory

Work: TypeAlias = Callable[[], Any]
# Records work without carrying it out: -> what replays it, and the work's result, which each replay overwrites.
Recorder: TypeAlias = Callable[[Work], tuple[Callable[[], object], Any]]


class StepGraphs:
    """Runs work by key; from the second time on it is recorded and replayed.

    The first time it runs as it is: libraries set themselves up then, which may not happen while recording.

    Args:
        record: how; None runs everything as it is.
    """

    def __init__(self, record: Recorder | None) -> None:
        self.record = record
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, tuple[Callable[[], object], Any]] = {}

    def run(self, key: Hashable, work: Work) -> Any:
        """Do the work of a key once, and return its result."""
        if self.record is None or key not in self._seen:
            self._seen.add(key)
            return work()
        if key not in self._recorded:
            self._recorded[key] = self.record(work)
        replay, result = self._recorded[key]
        replay()
        return result

    def clear(self) -> None:
        """Forget everything, because the memory it worked on is gone."""
        self._seen.clear()
        self._recorded.clear()


def cuda_recorder() -> Recorder:
    """Record CUDA graphs. All share one pool of memory: they never run at the same time."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Work) -> tuple[Callable[[], object], Any]:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads (audio, uploads) may go on with what they do.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                result = work()
        except RuntimeError as error:
            # Ending the broken recording raises an error of its own over the one that broke it.
            cause = error.__context__
            if isinstance(cause, RuntimeError) and is_out_of_memory(cause):
                raise cause from None
            raise
        return graph.replay, result

    return record
