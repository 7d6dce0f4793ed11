"""The Java programs that pycocoevalcap brings: a name in, the installed file out."""

import importlib.util
from pathlib import Path

from evaluator.errors import MetricUnavailableError

FIX = "install the requirements again: pip install -r requirements.txt"


def pycocoevalcap_file(name: str) -> Path:
    """A file of the installed pycocoevalcap: "meteor/meteor-1.5.jar".

    Raises:
        MetricUnavailableError: the package or the file is not there.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise MetricUnavailableError(f"{name} of the package pycocoevalcap is not installed", fix=FIX)
