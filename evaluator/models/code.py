"""What code a model of one's own is made of, as a hash: a run goes on only with the same.

In: the factory, or the model's class. Out: the hash of its module's file; of what was typed into a notebook, of its own
lines. A Python that lives long, as a notebook's, does not read a module again when its file changes.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

from evaluator.errors import ConfigError
from evaluator.files import sha256

# Code that is loaded -> the hash of its file when it was first seen. The code is kept, so that no other gets its id.
_SEEN: dict[tuple[int, ...], tuple[tuple[CodeType, ...], str]] = {}


def code_of(made: Callable[..., Any]) -> str:
    """The hash of a function's or class's code; "" where there are no lines to be read.

    Raises:
        ConfigError: the file has changed since an earlier run of this process, which still has the code of then.
    """
    made = origin(made)
    functions = _functions(made)
    file = getattr(sys.modules.get(made.__module__), "__file__", None)
    if file is not None and Path(file).is_file():
        return _unchanged(Path(file), tuple(each.__code__ for each in functions))
    try:
        lines = "".join(map(inspect.getsource, functions))
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(lines.encode()).hexdigest() if lines else ""


def origin(made: Callable[..., Any]) -> Callable[..., Any]:
    """The function or class behind a callable: that of a partial, the class of an object that can be called."""
    while isinstance(made, partial):
        made = made.func
    return made if isinstance(made, type) or inspect.isroutine(made) else type(made)


def _functions(made: Callable[..., Any]) -> list[Any]:
    """A function, or a class's own ones: where a class stands in a notebook Python cannot tell, of functions it can."""
    made = getattr(made, "__func__", made)
    if not isinstance(made, type):
        return [made] if inspect.isfunction(made) else []
    own = (getattr(value, "__func__", getattr(value, "fget", value)) for value in vars(made).values())
    return [each for each in own if inspect.isfunction(each)]


def _unchanged(file: Path, loaded: tuple[CodeType, ...]) -> str:
    """The file's hash, where it is the one that this code had before."""
    here = sha256(file)
    _, before = _SEEN.setdefault(tuple(map(id, loaded)), (loaded, here))
    if loaded and before != here:
        raise ConfigError(
            f"{file} has changed since it was imported, and this Python has the code of before: begin a new one, or "
            "importlib.reload its module."
        )
    return here
