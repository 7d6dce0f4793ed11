"""What may be run from Python: a name as of `--model`, a model package, a factory, or a model that is loaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from evaluator.errors import ConfigError, Problem
from evaluator.model import AudioLM, ModelProvider
from evaluator.models.choose import ModelChoice
from evaluator.models.code import code_of, origin

Factory = Callable[[Mapping[str, Any], str], AudioLM]


class GivenPackage:
    """A model package around a factory, or around a model that is loaded.

    Args:
        made: tells what code answers: the factory, or the model's class.
        load: loads the model.
        name: what the model is called; None: as its code.
    """

    def __init__(self, made: Callable[..., Any], load: Factory, name: str | None) -> None:
        self._made, self.load_model = made, load
        self.__name__ = name or f"{origin(made).__module__}.{origin(made).__qualname__}"

    def fingerprints(self, config: Mapping[str, Any]) -> dict[str, str]:
        """The name and the code: a run goes on only with the same."""
        return {"model.name": f"{self.__name__} {code_of(self._made)}".rstrip()}


def package_of(model: object, *, prompts: Path | None, trust_remote_code: bool, name: str | None) -> ModelProvider:
    """The model package of what was given.

    Args:
        model: "KIND:WHAT" as of `--model`; a module or object with `load_model`; `factory(config, device)`, which a
            class may be; or an object with `sampling_rate` and `generate`.
        prompts: as `--prompts`, for names.
        trust_remote_code: as `--trust-remote-code`, for names.
        name: of a factory or a loaded model.

    Raises:
        ConfigError: it is none of these, or an argument does not belong to it.
    """
    if isinstance(model, str):
        _refuse({"name": name}, "a model that has one, KIND:WHAT")
        return ModelChoice(model, prompts, trust_remote_code).provider()
    _refuse({"prompts": prompts, "trust_remote_code": trust_remote_code}, "a model that is given as an object")
    if hasattr(model, "load_model"):
        _refuse({"name": name}, "a model package, which has one")
        return cast("ModelProvider", model)
    if not isinstance(model, type) and isinstance(model, AudioLM):
        return GivenPackage(type(model), lambda config, device: model, name)
    if callable(model):
        return GivenPackage(model, model, name)
    wanted = "KIND:WHAT, a model package, a function or class of (config, device), or an object with generate"
    raise ConfigError(
        "The model cannot be chosen.", [Problem("model", f"expected {wanted}; found {type(model).__name__}")]
    )


def _refuse(given: Mapping[str, object], what: str) -> None:
    for name, value in given.items():
        if value:
            raise ConfigError("The model cannot be chosen.", [Problem(name, f"does not belong to {what}")])
