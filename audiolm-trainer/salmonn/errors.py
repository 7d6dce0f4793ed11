"""The exceptions of the SALMONN package, each with the exit code that a command ends with.

Every message is a sentence that names the file or key and what to do.

SalmonnError              1
 +-- ConfigError          2   the YAML file, --options or the device; carries every problem as (key, message)
 +-- AudioError           3   one audio file
 +-- PromptError          3   a prompt file or a task without a prompt
 +-- DatasetError         3   a training or validation set
 +-- MissingPackageError  2   a Python package that is not installed
 +-- CheckpointError      4   a weights file that cannot be read or does not fit, with the names of the keys
"""

from collections.abc import Iterable
from typing import ClassVar


class SalmonnError(Exception):
    """Base of all errors that a user can mend."""

    exit_code: ClassVar[int] = 1


class ConfigError(SalmonnError):
    """The configuration is wrong; `problems` holds every (dotted key, message)."""

    exit_code = 2

    def __init__(self, message: str, problems: Iterable[tuple[str, str]] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {key}: {text}" for key, text in self.problems)]))


class AudioError(SalmonnError):
    """One audio file cannot be used."""

    exit_code = 3


class PromptError(SalmonnError):
    """A prompt file is wrong, or a task has no prompt."""

    exit_code = 3


class CheckpointError(SalmonnError):
    """A weights file cannot be read or does not fit the model."""

    exit_code = 4


class DatasetError(SalmonnError):
    """A training or validation set cannot be used."""

    exit_code = 3


class MissingPackageError(SalmonnError):
    """A Python package is not installed."""

    exit_code = 2

    def __init__(self, error: ModuleNotFoundError) -> None:
        name = (error.name or str(error)).partition(".")[0]
        super().__init__(f"the Python package {name} is not installed: pip install {name}")
