"""`load_annotation`: an annotation as a sequence of samples; everything that is wrong with it is one error."""

from os import PathLike, fspath

from evaluator.annotation.annotation import read_annotation
from evaluator.annotation.clip_headers import ClipHeaders
from evaluator.annotation.references import group_references
from evaluator.answer_files.scored_file import VALID_MODES, task_of_labels
from evaluator.errors import ConfigError
from evaluator.extras import check_installed
from evaluator.notebook.loaded import LoadedAnnotation
from evaluator.notebook.paths import typed_path
from evaluator.tasks import MODES, TASKS, Mode, is_scored, task_of
from evaluator.wording import did_you_mean

_READERS = 8
"""Threads that read headers of clips."""


def load_annotation(
    path: str | PathLike[str],
    *,
    prefix: str | PathLike[str] = "",
    mode: Mode | None = None,
    check_audio: bool = False,
) -> LoadedAnnotation:
    """Read an annotation and check every row of it.

    Args:
        path: the file: JSON, a list or JSON Lines (docs/quick-start.md).
        prefix: folder that its relative audio paths start from; "" is the working directory.
        mode: what it is for; None: the valid mode of the one task that its labels belong to. Submission modes want no
            texts and ids of the form test0000.
        check_audio: also look at the header of every clip, which tells how long it is.

    Raises:
        AnnotationError: with every problem of the file, its rows and, if they were looked at, its clips.
        ConfigError: the labels do not tell the task; the mode does not exist; what reads audio is not installed.
    """
    file, folder = typed_path(path), str(typed_path(prefix)) if fspath(prefix) else ""
    mode = known_mode(mode) if mode is not None else VALID_MODES[task_of_labels(file).name]
    labels = {label: False for task in TASKS for label in task.labels}
    read = read_annotation(file, prefix=folder, mode=mode, known_tasks=labels)
    samples, seconds, notices = read.samples, tuple[float, ...](), list[str]()
    if is_scored(mode) and task_of(mode).many_references:
        samples, notices = group_references(samples)
    if check_audio:
        check_installed("audio")
        headers = ClipHeaders()
        headers.read(read, samples, tolerant=False, workers=_READERS)
        seconds, notices = tuple(headers.lengths), [*notices, *headers.warnings]
    read.without_problems()
    return LoadedAnnotation(file, folder, mode, samples, seconds, tuple(notices))


def known_mode(mode: str) -> Mode:
    """The mode of that name.

    Raises:
        ConfigError: there is none.
    """
    found = next((each for each in MODES if each == mode), None)
    if found is None:
        raise ConfigError(f"mode {mode!r}: there is no such mode; {did_you_mean(str(mode), MODES)}.")
    return found
