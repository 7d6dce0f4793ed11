"""Python's cyclic garbage collector, kept away from what imports make.

Importing PyTorch and transformers makes hundreds of thousands of objects that all stay until the process ends. The
collector would walk through them many times while they are made, again whenever it looks at everything, and once more
at the end. In a process that has no transformers yet it rests during the imports, and afterwards it leaves out what
is there. Weights are loaded with the collector running: a cycle could hold a large tensor.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Give the block that imports; what is there at its end is never looked at by the collector again.

    Does nothing where transformers has been imported before: there may be a model then, and tensors in cycles that the
    collector is yet to free.
    """
    if "transformers" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
