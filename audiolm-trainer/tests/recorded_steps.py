"""A recorder of steps for CPUs that is as strict as a CUDA graph: `recorded` in the place of `cuda_recorder()`.

Every operation on tensors is written down with the very tensors that it read and wrote; a replay carries the same
operations out on the same memory, and no Python of the step runs. So whatever a step took from the host while it was
recorded (a number of steps, a mask, a slot) is stale in a replay, exactly as on a GPU. Asking the device for a value
and bringing values from the host are errors, and recording leaves no trace in memory that was there before.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WAITS = (
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.is_nonzero,
    aten.unique_consecutive,
)
FROM_HOST = (aten.lift_fresh, aten.lift_fresh_copy)


class _Tape(TorchDispatchMode):
    """Carries operations out, and keeps them and the former content of what they changed."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._new: dict[int, Tensor] = {}
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func.overloadpacket not in WAITS, f"{func} waits for the device"
        assert func.overloadpacket not in FROM_HOST, f"{func} brings values from the host"
        for given, argument in zip(args, func._schema.arguments, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(given)
        result = func(*args, **kwargs)
        if _is_view(func, result, (args, kwargs)):
            return result
        self.operations.append((func, args, kwargs, result))
        if not func._schema.is_mutable:
            for tensor in _tensors(result):
                self._new[_memory(tensor)] = tensor
        return result

    def undo(self) -> None:
        """Give memory that was there before the recording its content back."""
        for storage, before in self._before.values():
            storage.copy_(before)

    def _keep(self, tensor: Tensor) -> None:
        memory = _memory(tensor)
        if memory not in self._new and memory not in self._before:
            storage = tensor.untyped_storage()
            self._before[memory] = (storage, storage.clone())


def recorded(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record work without carrying it out; see `step_graphs.Recorder`."""
    tape = _Tape()
    with tape:
        result = work()
    tape.undo()

    def replay() -> None:
        for func, args, kwargs, old in tape.operations:
            new = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for target, source in zip(_tensors(old), _tensors(new), strict=True):
                    target.copy_(source)

    return replay, result


def _is_view(func: Any, result: Any, given: Any) -> bool:
    """Whether an operation only looked at memory in another way.

    Some do so only where they can, and copy elsewhere: `reshape` is one operation in inference mode.
    """
    if not any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments):
        return False
    known = {_memory(tensor) for tensor in _tensors(given)}
    return all(_memory(tensor) in known for tensor in _tensors(result))


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
