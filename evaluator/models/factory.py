"""`python:package.module:factory`: a model that a few lines of one's own make.

In: where the factory is. Out: a model package; `factory(config, device)` returns an object with `sampling_rate` and
`generate` (evaluator/model.py). Python looks for the module in the working directory too.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.errors import AudioLMError, ConfigError, Problem, ends_by_signal
from evaluator.models.code import code_of
from evaluator.wording import did_you_mean

if TYPE_CHECKING:
    from evaluator.model import AudioLM


class FactoryPackage:
    """A model package whose `load_model` is a function of the user's.

    Args:
        module: its dotted name.
        factory: the function's.
    """

    def __init__(self, module: str, factory: str) -> None:
        self._module, self._factory = module, factory
        self.__name__ = f"python:{module}:{factory}"

    def check_parts(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Import the module, so that a wrong name is told before anything is run."""
        self._found()
        return []

    def fingerprints(self, config: Mapping[str, Any]) -> dict[str, str]:
        """The name, and what is in the module's file: a run goes on only with the same code."""
        return {"model.name": f"{self.__name__} {code_of(self._found())}".rstrip()}

    def load_model(self, config: Mapping[str, Any], device: str) -> "AudioLM":
        """Call the factory."""
        model: AudioLM = self._found()(config, device)
        return model

    def _found(self) -> "Callable[[Mapping[str, Any], str], AudioLM]":
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)  # as `python -m` does
        try:
            module = importlib.import_module(self._module)
        except AudioLMError:
            raise
        except (Exception, SystemExit) as error:  # the module is foreign code
            if ends_by_signal(error):
                raise
            raise self._failed(_why(error, self._module)) from error
        factory = getattr(module, self._factory, None)
        if factory is not None and not callable(factory):
            raise self._failed(f"{self._factory} of {module.__file__} is no function, but {type(factory).__name__}")
        if factory is None:
            functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise self._failed(f"{module.__file__} has no {self._factory}; {did_you_mean(self._factory, functions)}")
        found: Callable[[Mapping[str, Any], str], AudioLM] = factory
        return found

    def _failed(self, message: str) -> ConfigError:
        return ConfigError("The model cannot be loaded.", [Problem(f"--model {self.__name__}", message)])


def _why(error: BaseException, module: str) -> str:
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return f"importing {module} failed: {type(error).__name__}: {error}"
    if f"{module}.".startswith(f"{error.name}."):
        return f"there is no Python module {error.name}, neither in {Path.cwd()} nor installed"
    return f"{module} needs the Python package {error.name}, which is not installed: pip install {error.name}"
