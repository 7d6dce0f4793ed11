"""Systems compared: values and intervals of each, differences of each two with their tests, parts, changed clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from evaluator.comparison.slices import in_order
from evaluator.comparison.system import Measured, System
from evaluator.comparison.words import Suspect, Words, suspects
from evaluator.scoring.result import KINDS
from evaluator.statistics.bootstrap import Columns, ratio, resampled_sums, unit_sums
from evaluator.statistics.interval import FEW_UNITS, RULE_OF_THREE, interval_of, percentiles
from evaluator.statistics.mapsswe import Mapsswe, mapsswe
from evaluator.statistics.paired import holm, permutation_p
from evaluator.statistics.units import Units

Bounds = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two systems by one metric.

    Attributes:
        first: a system.
        second: another.
        difference: the second's value less the first's.
        bounds: its 95 % interval; None where no draw has one.
        better: share of the draws in which the second is better; of equal ones half.
        p: of the sign-flip permutation.
        p_holm: the same for all pairs of this metric together.
        wins: clips in which the second is better.
        losses: clips in which the first is.
        ties: the others.
        mapsswe: of word error rates, where words can be aligned.
        mapsswe_holm: its p for all pairs together.
    """

    first: str
    second: str
    difference: float
    bounds: Bounds
    better: float
    p: float
    wins: int
    losses: int
    ties: int
    mapsswe: Mapsswe | None = None
    p_holm: float = 1.0
    mapsswe_holm: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """One metric of all systems, or of a part of the clips.

    Attributes:
        metric: its name.
        clips: how many.
        values: system -> value; None where the part has no reference words.
        bounds: system -> 95 % interval.
        pairs: each two.
        remarks: system without an error -> what its interval is.
    """

    metric: str
    clips: int
    values: Mapping[str, float | None]
    bounds: Mapping[str, Bounds]
    pairs: tuple[Pair, ...]
    remarks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found.

    Attributes:
        systems: in the order given, rows in the first one's order.
        units: what was drawn.
        unit_count: how many there are.
        tables: one a metric.
        slices: name of the slicing -> part -> tables.
        words: alignments.
        suspects: clips whose reference may be wrong.
        resamples: of draws and signs.
        seed: of both.
    """

    systems: tuple[System, ...]
    units: Units
    unit_count: int
    tables: tuple[Table, ...]
    slices: Mapping[str, Mapping[str, tuple[Table, ...]]]
    words: Words
    suspects: tuple[Suspect, ...]
    resamples: int
    seed: int

    @property
    def notes(self) -> list[str]:
        """What must be known of the figures."""
        found = []
        if self.unit_count < FEW_UNITS:
            found.append(f"only {self.units.counted(self.unit_count)}: intervals are too narrow, and p-values coarse")
        for table in self.tables:
            title = KINDS[table.metric].title
            found += [f"{title} of {name}: {remark}" for name, remark in table.remarks.items()]
        if self.words.reason is not None:
            found.append(f"no alignment and no MAPSSWE: {self.words.reason}")
        return found


def compare(
    systems: Sequence[System],
    metrics: Sequence[str],
    units: Units,
    words: Words,
    *,
    slices: Mapping[str, Sequence[str]],
    resamples: int,
    seed: int,
) -> Comparison:
    """Compare systems.

    Args:
        systems: comparable, rows in one order.
        metrics: that all of them have.
        units: what is drawn.
        words: alignments for MAPSSWE.
        slices: name of a slicing -> the part of each clip.
        resamples: draws of the bootstrap, and of signs.
        seed: of both.
    """
    rows = range(len(systems[0].ids))
    tables = [_table(systems, metric, units, rows, resamples=resamples, seed=seed) for metric in metrics]
    parts = {
        name: {
            part: tuple(
                _table(
                    systems,
                    metric,
                    units,
                    [row for row in rows if labels[row] == part],
                    resamples=resamples,
                    seed=seed,
                )
                for metric in metrics
            )
            for part in in_order(labels)
        }
        for name, labels in slices.items()
    }
    return Comparison(
        systems=tuple(systems),
        units=units,
        unit_count=len(set(units.labels)) if units.labels else len(rows),
        tables=tuple(_tested(table, words) for table in tables),
        slices=parts,
        words=words,
        suspects=tuple(suspects(words)),
        resamples=resamples,
        seed=seed,
    )


def _table(
    systems: Sequence[System], metric: str, drawn_units: Units, rows: Sequence[int], *, resamples: int, seed: int
) -> Table:
    """One metric over some of the clips. All systems share the draws."""
    import numpy as np

    columns = [column for system in systems for column in _sums(system.metrics[metric])]
    chosen = np.array(columns, dtype=np.float64).T[list(rows)]
    labels = drawn_units.labels
    units = unit_sums(chosen, [labels[row] for row in rows] if labels else ())
    drawn = resampled_sums(units, resamples=resamples, seed=seed)
    rates = {each.name: ratio(drawn[:, 2 * i : 2 * i + 2]) for i, each in enumerate(systems)}
    totals = units.sum(axis=0)
    whole = len(rows) == len(systems[0].ids)
    values = {
        # The mean of a library may end in another digit than ours.
        each.name: each.metrics[metric].value if whole else ratio(totals[None, 2 * i : 2 * i + 2]).tolist()[0]
        for i, each in enumerate(systems)
    }
    values = {name: value if math.isfinite(value) else None for name, value in values.items()}
    pairs = []
    for one, other in combinations(range(len(systems)), 2):
        clips = chosen[:, 2 * other] - chosen[:, 2 * one]
        by_unit = units[:, 2 * other] - units[:, 2 * one]
        pair = _pair(metric, [systems[one].name, systems[other].name], values, rates, clips)
        pair = replace(pair, p=permutation_p(by_unit, resamples=resamples, seed=seed))
        # Of a single unit every draw is the same.
        pairs.append(pair if len(units) > 1 else replace(pair, bounds=None, better=0.5))
    bounds: dict[str, Bounds] = {}
    remarks: dict[str, str] = {}
    for i, each in enumerate(systems):
        found = interval_of(
            rates[each.name], units[:, 2 * i : 2 * i + 2], units=drawn_units, seed=seed, rate_of=KINDS[metric].unit
        )
        bounds[each.name] = (found.low, found.high) if found.low is not None and found.high is not None else None
        if found.method == RULE_OF_THREE and found.remark:
            remarks[each.name] = found.remark
    return Table(metric, len(rows), values, bounds, tuple(pairs), remarks)


def _sums(measured: Measured) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return measured.above, measured.below


def _pair(
    metric: str,
    names: Sequence[str],
    values: Mapping[str, float | None],
    rates: Mapping[str, Columns],
    clips: Columns,
) -> Pair:
    import numpy as np

    first, second = names
    sign = 1 if KINDS[metric].higher_is_better else -1
    drawn = rates[second] - rates[first]
    drawn = drawn[np.isfinite(drawn)]
    better = float(np.mean((sign * drawn > 0) + 0.5 * (drawn == 0))) if len(drawn) else 0.5
    wins, losses = int(np.sum(sign * clips > 0)), int(np.sum(sign * clips < 0))
    return Pair(
        first=first,
        second=second,
        difference=(values[second] or 0.0) - (values[first] or 0.0),
        bounds=percentiles(drawn),
        better=better,
        p=1.0,
        wins=wins,
        losses=losses,
        ties=len(clips) - wins - losses,
    )


def _tested(table: Table, words: Words) -> Table:
    """Add MAPSSWE to a table of word error rates, and Holm's adjustment to both tests."""
    pairs = list(table.pairs)
    if table.metric == "wer" and words.counted:
        errors = {name: [row.errors for row in rows] for name, rows in words.rows.items()}
        pairs = [
            replace(pair, mapsswe=mapsswe(zip(errors[pair.first], errors[pair.second], strict=True))) for pair in pairs
        ]
    adjusted = holm([pair.p for pair in pairs])
    pairs = [replace(pair, p_holm=p) for pair, p in zip(pairs, adjusted, strict=True)]
    tests = [pair.mapsswe.p for pair in pairs if pair.mapsswe is not None]
    if len(tests) == len(pairs):
        pairs = [replace(pair, mapsswe_holm=p) for pair, p in zip(pairs, holm(tests), strict=True)]
    return replace(table, pairs=tuple(pairs))


def changed_rows(comparison: Comparison, metric: str, first: str, second: str, most: int) -> list[tuple[int, float]]:
    """The clips whose score changed most from one system to the other.

    Returns:
        list[tuple[int, float]]: row, and the second's edits or score less the first's.
    """
    by_name = {system.name: system.metrics[metric].above for system in comparison.systems}
    changes = [(row, b - a) for row, (a, b) in enumerate(zip(by_name[first], by_name[second], strict=True)) if a != b]
    return sorted(changes, key=lambda change: (-abs(change[1]), change[0]))[:most]


def setting_differences(systems: Sequence[System]) -> dict[str, dict[str, str]]:
    """What the runs were made of and differs: name -> system -> value, "-" where it is not there."""
    told = [system for system in systems if system.settings]
    names = dict.fromkeys(name for system in told for name in system.settings)
    found = {name: {system.name: system.settings.get(name, "-") for system in told} for name in names}
    return {name: values for name, values in found.items() if len(set(values.values())) > 1}
