"""Annotations: what is to be transcribed or captioned.

In: a JSON file {"annotation": [row, ...]}, a bare list of rows, or JSON Lines; a row has testset_id, path,
task, and optionally Q (a question) and text (one reference, or a list of them). Out: an Annotation: Samples in the
file's order, or one AnnotationError that lists every problem of the file.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from evaluator.annotation.clip_fields import (
    EXPAND_FIELD,
    below_prefix,
    expansion,
    expansion_problem,
    located,
    path_problem,
    unsupported,
)
from evaluator.annotation.file import Row, read_rows
from evaluator.annotation.question_sets import choices_of, in_own_fields, right_choice, shuffled, with_choices
from evaluator.annotation.span_fields import SPAN_FIELDS, row_span
from evaluator.audio.clip import Clip, Stamp
from evaluator.audio.source import MEMBER_MARK, with_span
from evaluator.errors import AnnotationError, Problem
from evaluator.spooled_list import Column, SpooledList
from evaluator.tasks import QA, Mode, Task, is_scored, task_of
from evaluator.wording import counted, did_you_mean, nearest, shown

SUBMISSION_ID = re.compile(r"test[0-9]{4}")
"""To be used with fullmatch: `$` would let a trailing line break through, `\\d` the digits of other
scripts."""

CheckAudio = Callable[[Path], "str | None"]

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Sample:
    """One row.

    Attributes:
        index: 0-based row number.
        id: the row's testset_id; where a valid mode's row has none, its path as written.
        path: the audio file, or the part of one that a row's start and end say (evaluator/audio/source.py).
        task: the label, for example "asr" or "audiocaption_v2".
        question: the row's Q with its choices below it, "" where it has none.
        references: the row's text in valid modes; empty in submission modes.
        choices: of a question with given answers, in the order in which they are asked.
        further: files that are joined to the first one (the row's expand_wav).
        stamps: what the files, the first one in front, looked like when they were checked; none where they were not.
    """

    index: int
    id: str
    path: Path
    task: str
    question: str
    references: tuple[str, ...]
    choices: tuple[str, ...] = ()
    further: tuple[Path, ...] = ()
    stamps: tuple[Stamp, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the clip, in the order in which they are heard."""
        return (self.path, *self.further)

    @property
    def clip(self) -> Path | Clip:
        """The clip, to be loaded."""
        return Clip(self.files, self.stamps) if self.further or self.stamps else self.path


class Samples(SpooledList[Sample]):
    """Samples in a list that takes no memory; a field of all of them is read quicker than the samples themselves."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        super().__init__(samples, pack=_packed, unpack=_unpacked)

    @property
    def rows(self) -> Column[int]:
        """The row numbers."""
        return Column(self, itemgetter(0))

    @property
    def ids(self) -> Column[str]:
        """The testset_ids."""
        return Column(self, itemgetter(1))

    @property
    def files(self) -> Column[tuple[str, ...]]:
        """The audio files of each clip."""
        return Column(self, lambda packed: (packed[2], *packed[7]))

    @property
    def tasks(self) -> Column[str]:
        """The task labels."""
        return Column(self, itemgetter(3))

    @property
    def references(self) -> Column[tuple[str, ...]]:
        """The references."""
        return Column(self, itemgetter(5))

    @property
    def choices(self) -> Column[tuple[str, ...]]:
        """The choices of questions."""
        return Column(self, itemgetter(6))


def _packed(sample: Sample) -> tuple[Any, ...]:
    further, stamps = tuple(map(str, sample.further)), tuple(map(tuple, sample.stamps))
    texts = (sample.id, str(sample.path), sample.task, sample.question)
    return (sample.index, *texts, sample.references, sample.choices, further, stamps)


def _unpacked(packed: tuple[Any, ...]) -> Sample:
    index, identifier, path, task, question, references, choices, further, stamps = packed
    files, seen = tuple(map(Path, further)), tuple(Stamp(*stamp) for stamp in stamps)
    return Sample(index, identifier, Path(path), task, question, references, choices, files, seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """An annotation file that was read once.

    Attributes:
        path: the file.
        prefix: folder that relative audio paths start from.
        rows: all rows, as they are written.
        samples: those of them that nothing is wrong with, in the file's order.
        problems: what is wrong with the others.
    """

    path: Path
    prefix: str
    rows: Sequence[Row]
    samples: Sequence[Sample]
    problems: list[Problem]

    def check_audio(self, check: CheckAudio, samples: Iterable[Sample] | None = None) -> None:
        """Ask about the files of samples, by default all; what is wrong with one joins the problems of its rows."""
        prefix_is_there = not self.prefix or os.path.isdir(self.prefix)  # noqa: PTH112 - Path.is_dir() raises where it may not look
        for sample in self.samples if samples is None else samples:
            if not prefix_is_there and not _is_absolute(self.rows[sample.index]):
                self._note_once(
                    f"datasets.prefix: there is no folder {shown(self.prefix)} for the audio paths to start from"
                )
                continue
            for file in sample.files:
                wrong = check(file)
                if wrong is not None:
                    row, field = self.rows[sample.index], "path" if file == sample.path else EXPAND_FIELD
                    message = f"{field}: {wrong}{_tried_below(self.prefix, file, row)}"
                    self.problems.append(Problem(_where(self.path, row), message))

    def _note_once(self, message: str) -> None:
        problem = Problem(str(self.path), message)
        if problem not in self.problems:
            self.problems.append(problem)

    def without_problems(self) -> Sequence[Sample]:
        """All samples.

        Raises:
            AnnotationError: there are problems; it has every one.
        """
        if self.problems:
            raise AnnotationError(f"The annotation {self.path} has {counted(self.problems)}:", self.problems)
        return self.samples


def read_annotation(
    path: Path, *, prefix: str, mode: Mode, known_tasks: Mapping[str, bool], shuffle: int | None = None
) -> Annotation:
    """Read an annotation file and check its rows.

    Args:
        path: the file.
        prefix: folder that relative audio paths start from; an absolute path in a row stands for itself where it is
            there, and for a file below the prefix otherwise.
        mode: submission modes want ids of the form test0000, each once, and no text; valid modes want text
            and only rows of their task.
        known_tasks: task label -> whether it needs a question.
        shuffle: orders the choices of questions anew; None leaves them.

    Returns:
        Annotation: the samples, and every problem: where it is, the field, the value, and what to do.

    Raises:
        AnnotationError: the file cannot be read as rows.

    Example:
        {"annotation": [{"testset_id": "test0000", "path": "a.flac", "task": "asr", "text": "hello"}]}
        with the prefix "/data" becomes, in mode valid_asr, the samples
        [Sample(0, "test0000", Path("/data/a.flac"), "asr", "", ("hello",))].
    """
    rows = read_rows(path)
    if task_of(mode) == QA:
        rows = SpooledList(map(in_own_fields, rows))
    problems: list[Problem] = []
    if not rows:
        problems.append(Problem(str(path), "the annotation has no rows"))
    reader = _RowReader(
        path=path, prefix=prefix, mode=mode, known_tasks=known_tasks, problems=problems, shuffle=shuffle
    )
    samples = Samples(sample for row in rows if (sample := reader.sample(row)) is not None)
    if not is_scored(mode):
        _report_duplicates(path, rows, problems)
    return Annotation(path=path, prefix=prefix, rows=rows, samples=samples, problems=problems)


def submission_ids(path: Path) -> tuple[str, ...]:
    """The ids that a submission for this annotation must have, in its order.

    Raises:
        AnnotationError: the file cannot be read, or has a row without a well-formed id, or an id twice.
    """
    rows = read_rows(path)
    problems: list[Problem] = []
    for row in rows:
        identifier = row.value.get("testset_id") if isinstance(row.value, dict) else None
        if not isinstance(identifier, str) or not SUBMISSION_ID.fullmatch(identifier):
            problems.append(Problem(_where(path, row), f"testset_id: {_ID_RULE}, found {shown(identifier)}"))
    _report_duplicates(path, rows, problems)
    if problems or not rows:
        raise AnnotationError(f"The annotation {path} cannot tell the ids of a submission.", problems)
    return tuple(row.value["testset_id"] for row in rows)


_ID_RULE = 'expected "test" and four digits, as in test0000'


def _where(path: Path, row: Row) -> str:
    """ "file.json: row 3 (test0002)", or with the line where the file has one row a line: "file.jsonl:3"."""
    identifier = row.value.get("testset_id") if isinstance(row.value, dict) else None
    named = f" ({shown(identifier)[1:-1]})" if isinstance(identifier, str) and identifier else ""
    place = f"{path}:{row.line}" if row.line is not None else f"{path}: row {row.number}"
    return place + named


def _report_duplicates(path: Path, rows: Sequence[Row], problems: list[Problem]) -> None:
    first: dict[str, int] = {}
    for row in rows:
        identifier = row.value.get("testset_id") if isinstance(row.value, dict) else None
        if not isinstance(identifier, str) or not identifier:
            continue
        if identifier in first:
            message = f"testset_id: {shown(identifier)} was used by row {first[identifier]} already; ids are unique"
            problems.append(Problem(_where(path, row), message))
        else:
            first[identifier] = row.number


def _tried_below(prefix: str, file: Path, row: Row) -> str:
    """Where else a missing file was looked for: "/a.flac" may stand for prefix/a.flac."""
    written = [row.value["path"], *expansion(row.value)]
    below = below_prefix(prefix, str(file)) if str(file) in written and os.path.isdir(prefix) else None  # noqa: PTH112
    return f" Nor does {below!r}, below datasets.prefix." if below is not None and not os.path.lexists(file) else ""


def _is_absolute(row: Row) -> bool:
    return Path(row.value["path"]).is_absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowReader:
    """Turns rows into samples and collects what is wrong with them."""

    path: Path
    prefix: str
    mode: Mode
    known_tasks: Mapping[str, bool]
    problems: list[Problem]
    shuffle: int | None

    def sample(self, row: Row) -> Sample | None:
        """The row's sample, or None if it has problems; the problems are noted."""
        before = len(self.problems)
        if not isinstance(row.value, dict):
            self.note(row, f"expected an object with testset_id, path and task, found {shown(row.value)}")
            return None
        for key in row.repeated_keys:
            self.note(row, f"{shown(key)[1:-1]}: the field appears twice in the row")
        for problem in unsupported(row.value, SPAN_FIELDS):
            self.note(row, problem)
        audio, identifier = self.audio_path(row), self.identifier(row)
        references = self.references(row) if is_scored(self.mode) else ()
        choices = self.choices(row, identifier, references)
        sample = Sample(
            index=row.number - 1,
            id=identifier,
            path=audio,
            task=self.task(row),
            question=with_choices(self.question(row), choices),
            references=references,
            choices=choices,
            further=self.further(row),
        )
        return sample if len(self.problems) == before else None

    def note(self, row: Row, message: str) -> None:
        self.problems.append(Problem(_where(self.path, row), message))

    def text_field(self, row: Row, name: str, hint: str = "") -> str:
        """A required field that is a text with something in it, or "" after noting what is wrong."""
        value = row.value.get(name)
        if name not in row.value:
            self.note(row, f"{name}: the field is missing{_similar(name, row.value)}{hint}")
        elif not isinstance(value, str) or not value.strip():
            self.note(row, f"{name}: expected a text, found {shown(value)}{hint}")
        elif _UNPRINTABLE.search(value):
            self.note(row, f"{name}: a control character or broken Unicode is in {shown(value)}")
        else:
            return value
        return ""

    def identifier(self, row: Row) -> str:
        if is_scored(self.mode):
            if row.value.get("testset_id") is None:
                path = row.value.get("path")
                return path if isinstance(path, str) else ""
            return self.text_field(row, "testset_id")
        value = self.text_field(row, "testset_id", hint=f"; {_ID_RULE}")
        if value and not SUBMISSION_ID.fullmatch(value):
            self.note(row, f"testset_id: {_ID_RULE}, found {shown(value)}")
        return value

    def audio_path(self, row: Row) -> Path:
        value = self.text_field(row, "path")
        problem = path_problem(value)
        if problem is not None:
            self.note(row, f"path: {problem}")
            return Path(self.prefix, value)
        span, problem = row_span(row.value)
        if problem is not None:
            self.note(row, problem)
        file, mark, member = value.partition(MEMBER_MARK)
        return Path(with_span(located(self.prefix, file + mark[:-1]) + mark[-1:] + member, span))

    def further(self, row: Row) -> tuple[Path, ...]:
        problem = expansion_problem(row.value)
        if problem is not None:
            self.note(row, f"{EXPAND_FIELD}: {problem}")
            return ()
        return tuple(Path(located(self.prefix, path)) for path in expansion(row.value))

    def task(self, row: Row) -> str:
        label = self.text_field(row, "task")
        if not label:
            return ""
        own: Task = task_of(self.mode)
        if label not in self.known_tasks:
            self.note(row, f"task: {shown(label)} is unknown; {did_you_mean(label, self.known_tasks)}")
        elif is_scored(self.mode) and label not in own.labels:
            expected = " or ".join(f'"{name}"' for name in own.labels)
            self.note(row, f"task: {shown(label)} is not scored by {self.mode}, which takes {expected}")
        return label

    def question(self, row: Row) -> str:
        value = row.value.get("Q", "")
        if value is None:
            value = ""
        if not isinstance(value, str):
            self.note(row, f"Q: expected a text, found {shown(value)}")
            return ""
        if _SURROGATE.search(value):
            self.note(row, f"Q: broken Unicode (half of a surrogate pair) is in {shown(value)}")
        task = row.value.get("task")
        if isinstance(task, str) and self.known_tasks.get(task, False) and not value.strip():
            self.note(row, f"Q: the task {shown(task)} asks the question in this field, which is missing or blank")
        return value

    def choices(self, row: Row, identifier: str, references: tuple[str, ...]) -> tuple[str, ...]:
        """The choices as they are asked; what is right has to be one of them."""
        written, problem = choices_of(row.value)
        if problem is not None:
            self.note(row, problem)
        for answer in references if written else ():
            if right_choice(answer, written) is None:
                self.note(row, f"text: {shown(answer)} is none of the choices {shown(list(written))}")
        return shuffled(written, seed=self.shuffle, identifier=identifier)

    def references(self, row: Row) -> tuple[str, ...]:
        value = row.value.get("text")
        if "text" not in row.value:
            hint = "; valid modes compare with it, submission modes go without"
            self.note(row, f"text: the field is missing{_similar('text', row.value)}{hint}")
            return ()
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            self.note(row, f"text: expected a text or a list of texts, found {shown(value)}")
            return ()
        if any(map(_SURROGATE.search, texts)):
            self.note(row, f"text: broken Unicode (half of a surrogate pair) is in {shown(value)}")
        own = task_of(self.mode)
        if len(texts) > 1 and not own.many_references:
            self.note(row, f"text: {own.title} compares with exactly one reference, found {len(texts)}")
        return tuple(texts)


def _similar(name: str, fields: Mapping[str, Any]) -> str:
    others = [field for field in fields if field not in ("testset_id", "path", "task", "Q", "text")]
    meant = nearest(name, others)
    return f"; is {shown(meant)} meant?" if meant is not None else ""
