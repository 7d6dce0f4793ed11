"""Read what a report tells of: the folder of a finished run of a valid mode, and what lies beside it.

In: paths, each PATH or NAME=PATH. Out: a run's record, scores, answers and what comparisons need of them; the earlier
run that it is compared with where none is given.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.comparison.sources import parse_source, read_system
from evaluator.comparison.system import System
from evaluator.errors import AudioLMError, ResultError
from evaluator.run.folder import paths_of
from evaluator.run.journal import Prediction, read_journal
from evaluator.run.record import RunRecord
from evaluator.scoring.result import KINDS, MetricKind

EFFICIENCY = "efficiency.json"
_EFFICIENCY_RESULTS = "efficiency_results"
_MOST_LOOKED_AT = 20
_MOST_FOLDERS = 50
"""Folders beside the run, latest first: a folder may hold thousands."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of a valid mode.

    Attributes:
        folder: where it lies.
        system: its rows and sums, as `compare` has them.
        record: its run.json.
        scores: its scores.json.
        predictions: its answers, in the order of the rows.
    """

    folder: Path
    system: System
    record: RunRecord
    scores: Mapping[str, Any]
    predictions: tuple[Prediction, ...]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.system.name

    @property
    def metric(self) -> str | None:
        """The metric that rows are judged by: the first one that has a value and rows; None where there is none."""
        rows = self.scores["per_sample"]
        names = [each["name"] for each in self.scores["metrics"] if each.get("value") is not None]
        return next((name for name in names if name in rows and name in KINDS), None)

    @property
    def kind(self) -> MetricKind | None:
        """What is known of that metric."""
        return None if self.metric is None else KINDS[self.metric]

    @property
    def row_scores(self) -> tuple[float | None, ...]:
        """One value a row, by that metric."""
        return () if self.metric is None else tuple(self.scores["per_sample"][self.metric])

    def scores_by_name(self) -> dict[str, float]:
        """Metric -> its value, of those that have one."""
        return {each["name"]: each["value"] for each in self.scores["metrics"] if each.get("value") is not None}

    @property
    def sums(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What the metric is the ratio of, one pair a row: edits and reference units, or the row's score and 1."""
        measured = self.system.metrics.get(self.metric or "")
        if measured is not None:
            return measured.above, measured.below
        rows = self.row_scores
        return tuple(value or 0.0 for value in rows), tuple(float(value is not None) for value in rows)


def read_run(source: str) -> Run:
    """Read a run.

    Args:
        source: PATH or NAME=PATH of a run's folder, or of a folder with one below it.

    Raises:
        AudioLMError: it cannot be read, is not finished, or has no scores.
    """
    system = read_system(parse_source(source), None)
    folder = Path(system.source)
    if not folder.is_dir():
        raise ResultError(f"{folder} is no folder: a report is made of a run's folder.")
    paths = paths_of(folder)
    record = RunRecord.read(paths.record)
    if record is None:
        raise ResultError(f"{folder} has no run.json that can be read.")
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return Run(folder, system, record, scores, tuple(read_journal(paths.predictions)))


def read_efficiency(run: Run) -> Mapping[str, Any] | None:
    """The efficiency.json that was measured with this run's model: in its folder, or the latest of its output folder.

    One of another model, or of other files under its names, is not taken.
    """
    if (run.folder / EFFICIENCY).is_file():
        return _object(run.folder / EFFICIENCY)
    results = run.folder.absolute().parent.parent / _EFFICIENCY_RESULTS
    found = sorted(results.glob(f"*/{EFFICIENCY}"), reverse=True)[:_MOST_LOOKED_AT] if results.is_dir() else []
    told = ((_object(file) or {}) for file in found)
    model = (run.record.config or {}).get("model")
    return next((each for each in told if model and (each.get("config") or {}).get("model") == model), None)


def _object(file: Path) -> Mapping[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(file.read_text(encoding="utf-8"))
        return data if isinstance(data, dict) else None
    return None


def find_earlier(run: Run) -> Run | None:
    """Find it: same mode, same content of the annotation, same part of it and same control, begun before.

    Returns:
        Run | None: None where there is none among the 50 folders before it, or none that can be read.
    """
    parent = run.folder.absolute().parent
    names = sorted(each.name for each in parent.iterdir() if each.is_dir() and each.name != run.folder.name)
    # Names begin with the time.
    before = [name for name in names if name < run.folder.absolute().name]
    for name in reversed(before[-_MOST_FOLDERS:]):
        if _is_alike(run.record, parent / name):
            try:
                return read_run(str(parent / name))
            except AudioLMError:
                continue
    return None


def _is_alike(record: RunRecord, folder: Path) -> bool:
    other = RunRecord.read(folder / "run.json")
    if other is None or other.status != "finished" or not (folder / "scores.json").is_file():
        return False
    own, its = record.annotation or {}, other.annotation or {}
    same = (record.mode, record.limit, record.control) == (other.mode, other.limit, other.control)
    return same and own.get("sha256") is not None and own.get("sha256") == its.get("sha256")
