"""The tasks that can be scored, and the four modes of the command made of them.

A task is a name, the annotation labels that belong to it and how many references a row may have. To add one, extend
TASKS and give `scoring/result.py` its metrics.
"""

from dataclasses import dataclass
from typing import Literal

TaskName = Literal["asr", "aac"]
Mode = Literal["submission_asr", "submission_aac", "valid_asr", "valid_aac"]


@dataclass(frozen=True, slots=True)
class Task:
    """A scored task.

    Attributes:
        name: short name, the second half of a mode.
        title: what people call it.
        labels: values of the annotation's "task" that belong to it.
        many_references: whether a row may have several references.
        extra: the part of the installation that scores it.
    """

    name: TaskName
    title: str
    labels: tuple[str, ...]
    many_references: bool
    extra: str


ASR = Task(name="asr", title="speech recognition", labels=("asr",), many_references=False, extra="asr")
AAC = Task(
    name="aac",
    title="audio captioning",
    labels=("audiocaption", "audiocaption_v2"),
    many_references=True,
    extra="captions",
)
TASKS: tuple[Task, ...] = (ASR, AAC)
QUESTION = "What do you hear?"
"""What tasks whose prompt needs a question are asked where no annotation has one."""
MODES: tuple[Mode, ...] = ("submission_asr", "submission_aac", "valid_asr", "valid_aac")


def task_of(mode: Mode) -> Task:
    """The task of a mode: "valid_aac" -> AAC."""
    name = mode.partition("_")[2]
    return next(task for task in TASKS if task.name == name)


def is_scored(mode: Mode) -> bool:
    """Whether a mode compares with references: the two valid modes do."""
    return mode.startswith("valid_")
