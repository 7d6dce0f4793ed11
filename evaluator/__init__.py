"""audiolm-evaluator: streams annotations through an audio-language model, writes submissions, scores them.

Five functions are the whole of it in Python (docs/notebook.md); everything else is imported from its own room.
Importing the package costs nothing: each function brings what it needs when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluator.notebook.annotation import load_annotation
    from evaluator.notebook.compare import compare
    from evaluator.notebook.run import run_model
    from evaluator.notebook.score import score
    from evaluator.notebook.show import show

__all__ = ["compare", "load_annotation", "run_model", "score", "show"]

_ROOMS = {"compare": "compare", "load_annotation": "annotation", "run_model": "run", "score": "score", "show": "show"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"evaluator.notebook.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
