"""Everything that can be wrong before a model is loaded, found before a model is loaded.

In: a validated config and the model package, of which only its light questions are asked. Out: the samples,
what their audio headers say, and notices; or one error that lists every problem of the annotation, the audio
and the output folder.
"""

import tempfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from evaluator.annotation.annotation import Sample, Samples, read_annotation
from evaluator.annotation.clip_fields import is_ambiguous
from evaluator.annotation.clip_headers import ClipHeaders
from evaluator.annotation.references import group_references
from evaluator.audio.reading import MIN_SECONDS
from evaluator.config.config import Config
from evaluator.errors import AnnotationError, AudioLMError, ConfigError, Problem
from evaluator.model import ModelProvider
from evaluator.provider.probe import MOST_SECONDS
from evaluator.provider.questions import check_parts, found_notices, found_seconds, known_tasks
from evaluator.scoring import scoring
from evaluator.statistics.units import CLIP, Units, find_units
from evaluator.tasks import Mode, Task, is_scored, task_of
from evaluator.wording import counted, named


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known before the model is loaded.

    Attributes:
        task: what the mode scores.
        annotation: the annotation file.
        samples: its rows, one for each clip.
        all_rows: how many it has, where `samples` are only the first of them; else None.
        lengths: how long each row's clip is, in seconds; 0.0 where it cannot be read.
        limit: seconds of a clip that the model hears.
        digests: tell each row's clip from others (`AudioFacts.digest`); None where it cannot be read.
        notices: what the user should know, in sentences.
        units: what is drawn anew for the scores' intervals.
    """

    task: Task
    annotation: Path
    samples: Samples
    all_rows: int | None
    lengths: Sequence[float]
    limit: float
    digests: Sequence[str | None]
    notices: tuple[str, ...]
    units: Units = field(default_factory=Units)

    @property
    def seconds(self) -> "array[float]":
        """How much audio of each row's clip the model will hear, in seconds; 0.0 where it cannot be read."""
        return array("d", (min(max(length, MIN_SECONDS), self.limit) if length else 0.0 for length in self.lengths))

    @property
    def cut(self) -> int:
        """How many clips are longer than what the model hears."""
        return sum(length > self.limit for length in self.lengths)

    def heard(self, seconds: float | None) -> "Preflight":
        """The same for a model that is loaded and may say itself how many seconds of a clip it hears."""
        if seconds is None or seconds == self.limit:
            return self
        notices = _cut_notice(self.samples, self.lengths, seconds)
        return replace(self, limit=seconds, notices=(*self.notices, *notices))


def preflight(
    provider: ModelProvider, config: Config, mode: Mode, *, limit: int | None = None, loads: bool = True
) -> Preflight:
    """Check everything that needs no model.

    Args:
        provider: the model package.
        config: the validated config.
        mode: what will be run.
        limit: so many of the first rows, for a try; None: all. The clips of the others are not looked at.
        loads: whether a model is loaded next, so that its files are checked too.

    Returns:
        Preflight: samples and notices.

    Raises:
        AudioLMError: with every problem; a ConfigError, or an AnnotationError if rows or clips are wrong.
    """
    task = task_of(mode)
    headers = ClipHeaders()
    errors: list[AudioLMError] = []
    clips = _Clips([], None, [])
    try:
        annotation, tasks = config.annotation_path(task), known_tasks(provider, config)
    except ConfigError as error:
        raise _joined([error, *_problems_beside_the_data(provider, config, loads=loads)]) from error
    try:
        clips = _load(annotation, tasks, config, mode, limit, headers)
    except AnnotationError as error:
        errors.append(error)
    errors += _problems_beside_the_data(provider, config, loads=loads)
    notices = [*config.notices, *found_notices(provider, config), *clips.notices]
    if headers.unreadable:
        notices.append(f"Clips that cannot be read, as their rows will say: {_named(headers.unreadable)}.")
    samples, lengths = headers.samples, headers.lengths
    notices += [*headers.warnings, *_path_notices(samples, config.datasets.prefix)]
    heard = found_seconds(provider, config) if not errors else MOST_SECONDS
    notices += _cut_notice(samples, lengths, heard)
    try:
        notices += scoring.preflight(task, config.scoring, samples.references, samples.tasks) if is_scored(mode) else []
    except AnnotationError as error:
        errors.append(error)
    except ConfigError as error:
        # Scoring knows the key; where it stands is the config's knowledge.
        located = [Problem(f"{config.locate(p.where)}: {p.where}", p.message) for p in error.problems]
        errors.append(ConfigError(error.message, located))
    if errors:
        raise _joined(errors)
    return Preflight(
        task=task,
        annotation=annotation,
        samples=samples,
        all_rows=clips.all_rows,
        lengths=lengths,
        limit=heard,
        digests=headers.digests,
        notices=tuple(notices),
        units=clips.units,
    )


