"""The original trainer's prompts: {task: prompt} in a JSON file, put into the template of the configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluator.errors import ConfigError, Problem

SLOT = "<SpeechHere>"


def read_prompts(config: Mapping[str, Any]) -> dict[str, str]:
    """The prompts of model.test_prompt_path.

    Raises:
        ConfigError: the file cannot be read, or a prompt has not exactly one place for the audio.
    """
    path = Path(str(config["model"].get("test_prompt_path") or ""))
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise _wrong(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise _wrong(f"{path}: expected one text a task")
    # The original drops what has no place for the audio.
    return {task: text for task, text in found.items() if text.count(SLOT) == 1}


def filled(prompt: str, question: str, template: str) -> str:
    """A clip's prompt: the question in the place of {}, all of it in that of the template's."""
    asked = prompt.replace("{}", question)
    return template.replace("{}", asked) if template else asked


def _wrong(message: str) -> ConfigError:
    return ConfigError("The prompts cannot be read.", [Problem("model.test_prompt_path", message)])
