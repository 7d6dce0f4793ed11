"""Random initial values, left out where a checkpoint brings every value.

Drawing them is most of the work of building a Q-Former or an adapter, and the checkpoint then writes over all of it.
Constants (ones, zeros, buffers) are computed as ever, so that only what the checkpoint holds is without meaning between
building and loading. Training never leaves them out: what it starts from follows from its seed.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.overrides import TorchFunctionMode

# Functions and methods that fill their first argument. By name, because PyTorch hands over whichever was called first:
# its own, the tensor's, or transformers' that takes the place of its own.
_RANDOM_FILLS = frozenset(
    {
        "uniform_",
        "normal_",
        "trunc_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "xavier_uniform_",
        "xavier_normal_",
    }
)


class _WithoutRandomFills(TorchFunctionMode):
    """Leaves tensors as they are where they would be filled with random numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if getattr(func, "__name__", "") in _RANDOM_FILLS:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def initial_values(*, wanted: bool) -> AbstractContextManager[object]:
    """Give the block in which modules are built.

    Args:
        wanted: False leaves parameters that would be random as their memory happens to be, and draws nothing from
            PyTorch's generator. Only for modules whose every parameter is overwritten before it is used.
    """
    return nullcontext() if wanted else _WithoutRandomFills()
