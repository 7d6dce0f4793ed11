"""Python's cyclic garbage collector, paused while modules are imported.

Importing PyTorch and transformers makes about a million objects that all stay; the collector walks through them again
and again and finds nothing. Weights are loaded with the collector running: a cycle could hold a large tensor.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the collector for the block; afterwards it runs if it ran before."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
