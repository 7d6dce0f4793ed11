"""The tasks that can be scored, and the modes of the command made of them.

A task is a name, the annotation labels that belong to it and how many references a row may have. To add one, extend
TASKS and give `scoring/result.py` its metrics.
"""

from dataclasses import dataclass
from typing import Literal, get_args

TaskName = Literal["asr", "aac", "qa", "cls", "st"]
Mode = Literal[
    "submission_asr", "submission_aac", "submission_qa", "submission_cls", "submission_st",
    "valid_asr", "valid_aac", "valid_qa", "valid_cls", "valid_st",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """A scored task.

    Attributes:
        name: short name, the second half of a mode.
        title: what people call it.
        labels: values of the annotation's "task" that belong to it.
        many_references: whether a row may have several references.
        extra: the part of the installation that scores it; "" where the core does.
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
QA = Task(
    name="qa",
    title="question answering",
    labels=("QA", "gender_QA", "inference_QA"),
    many_references=False,
    extra="",
)
CLS = Task(
    name="cls",
    title="classification",
    labels=("emotion_recognition", "gender_recognition", "speaker_verification"),
    many_references=False,
    extra="",
)
ST = Task(
    name="st",
    title="speech translation",
    labels=("translation_ec", "translation_en2ja", "translation_en2de"),
    many_references=False,
    extra="asr",
)
TASKS: tuple[Task, ...] = (ASR, AAC, QA, CLS, ST)
QUESTION = "What do you hear?"
"""What tasks whose prompt needs a question are asked where no annotation has one."""
MODES: tuple[Mode, ...] = get_args(Mode)

Control = Literal["silence", "noise", "shuffle"]
"""What a control run hears in place of its clips."""
CONTROLS: tuple[Control, ...] = get_args(Control)


def task_of(mode: Mode) -> Task:
    """The task of a mode: "valid_aac" -> AAC."""
    return task_named(mode.partition("_")[2])


def task_named(name: str) -> Task:
    """The task of a name: "aac" -> AAC."""
    return next(task for task in TASKS if task.name == name)


def is_scored(mode: Mode) -> bool:
    """Whether a mode compares with references: the two valid modes do."""
    return mode.startswith("valid_")
