"""Encoding the next batch while the last one is being decoded.

Batches are given with their results, in order. On a GPU the work of a batch is queued on a stream of its own before the
batch ahead of it is handed out, so that encoders and decoder share the device; on a CPU nothing would be gained by it,
and a batch is encoded when it is asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class SideStream:
    """A CUDA stream beside the current one.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Weights may still be on their way.
        self.stream.wait_stream(torch.cuda.current_stream(device))

    def begin(self, work: Callable[[], list[Tensor | None]]) -> Callable[[], list[Tensor | None]]:
        """Queue work on the stream; joining it makes the current stream wait, not the host."""
        with torch.cuda.stream(self.stream):
            results = work()
            done = self.stream.record_event()

        def join() -> list[Tensor | None]:
            current = torch.cuda.current_stream(self.stream.device)
            current.wait_event(done)
            for tensor in results:
                # Its memory may be used again only when the current stream, too, is done with it.
                if tensor is not None:
                    tensor.record_stream(current)
            return results

        return join


def side_stream_of(device: torch.device) -> SideStream | None:
    """The side stream of a GPU; a CPU has none."""
    return SideStream(device) if device.type == "cuda" else None


def encode_ahead(
    batches: Iterable[T], encode: Callable[[T], list[Tensor | None]], stream: SideStream | None
) -> Iterator[tuple[T, list[Tensor | None]]]:
    """Encode batches, with a side stream one batch ahead.

    Args:
        batches: pulled one by one; with a side stream the next one is pulled before a batch is handed out.
        encode: what a batch needs; None in the place of a clip that has no result.
        stream: where to queue it; None encodes each batch when it is asked for.

    Yields:
        A batch and what `encode` gave for it, in the order of the batches.
    """
    if stream is None:
        for batch in batches:
            yield batch, encode(batch)
        return
    waiting: tuple[T, Callable[[], list[Tensor | None]]] | None = None
    for batch in batches:
        begun = batch, stream.begin(partial(encode, batch))
        if waiting is not None:
            yield waiting[0], waiting[1]()
        waiting = begun
    if waiting is not None:
        yield waiting[0], waiting[1]()
