"""What changed from one run to another on the same clips: rows fixed, rows broken, and what that does to the score."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evaluator.comparison.comparable import comparable
from evaluator.comparison.compare import Pair, compare, setting_differences
from evaluator.comparison.sources import reference_of_runs
from evaluator.comparison.system import System
from evaluator.comparison.units import units_of
from evaluator.comparison.words import Suspect, Words, align_systems, suspects
from evaluator.errors import AudioLMError
from evaluator.report.runs import Run
from evaluator.scoring.result import KINDS
from evaluator.statistics.units import CLIP, Units

CHANGES = ("fixed", "broken", "better", "worse")
"""A wrong row that is right now, a right one that is wrong now; rows that were wrong, or have no right, and changed."""
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """A run against another one.

    Attributes:
        other: what it is compared with; its rows are in the run's order.
        metric: by which.
        changes: row -> one of CHANGES; rows that did not change are not there.
        effects: change -> what its rows did to the score, in the metric's scale; their sum is the whole difference.
        values: the other's value and the run's.
        pair: interval and test; None without numpy, or where the metric is no mean over rows.
        settings: what the two runs were made of and differs: name -> the other's value, the run's.
        suspects: clips where both say the same, and not the reference's; none where both are of one checkpoint.
    """

    other: System
    metric: str
    changes: Mapping[int, str]
    effects: Mapping[str, float]
    values: tuple[float, float]
    pair: Pair | None
    settings: Mapping[str, tuple[str, str]]
    suspects: tuple[Suspect, ...] = field(default=())

    def rows(self, change: str) -> list[int]:
        """The rows of one of CHANGES."""
        return [row for row, told in self.changes.items() if told == change]


def difference(run: Run, other: Run) -> Difference:
    """Compare a run with another.

    Raises:
        AudioLMError: they are not of the same clips, or share no metric with rows; with every reason.
    """
    theirs = other.system
    if theirs.name == run.name:
        name = other.folder.absolute().name
        theirs = replace(theirs, name=name if name != run.name else f"{name} (other)")
    (own, theirs), metrics = comparable([run.system, theirs], ())
    metric = run.metric if run.metric in metrics else metrics[0]
    changes, effects = _changes(own, theirs, metric)
    differing = setting_differences([theirs, own])
    return Difference(
        other=theirs,
        metric=metric,
        changes=changes,
        effects=effects,
        values=(theirs.metrics[metric].value, own.metrics[metric].value),
        pair=_pair(own, theirs, metric),
        settings={name: (told[theirs.name], told[own.name]) for name, told in differing.items()},
        suspects=tuple(suspects(_words(own, theirs))) if _other_models(run, other) else (),
    )


def _changes(own: System, theirs: System, metric: str) -> tuple[dict[int, str], dict[str, float]]:
    kind, mine, other = KINDS[metric], own.metrics[metric], theirs.metrics[metric]
    whole = sum(mine.below) or 1.0
    changes: dict[int, str] = {}
    effects = dict.fromkeys(CHANGES, 0.0)
    for row, (before, now, below) in enumerate(zip(other.above, mine.above, mine.below, strict=True)):
        if before == now:
            continue
        right = 0.0 if kind.unit else below if kind.scale == "0 to 1" and _is_all_or_nothing(mine.above) else None
        better = (now > before) == kind.higher_is_better
        change = (
            "fixed" if better and now == right else "broken" if not better and before == right
            else "better" if better else "worse"
        )  # fmt: skip
        changes[row] = change
        effects[change] += (now - before) / whole
    return changes, effects


def _is_all_or_nothing(values: Sequence[float]) -> bool:
    return set(values) <= {0.0, 1.0}


def _other_models(run: Run, other: Run) -> bool:
    """Whether two runs are of two checkpoints: one model with two settings agrees with itself because it errs alike."""
    return (run.record.model, run.record.checkpoint) != (other.record.model, other.record.checkpoint)


def _words(own: System, theirs: System) -> Words:
    try:
        return align_systems([theirs, own])
    except AudioLMError as error:
        return Words(reason=error.message)


def _pair(own: System, theirs: System, metric: str) -> Pair | None:
    if importlib.util.find_spec("numpy") is None:
        return None
    systems = [theirs, own]
    found = compare(
        systems,
        (metric,),
        _units(own, systems),
        Words(),
        slices={},
        resamples=_RESAMPLES,
        seed=own.scoring.bootstrap_seed,
    )
    return found.tables[0].pairs[0]


def _units(own: System, systems: Sequence[System]) -> Units:
    """The run's own unit; clips where the annotation that would tell it is gone."""
    scoring = own.scoring
    if scoring.unit == CLIP:
        return Units()
    try:
        return units_of(scoring.unit, scoring.unit_field, systems, reference_of_runs(systems))
    except AudioLMError:
        return Units()
