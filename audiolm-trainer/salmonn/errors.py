"""The exceptions of the SALMONN package; every message is a sentence that names the file or key and what to do.

SalmonnError
 +-- ConfigError        the YAML file or --options; carries every problem as (key, message)
 +-- AudioError         one audio file
 +-- PromptError        a prompt file or a task without a prompt
 +-- CheckpointError    a weights file that cannot be read or does not fit, with the names of the keys
 +-- DatasetError       a training or validation set
"""

from collections.abc import Iterable


class SalmonnError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(SalmonnError):
    """The configuration is wrong; `problems` holds every (dotted key, message)."""

    def __init__(self, message: str, problems: Iterable[tuple[str, str]] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {key}: {text}" for key, text in self.problems)]))


class AudioError(SalmonnError):
    """One audio file cannot be used."""


class PromptError(SalmonnError):
    """A prompt file is wrong, or a task has no prompt."""


class CheckpointError(SalmonnError):
    """A weights file cannot be read or does not fit the model."""


class DatasetError(SalmonnError):
    """A training or validation set cannot be used."""
