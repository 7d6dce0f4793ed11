"""The exceptions of the evaluator. Each carries every problem found and the exit code its command ends with.

AudioLMError              1
 +-- ConfigError          2   the YAML file, --options, contradicting flags
 +-- AnnotationError      3   the annotation JSON and what it names
 +-- AudioError           3   one audio file
 +-- SubmissionError      1   a CSV that would not validate
 +-- JournalError         3   predictions.jsonl
 +-- ResultError          3   a JSON file of a finished run
 +-- ContractError        4   the model broke the contract of evaluator/model.py
 +-- ModelLoadError       4   the model could not be loaded
 +-- ServerError          4   the server of a model is gone, or refuses every clip
 +-- ProcessError         1   one of several processes died, or did not arrive
 +-- TooManyFailuresError 1   more rows failed than run.max_failures
 +-- RunStoppedError    130   the run was stopped from outside
 +-- MetricUnavailableError    1   a metric that cannot be had here, with the fix
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `where` locates it ("file.yaml:12: run.device"), `message` says what to do."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class AudioLMError(Exception):
    """Base of all errors that a user can mend; the message is complete sentences, never a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {problem}" for problem in self.problems)]))


class ConfigError(AudioLMError):
    """The configuration is wrong; every problem is listed."""

    exit_code = 2


class AnnotationError(AudioLMError):
    """The annotation file is wrong; every problem is listed."""

    exit_code = 3


class AudioError(AudioLMError):
    """One audio file cannot be used."""

    exit_code = 3


class SubmissionError(AudioLMError):
    """A submission CSV breaks the rules that the validator checks."""


class JournalError(AudioLMError):
    """predictions.jsonl cannot be read or written."""

    exit_code = 3


class ResultError(AudioLMError):
    """A JSON file of a run cannot be read or written, or is not one."""

    exit_code = 3


class ContractError(AudioLMError):
    """The model broke the contract: an answer too many, too few, or of the wrong type."""

    exit_code = 4


class ModelLoadError(AudioLMError):
    """The model could not be loaded."""

    exit_code = 4


class ServerError(AudioLMError):
    """The server that a model is behind does not answer any more, or refuses every clip."""

    exit_code = 4


class ProcessError(AudioLMError):
    """A run of several processes cannot go on: one died, did not arrive, or was started differently."""


class TooManyFailuresError(AudioLMError):
    """More rows are without an answer than the configuration bears."""


class RunStoppedError(AudioLMError):
    """The run was stopped from outside: what the model had in hand is answered, the rest is not."""

    exit_code = 130


class MetricUnavailableError(AudioLMError):
    """A metric cannot be computed here; `fix` is the one command or sentence that changes that."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.fix = fix
        super().__init__(message)


def ends_by_signal(error: BaseException) -> bool:
    """Whether an error is a signal that ends the run as asked: it raises a class below SystemExit.

    A plain SystemExit is foreign code that called `sys.exit`; it may not end a run in silence.
    """
    return isinstance(error, SystemExit) and type(error) is not SystemExit
