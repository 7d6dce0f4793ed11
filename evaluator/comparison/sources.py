"""Read a system from what there is of it: a run folder, a predictions.jsonl, or a file of answers with its annotation.

A run folder's scores are those of its scores.json. A file has none: its answers are scored here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evaluator.annotation.annotation import Annotation, Sample, read_annotation
from evaluator.annotation.file import read_rows
from evaluator.annotation.references import group_references
from evaluator.answer_files.file import PREDICTIONS, read_answers
from evaluator.answer_files.matching import match
from evaluator.comparison.system import Measured, System
from evaluator.config.sections import ScoringConfig
from evaluator.errors import ResultError
from evaluator.files import sha256
from evaluator.run.folder import RunPaths, paths_of
from evaluator.run.journal import Prediction, read_journal
from evaluator.run.record import RunRecord
from evaluator.scoring.intervals import OF_COUNTS, error_columns
from evaluator.scoring.result import KINDS
from evaluator.scoring.scored_set import score_set
from evaluator.statistics.units import Units
from evaluator.tasks import MODES, TASKS, Task, is_scored, task_of
from evaluator.wording import named, printable

# What differs between any two runs and says nothing about them.
_NOT_TOLD = frozenset({"run.output_dir", "run.device"})


@dataclass(frozen=True, slots=True)
class Source:
    """Where a system is: a folder or file, and its name, "" for one made of the path."""

    path: Path
    name: str = ""


def parse_source(text: str) -> Source:
    """ "B=runs/b" -> Source(runs/b, "B"); a path that exists is one, whatever its name."""
    name, found, rest = text.partition("=")
    if not found or Path(text).exists():
        return Source(Path(text))
    return Source(Path(rest), printable(name.strip()))


@dataclass(frozen=True, slots=True)
class Reference:
    """An annotation that answers are compared with: its rows as they are, one sample a clip, and the task."""

    path: Path
    annotation: Annotation
    samples: tuple[Sample, ...]
    task: Task


def read_reference(path: Path) -> Reference:
    """Read an annotation for files that carry no references.

    Raises:
        AudioLMError: it cannot be read, has problems, or its first row is of no task that is scored.
    """
    rows = read_rows(path)
    label = rows[0].value.get("task") if rows and isinstance(rows[0].value, dict) else None
    task = next((each for each in TASKS if label in each.labels), None)
    if task is None:
        known = ", ".join(name for each in TASKS for name in each.labels)
        raise ResultError(f"{path}: the first row's task is {label!r}, which is not scored; known: {known}.")
    mode = next(mode for mode in MODES if is_scored(mode) and task_of(mode) == task)
    annotation = read_annotation(path, prefix="", mode=mode, known_tasks=dict.fromkeys(task.labels, False))
    samples = annotation.without_problems()
    if task.many_references:
        samples, _ = group_references(samples)
    return Reference(path, annotation, tuple(samples), task)


def reference_of_runs(systems: Sequence[System]) -> Reference:
    """The annotation that runs have read, where it is still there and has not changed.

    Raises:
        AudioLMError: it is not; it cannot be read.
    """
    path, digest = next((system.annotation for system in systems if system.annotation[0]), ("", ""))
    file = Path(path)
    cure = "give --annotation FILE.json"
    if not path:
        raise ResultError(f"No system names its annotation: {cure}.")
    if not file.is_file() or sha256(file) != digest:
        raise ResultError(f"{path} is not the annotation that the runs have read any more: {cure}.")
    return read_reference(file)


def read_systems(sources: Sequence[Source], reference: Reference | None, *, protocol: str | None) -> list[System]:
    """Read systems; files are scored by `protocol`, else as the first run folder was, else as usual.

    Args:
        sources: where they are.
        reference: what files are scored against; a run folder has its own references, and so has a predictions.jsonl
            where this is None.
        protocol: as `scoring.protocol`, for files.

    Raises:
        AudioLMError: one cannot be read; the protocol does not exist.
    """
    folders = {source: read_system(source, reference) for source in sources if source.path.is_dir()}
    config = ScoringConfig() if not folders else next(iter(folders.values())).scoring
    if protocol is not None:
        config = config.model_copy(update={"protocol": protocol})
    return [folders[source] if source in folders else read_system(source, reference, config) for source in sources]


def read_system(source: Source, reference: Reference | None, config: ScoringConfig | None = None) -> System:
    """Read one system.

    Args:
        source: where it is.
        reference: as `read_systems`.
        config: how a file is scored; None: as usual.

    Raises:
        AudioLMError: it cannot be read.
    """
    name, path = source.name, source.path
    config = config or ScoringConfig()
    if path.is_dir():
        return _read_run(_run_folder(path), name)
    if not path.is_file():
        raise ResultError(f"{path} does not exist.")
    if reference is not None:
        return _against(path, name or path.stem, reference, config)
    if path.name != PREDICTIONS:
        raise ResultError(f"{path} has answers and no references: give --annotation FILE.json, or the run's folder.")
    return _read_predictions(path, name or printable(path.absolute().parent.name), config)


def _run_folder(path: Path) -> Path:
    """The run that a folder is, or the only one of a valid mode below it."""
    if (path / "run.json").is_file():
        return path
    found = sorted(file.parent for file in path.rglob("scores.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ResultError(f"{path} holds no run with scores: expected run.json, scores.json and predictions.jsonl.")
    raise ResultError(f"{path} holds {len(found)} runs ({named([str(each) for each in found], 3)}): give one of them.")


def _read_run(folder: Path, name: str) -> System:
    paths = paths_of(folder)
    record = RunRecord.read(paths.record)
    if record is None or record.mode is None:
        raise ResultError(f"{folder} has no run.json that can be read: expected the folder of a finished run.")
    if record.status != "finished":
        raise ResultError(f'{paths.record}: status is "{record.status}", not "finished": go on with it (--resume).')
    predictions = read_journal(paths.predictions)
    data = _read_scores(folder / "scores.json", [each.id for each in predictions])
    metrics, absent = _stored_metrics(data)
    return System(
        name=name or _name_of(paths),
        source=str(folder),
        task=data["task"],
        metrics=metrics,
        absent=absent,
        settings=_settings(record),
        annotation=(str((record.annotation or {}).get("path") or ""), str((record.annotation or {}).get("sha256"))),
        scoring=_scoring(record),
        **_answers(predictions),
    )


def _scoring(record: RunRecord) -> ScoringConfig:
    """The settings that a run was scored with, as far as this version knows them."""
    told = (record.config or {}).get("scoring") or {}
    try:
        return ScoringConfig.model_validate({key: told[key] for key in told if key in ScoringConfig.model_fields})
    except ValidationError:
        return ScoringConfig()


def _name_of(paths: RunPaths) -> str:
    """The folder's name; of one that --output-dir made, that folder's: systems/small/valid_results/<time>."""
    folder = paths.folder.absolute()
    return printable(folder.parent.parent.name if folder.parent.name == "valid_results" else folder.name)


def _answers(predictions: Sequence[Prediction]) -> dict[str, Any]:
    return {
        "ids": tuple(each.id for each in predictions),
        "references": tuple(_references(each) for each in predictions),
        "texts": tuple(each.text for each in predictions),
        "paths": tuple(each.path for each in predictions),
        "seconds": tuple(each.audio_seconds or None for each in predictions),
    }


def _references(prediction: Prediction) -> tuple[str, ...]:
    told = prediction.reference
    return () if told is None else (told,) if isinstance(told, str) else told


def _read_scores(path: Path, ids: Sequence[str]) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows, told = data["per_sample"], data["per_sample"]["id"]
        metrics = [(metric["name"], metric["value"]) for metric in data["metrics"]]
        lengths = {len(values) for values in rows.values()}
        known = data["task"] in {task.name for task in TASKS}
    except FileNotFoundError as error:
        raise ResultError(f"{path.parent} has no scores.json: give the folder of a run of a valid mode.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{path} is not the scores.json of a run: score the run again (--resume).") from error
    if told != list(ids) or lengths != {len(ids)} or not metrics or not known:
        raise ResultError(f"{path} is not of the same rows as predictions.jsonl: score the run again (--resume).")
    found: dict[str, Any] = data
    return found


def _stored_metrics(data: Mapping[str, Any]) -> tuple[dict[str, Measured], dict[str, str]]:
    """The metrics of scores.json that can be compared, and why others cannot."""
    metrics: dict[str, Measured] = {}
    absent: dict[str, str] = {}
    rows = data["per_sample"]
    for metric in data["metrics"]:
        name, value = str(metric["name"]), metric["value"]
        if name not in KINDS:
            absent[name] = "this version does not know it"
        elif value is None:
            absent[name] = str(metric.get("reason"))
        elif name in OF_COUNTS:
            absent[name] = f"{KINDS[name].title} is no mean over clips"
        else:
            columns = error_columns(name) if KINDS[name].unit else (name, "")
            if any(column and column not in rows for column in columns):
                absent[name] = "scores.json lacks its rows: score the run again (--resume)"
            else:
                above, below = _columns(rows, columns)
                if abs(sum(above) / (sum(below) or 1.0) - value) > 1e-6 * max(1.0, value):
                    raise ResultError(f"The rows of {name} do not add up to its value {value}: score again (--resume).")
                metrics[name] = Measured(float(value), protocol_of(metric), above, below)
    return metrics, absent


def protocol_of(metric: Mapping[str, Any]) -> str:
    """What must be equal for two scores to compare: the signature but for its interval, which is made anew."""
    told = str(metric.get("signature") or metric.get("protocol") or "")
    return "|".join(part for part in told.split("|") if not part.startswith("ci:"))


def _columns(rows: Mapping[str, Any], columns: tuple[str, str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    above = rows[columns[0]]
    below = rows[columns[1]] if columns[1] else [None if value is None else 1.0 for value in above]
    return tuple(float(value or 0) for value in above), tuple(float(value or 0) for value in below)


def _read_predictions(path: Path, name: str, config: ScoringConfig) -> System:
    predictions = read_journal(path)
    if not predictions:
        raise ResultError(f"{path} has no answers.")
    without = [each.id for each in predictions if each.reference is None]
    if without:
        cure = "give --annotation FILE.json"
        raise ResultError(f"{path}: {len(without)} rows have no reference ({named(without, 3)}): {cure}.")
    task = next((task for task in TASKS if predictions[0].task in task.labels), None)
    if task is None:
        raise ResultError(f"{path}: task {predictions[0].task!r} is not scored.")
    answers = _answers(predictions)
    metrics, absent = _scored(task, answers["references"], answers["texts"], config)
    return System(name=name, source=str(path), task=task.name, metrics=metrics, absent=absent, **answers)


def _against(path: Path, name: str, reference: Reference, config: ScoringConfig) -> System:
    """Score a file of answers against an annotation; all of its rows must be there and no others."""
    samples = reference.samples
    found = match(read_answers(path), samples, path=path, annotation=reference.path)
    references = tuple(sample.references for sample in samples)
    texts = tuple(answer.text for answer in found)
    metrics, absent = _scored(reference.task, references, texts, config, [sample.choices for sample in samples])
    return System(
        name=name,
        source=str(path),
        task=reference.task.name,
        ids=tuple(sample.id for sample in samples),
        references=references,
        texts=texts,
        paths=tuple(str(sample.path) for sample in samples),
        seconds=(None,) * len(samples),
        metrics=metrics,
        absent=absent,
    )


def _scored(
    task: Task,
    references: Sequence[tuple[str, ...]],
    texts: Sequence[str],
    config: ScoringConfig,
    choices: Sequence[tuple[str, ...]] = (),
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Score answers as a run does; intervals come later, for all systems from the same draws."""
    plain = config.model_copy(update={"bootstrap_resamples": 0})
    scores = score_set(task, references, texts, plain, Units(), choices)
    return _stored_metrics({"metrics": [metric.facts() for metric in scores.metrics], "per_sample": scores.per_sample})


def _settings(record: RunRecord) -> dict[str, str]:
    """What a run was made of, flat: "generate.num_beams" -> "4", "version of torch" -> "2.13.0"."""
    found = {
        f"{section}.{key}": json.dumps(value, ensure_ascii=False)
        for section, values in (record.config or {}).items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    found = {name: value for name, value in found.items() if name not in _NOT_TOLD}
    found |= {f"version of {package}": version for package, version in record.versions.items()}
    for name, file in (("annotation", record.annotation), ("checkpoint", record.checkpoint)):
        found[f"sha256 of the {name}"] = str((file or {}).get("sha256"))
    return found | {f"content of {key}": value for key, value in (record.model_files or {}).items() if value}
