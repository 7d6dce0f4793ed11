"""A comparison as one JSON object, for --json."""

from typing import Any

from evaluator.comparison.compare import Bounds, Comparison, Pair, Table, changed_rows, setting_differences
from evaluator.statistics.interval import LEVEL


def as_json(comparison: Comparison, *, clips: int) -> dict[str, Any]:
    """All that was found.

    Args:
        comparison: what was found.
        clips: the most clips that changed, of each pair.
    """
    systems = comparison.systems
    return {
        "task": systems[0].task,
        "clips": len(systems[0].ids),
        "unit": comparison.units.kind,
        "units": comparison.unit_count,
        "unit_source": comparison.units.source,
        "level": LEVEL,
        "resamples": comparison.resamples,
        "seed": comparison.seed,
        "notes": comparison.notes,
        "systems": [{"name": each.name, "source": each.source} for each in systems],
        "metrics": [
            {
                **_table(table),
                "protocol": systems[0].metrics[table.metric].protocol,
                "changed": _changed(comparison, table, clips),
            }
            for table in comparison.tables
        ],
        "slices": {
            name: {part: [_table(table, tests=False) for table in tables] for part, tables in parts.items()}
            for name, parts in comparison.slices.items()
        },
        "settings": setting_differences(systems),
        "suspect_references": [
            {
                "id": systems[0].ids[each.row],
                "reference": systems[0].references[each.row][0],
                "systems": list(each.systems),
                "text": next(system.texts[each.row] for system in systems if system.name == each.systems[0]),
            }
            for each in comparison.suspects
        ],
    }


def _table(table: Table, *, tests: bool = True) -> dict[str, Any]:
    return {
        "metric": table.metric,
        "clips": table.clips,
        "values": {name: {"value": value, **_bounds(table.bounds[name])} for name, value in table.values.items()},
        "pairs": [_pair(pair, tests=tests) for pair in table.pairs],
    }


def _pair(pair: Pair, *, tests: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "first": pair.first,
        "second": pair.second,
        "difference": pair.difference,
        **_bounds(pair.bounds),
        "second_better": pair.better,
        "wins": pair.wins,
        "losses": pair.losses,
        "ties": pair.ties,
    }
    if tests:
        test = pair.mapsswe
        found |= {"p": pair.p, "p_holm": pair.p_holm}
        found["mapsswe"] = None if test is None else {
            "segments": test.segments,
            "mean": test.mean,
            "z": test.z,
            "p": test.p,
            "p_holm": pair.mapsswe_holm,
        }  # fmt: skip
    return found


def _bounds(bounds: Bounds) -> dict[str, float | None]:
    return {"low": None if bounds is None else bounds[0], "high": None if bounds is None else bounds[1]}


def _changed(comparison: Comparison, table: Table, clips: int) -> list[dict[str, Any]]:
    ids = comparison.systems[0].ids
    return [
        {"first": pair.first, "second": pair.second, "id": ids[row], "change": change}
        for pair in table.pairs
        for row, change in changed_rows(comparison, table.metric, pair.first, pair.second, clips)
    ]
