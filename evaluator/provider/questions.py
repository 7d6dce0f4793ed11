"""What a model package may be asked before its model is loaded; all of it optional.

In: the package and the config. Out: plain values of the promised form. The package is foreign code: whatever it raises
or returns instead becomes a sentence that names its function.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evaluator.errors import AudioLMError, ConfigError, Problem, ends_by_signal
from evaluator.tasks import TASKS
from evaluator.wording import shown

if TYPE_CHECKING:
    from evaluator.config.config import Config
    from evaluator.model import ModelProvider

Pairs = list[tuple[str, str]]


def known_tasks(provider: "ModelProvider", config: "Config") -> dict[str, bool]:
    """The task labels that may stand in an annotation -> whether their prompt needs a question.

    They are the model package's where it offers `tasks(config)`, and otherwise those that can be scored.

    Raises:
        ConfigError: the function does not work, because its prompt file is wrong for example.
    """
    scored = {label: False for task in TASKS for label in task.labels}
    found = _asked(provider, "tasks", config.mapping(), otherwise=scored)
    if not isinstance(found, Mapping) or not all(isinstance(label, str) for label in found):
        raise _broken("tasks", f"it returned {shown(found)}, not labels")
    return {label: bool(needs_question) for label, needs_question in found.items()}


def check_parts(provider: "ModelProvider", config: "Config", *, needed: bool = True) -> None:
    """Ask `check_parts(config)` what is wrong with the files of the model, where a model is needed.

    Raises:
        ConfigError: with every problem, each where its key was set; or the function does not work.
    """
    pairs = _pairs(provider, "check_parts", config) if needed else []
    if pairs:
        problems = [Problem(f"{config.locate(key)}: {key}", message) for key, message in pairs]
        raise ConfigError("The model cannot be loaded.", problems)


def found_notices(provider: "ModelProvider", config: "Config") -> list[str]:
    """What `notices(config)` says of a configuration that is not wrong, each with its place.

    Raises:
        ConfigError: the function does not work.
    """
    return [f"{config.locate(key)}: {key} {text}." for key, text in _pairs(provider, "notices", config)]


def found_fingerprints(provider: "ModelProvider", config: "Config") -> dict[str, str]:
    """What `fingerprints(config)` says is in the files that answers depend on: dotted key -> text.

    Raises:
        ConfigError: the function does not work.
    """
    found = _asked(provider, "fingerprints", config.mapping(), otherwise={})
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for item in found.items() for text in item):
        raise _broken("fingerprints", f"it returned {shown(found)}, not texts by key")
    return dict(found)


def found_seconds(provider: "ModelProvider", config: "Config") -> float:
    """How much of a clip the model hears by `max_seconds(config)`; MOST_SECONDS where the package cannot say.

    Raises:
        ConfigError: the function does not work.
        ContractError: it gave no number of seconds.
    """
    from evaluator.provider.probe import MOST_SECONDS, checked_seconds

    found = _asked(provider, "max_seconds", config.mapping(), otherwise=None)
    return MOST_SECONDS if found is None else checked_seconds(found)


def config_check(provider: "ModelProvider") -> Callable[[Mapping[str, Any]], Pairs] | None:
    """The package's `check_config`, whose own failure is one more problem; None where it has none."""
    check = getattr(provider, "check_config", None)
    return None if check is None else functools.partial(_problems_of_config, check)


def _problems_of_config(check_config: Callable[[Mapping[str, Any]], object], config: Mapping[str, Any]) -> Pairs:
    """What `check_config(config)` finds wrong; its own failure is a problem of the section model."""
    try:
        return _checked_pairs("check_config", check_config(config))
    except AudioLMError as error:
        return [("model", error.message)]
    except ModuleNotFoundError as error:
        return [("model", missing_package(error).message)]
    except (Exception, SystemExit) as error:  # foreign code: its failure joins the report
        if ends_by_signal(error):
            raise
        return [("model", _broken("check_config", f"{type(error).__name__}: {error}").message)]


def missing_package(error: ModuleNotFoundError) -> ConfigError:
    """A Python package that the model needs and this environment lacks."""
    name = (error.name or str(error)).partition(".")[0]
    return ConfigError(f"The model needs the Python package {name}, which is not installed: pip install {name}.")


def _pairs(provider: "ModelProvider", name: str, config: "Config") -> Pairs:
    return _checked_pairs(name, _asked(provider, name, config.mapping(), otherwise=()))


def _asked(provider: "ModelProvider", name: str, config: Mapping[str, Any], *, otherwise: object) -> object:
    """Ask a package; one that does not have the function gives `otherwise`."""
    ask = getattr(provider, name, None)
    if ask is None:
        return otherwise
    try:
        found = ask(config)
        # A generator fails while it is read.
        return list(found) if isinstance(found, Iterable) and not isinstance(found, Mapping) else found
    except AudioLMError:
        raise
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    except (Exception, SystemExit) as error:
        if ends_by_signal(error):
            raise
        raise _broken(name, f"{type(error).__name__}: {error}") from error


def _checked_pairs(name: str, found: object) -> Pairs:
    pairs: list[Any] = list(found) if isinstance(found, Iterable) else [found]
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise _broken(name, f"it gave {shown(pair)}, not (dotted key, sentence)")
    return [(key, text) for key, text in pairs]


def _broken(name: str, why: str) -> ConfigError:
    if name == "tasks":  # what it reads is a prompt file, which the user may mend
        return ConfigError(f"The model package cannot list its tasks: {why}")
    return ConfigError(f"The model package's {name} does not work ({why}): mend the package.")
