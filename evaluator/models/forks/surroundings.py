"""What foreign model code is given while it runs: another standard output, and a CPU that bears `.cuda()`.

Only within `foreign_code` is anything different, and PyTorch is as it was afterwards. What a CPU cannot bear, a tensor
that is made on a GPU for example, stays an error.
"""

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NO_GPU = ("CUDA", "NVIDIA", "cuda")


@contextlib.contextmanager
def foreign_code(device: Any) -> Iterator[None]:
    """Send what is printed to standard error; on a CPU, let moves to a GPU leave things where they are.

    Args:
        device: the torch.device that the model is on.
    """
    with contextlib.redirect_stdout(sys.stderr), _moves_ignored() if device.type == "cpu" else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _moves_ignored() -> Iterator[None]:
    import torch

    # PyTorch's classes are changed for a while; to mypy they are closed.
    tensor, module = vars(torch)["Tensor"], torch.nn.Module
    kept = [(owner, name, owner.__dict__.get(name)) for owner in (tensor, module) for name in ("cuda", "to")]
    moves = {tensor: tensor.to, module: module.to}
    for owner, move in moves.items():
        owner.cuda = lambda self, *where, **how: self
        owner.to = _staying(move)
    try:
        yield
    finally:
        for owner, name, function in kept:
            if function is None:
                delattr(owner, name)
            else:
                setattr(owner, name, function)


def _staying(move: Any) -> Any:
    def to(self: Any, *where: Any, **how: Any) -> Any:
        return move(
            self, *("cpu" if _is_gpu(each) else each for each in where),
            **{name: "cpu" if _is_gpu(each) else each for name, each in how.items()},
        )  # fmt: skip

    return to


def _is_gpu(value: object) -> bool:
    return (isinstance(value, str) and value.startswith("cuda")) or getattr(value, "type", None) == "cuda"


def wants_gpu(error: BaseException, root: Path) -> str | None:
    """Where foreign code asked for a GPU that is not there, as "file:line: what"; None for any other error."""
    if not any(word in str(error) for word in _NO_GPU):
        return None
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(root)]
    return f"{places[-1].filename}:{places[-1].lineno}: {places[-1].line}" if places else str(root)
