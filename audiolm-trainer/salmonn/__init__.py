"""SALMONN: Whisper and BEATs encoders, a window-level Q-Former and a LoRA-adapted language model.

The functions below are all that the evaluator uses. They import what they need when called, so that importing the
package costs nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salmonn.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from salmonn.inference.inference import SalmonnLM

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "check_config",
    "check_parts",
    "fingerprints",
    "load_model",
    "max_seconds",
    "notices",
    "tasks",
]

quiet_libraries()


def load_model(config: Mapping[str, Any], device: str) -> "SalmonnLM":
    """Load the model of a configuration; see `salmonn.inference.inference.load_model`."""
    from salmonn.collector import lasting_imports

    with lasting_imports():
        from salmonn.inference.inference import load_model

    return load_model(config, device)


def check_config(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what is wrong with a configuration without loading weights; see `salmonn.config.config.find_problems`."""
    from salmonn.config.config import find_problems

    return list(find_problems(config))


def tasks(config: Mapping[str, Any]) -> dict[str, bool]:
    """Name the tasks that the configured test prompts know -> whether the prompt needs a question."""
    from salmonn.config.config import from_mapping
    from salmonn.prompts import PromptBook

    return dict(PromptBook.from_files(Path(from_mapping(config).model.test_prompt_path)).tasks())


def check_parts(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what is wrong with the files of a configuration, from their names, shapes and sizes alone."""
    from salmonn.collector import lasting_imports

    with lasting_imports():
        from salmonn.config.config import from_mapping
        from salmonn.preflight.preflight import find_answering_problems

    checked = from_mapping(config)
    return find_answering_problems(checked, checked.run.device)


def max_seconds(config: Mapping[str, Any]) -> float | None:
    """Say how much of a clip the configured model hears; None where its Whisper is not on this machine yet."""
    from salmonn.config.config import from_mapping
    from salmonn.frontend.heard_seconds import heard_seconds

    parts = from_mapping(config).model
    heard = heard_seconds(parts.whisper_path)
    return None if heard is None else min(heard, parts.context_seconds)


def notices(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what should be known of a configuration that is not wrong; see `salmonn.config.notices.find_notices`."""
    from salmonn.config.config import from_mapping
    from salmonn.config.notices import find_notices

    return find_notices(from_mapping(config), "evaluate")


def fingerprints(config: Mapping[str, Any]) -> dict[str, str]:
    """Digest the files that answers depend on: dotted key -> digest, "" for what is not on this machine yet."""
    from salmonn.config.config import from_mapping
    from salmonn.weights.fingerprint import ANSWER_KEYS
    from salmonn.weights.fingerprint import fingerprints as digests

    return digests(from_mapping(config), ANSWER_KEYS)