def _problems_beside_the_data(provider: ModelProvider, config: Config, *, loads: bool) -> list[AudioLMError]:
    """What is wrong with the files of the model, if it is loaded next, and with the output folder."""
    errors: list[AudioLMError] = []
    for check in (partial(check_parts, provider, config, needed=loads), partial(check_output_folder, config)):
        try:
            check()
        except ConfigError as error:
            errors.append(error)
    return errors


def check_output_folder(config: Config) -> None:
    """Make the output folder and try to write into it.

    Raises:
        ConfigError: that does not work.
    """
    folder = Path(config.run.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror}; choose another folder (--output-dir)"
        problem = Problem(f"{config.locate('run.output_dir')}: run.output_dir", message)
        raise ConfigError("The results cannot be written.", [problem]) from error


class _Clips(NamedTuple):
    """One sample for each clip that is run, how many there are if these are the first of them, notices, units."""

    samples: Sequence[Sample]
    all_rows: int | None
    notices: list[str]
    units: Units = Units()


def _clips(samples: Sequence[Sample], *, mode: Mode, limit: int | None) -> _Clips:
    """Group the rows of a clip, and take the first clips where there is a limit."""
    clips, told = samples, list[str]()
    if is_scored(mode) and task_of(mode).many_references:
        clips, told = group_references(clips)
    if limit is None or limit >= len(clips):
        return _Clips(clips, None, told)
    part = f"The first {limit} of {len(clips)} rows are run (--limit); scores of a part do not compare."
    if not is_scored(mode):
        part = f"The first {limit} of {len(clips)} rows are run (--limit): the CSV is a try and no submission."
    return _Clips(clips[:limit], len(clips), [*told, part])


def _load(
    path: Path, tasks: Mapping[str, bool], config: Config, mode: Mode, limit: int | None, headers: ClipHeaders
) -> _Clips:
    """Read the annotation and the headers of the clips that are run; of a file with bad rows those of its good ones.

    Raises:
        AnnotationError: with the problems of rows and audio.
    """
    data = config.datasets
    annotation = read_annotation(path, prefix=data.prefix, mode=mode, known_tasks=tasks, shuffle=data.shuffle_choices)
    found = _clips(annotation.samples, mode=mode, limit=None if annotation.problems else limit)
    tolerant = config.run.on_audio_error == "record"
    headers.read(annotation, found.samples, tolerant=tolerant, workers=config.run.num_workers)
    annotation.without_problems()
    scoring_config = config.scoring
    if not is_scored(mode):
        return found
    if scoring_config.unit == CLIP and scoring_config.unit_field:
        found.notices.append("scoring.unit_field has no effect: scoring.unit is clip.")
    units = find_units(scoring_config.unit, scoring_config.unit_field, annotation.rows, found.samples, annotation=path)
    return found._replace(units=units)


def _cut_notice(samples: Samples, lengths: Sequence[float], limit: float) -> list[str]:
    cut = [samples.ids[place] for place, length in enumerate(lengths) if length > limit]
    return [f"Clips longer than {limit:g} s, of which the model hears the beginning: {_named(cut)}."] if cut else []


def _path_notices(samples: Samples, prefix: str) -> list[str]:
    """Which absolute paths might have been meant as paths below datasets.prefix, where a file lies as well."""
    both = [
        samples.ids[place]
        for place, files in enumerate(samples.files)
        if any(is_ambiguous(prefix, file) for file in files)
    ]
    if not both:
        return []
    return [f"Paths that begin with / and are there, and below datasets.prefix too; taken as absolute: {_named(both)}."]


def _named(ids: Sequence[str]) -> str:
    """["test0001", "test0004"] -> "2 (test0001, test0004)"."""
    return f"{len(ids)} ({named(ids)})"


def _joined(errors: Sequence[AudioLMError]) -> AudioLMError:
    """One error with the problems of all; its kind, and with it the exit code, is the first one's."""
    if len(errors) == 1:
        return errors[0]
    problems = [problem for error in errors for problem in error.problems or (Problem("", error.message),)]
    return type(errors[0])(f"The run cannot start, there are {counted(problems)}:", problems)
