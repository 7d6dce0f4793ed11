"""A finished board: rows, the same with changes, probabilities; as lines of text and as JSON."""

import importlib.util
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.board.bootstrap import Probabilities, probabilities
from evaluator.board.criteria import Rules
from evaluator.board.measurement import Clips
from evaluator.board.ranking import TIES, Row, board, require_baseline
from evaluator.board.systems import Field
from evaluator.board.text_columns import aligned
from evaluator.board.what_if import Change, changed
from evaluator.wording import printable

_COLUMNS = 100
NO_CLIPS = (
    "No probabilities: they need values of single clips, which finished runs have (scores.json) and a CSV or an "
    "efficiency file has not."
)
NO_NUMPY = "No probabilities: they need numpy (pip install 'audiolm-evaluator[audio]')."
_CAN_DRAW = importlib.util.find_spec("numpy") is not None


@dataclass(frozen=True, slots=True)
class Standings:
    """A finished board.

    Attributes:
        rules: what was ranked by.
        rows: best first, with the changes.
        before: system -> its row without the changes; empty where nothing was changed.
        changes: of --what-if, all made at once.
        sure: the probabilities; None where there are none.
        notes: sentences.
    """

    rules: Rules
    rows: tuple[Row, ...]
    before: Mapping[str, Row]
    changes: tuple[Change, ...]
    sure: Probabilities | None
    notes: tuple[str, ...]


def stand(field: Field, rules: Rules, changes: Sequence[Change], *, resamples: int, seed: int) -> Standings:
    """Rank a field of systems.

    Args:
        field: the systems.
        rules: whose criteria are the field's.
        changes: values that are others.
        resamples: of the bootstrap; 0: none.
        seed: of the bootstrap.

    Raises:
        ConfigError: the rule's baseline is missing or has nothing to compare with.
    """
    names = [system.name for system in field.systems]
    measured = {
        each.name: {s.name: s.values[each.name].number for s in field.systems if each.name in s.values}
        for each in rules.criteria
    }
    values = changed(measured, changes)
    for told in (measured, values):
        require_baseline(rules, names, told)
    rows = board(values, names, rules)
    before = {row.system: row for row in board(measured, names, rules)} if changes else {}
    clips = _clips(field, changes) if _CAN_DRAW else {}
    sure = probabilities(values, clips, names, rules, resamples=resamples, seed=seed) if resamples else None
    return Standings(rules, tuple(rows), before, tuple(changes), sure, field.notes)


def _clips(field: Field, changes: Sequence[Change]) -> dict[str, dict[str, Clips]]:
    """Criterion -> system -> clips; a value that was changed has none."""
    made = {(each.system, each.criterion) for each in changes}
    found: dict[str, dict[str, Clips]] = {each.name: {} for each in field.criteria}
    for system in field.systems:
        for criterion, value in system.values.items():
            if value.clips is not None and (system.name, criterion) not in made:
                found[criterion][system.name] = value.clips
    return found


def rows_json(standings: Standings) -> list[dict[str, Any]]:
    """The board for --json: an object a system, best first."""
    found = []
    for row in standings.rows:
        entry: dict[str, Any] = {
            "system": row.system,
            "place": row.place,
            "values": dict(row.values),
            "ranks": dict(row.ranks),
            "weighted_sum": _short(row.weighted_sum),
            "tied": list(row.tied),
        }
        if standings.rules.rule == "ratio":
            entry["ratio"] = row.score
        if row.excess is not None:
            entry["percent_beyond_limit"] = None if math.isinf(row.excess) else row.excess
        if standings.before:
            before = standings.before[row.system]
            entry["before"] = {
                "place": before.place,
                "values": dict(before.values),
                "ranks": dict(before.ranks),
                "weighted_sum": _short(before.weighted_sum),
            }
        sure = standings.sure
        entry["probabilities"] = None if sure is None else {
            "places": list(sure.places[row.system]),
            "ranks": {criterion: list(told[row.system]) for criterion, told in sure.ranks.items()},
            "clips": dict(sure.resampled),
            "resamples": sure.resamples,
        }  # fmt: skip
        found.append(entry)
    return found


def lines(standings: Standings, *, resamples: int, seed: int) -> list[str]:
    """The board for a terminal."""
    found = [*_wrapped(_title(standings.rules)), ""]
    for each in standings.changes:
        found += _wrapped(f"what if: {each.criterion} of {printable(each.system)} is {each.value:g}")
    found += [""] if standings.changes else []
    found += aligned(_cells(standings), left=(1,))
    found += ["", *_wrapped(f"# is the rank, 1 is best; = marks equal values: {TIES}.")]
    found += _probability_lines(standings, resamples=resamples, seed=seed)
    return found + [line for note in standings.notes for line in _wrapped(printable(note))]


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _title(rules: Rules) -> str:
    if rules.rule == "ratio":
        weights = ", ".join(f"{each.title} {each.weight:g}" for each in rules.criteria)
        return f"{rules.name}: weighted mean ratio to {printable(rules.baseline)}, largest first ({weights})"
    if rules.rule == "limit":
        limits = ", ".join(f"{e.title} {e.limit_percent:g} %" for e in rules.criteria if e.limit_percent is not None)
        smallest = next(each for each in rules.criteria if each.limit_percent is None)
        which = "largest" if smallest.higher_is_better else "smallest"
        return (
            f"{rules.name}: the {which} {smallest.title} among those that are at most so much worse than "
            f"{printable(rules.baseline)}: {limits}"
        )
    weights = ", ".join(f"{each.title} {each.weight:g}" for each in rules.criteria)
    return f"{rules.name}: weighted sum of ranks, lowest first ({weights})"


def _cells(standings: Standings) -> list[list[str]]:
    rules = standings.rules
    head = ["", "system", *(cell for each in rules.criteria for cell in (each.title, "#")), "weighted sum"]
    head += {"ratio": ["ratio"], "limit": ["beyond limit"], "ranks": []}[rules.rule]
    head += ["before", "sum before"] if standings.before else []
    rows = [head]
    sums = [row.weighted_sum for row in standings.rows]
    for row in standings.rows:
        cells = [str(row.place), printable(row.system)]
        for each in rules.criteria:
            cells += [_number(row.values[each.name]), f"{row.ranks[each.name]}{'=' if each.name in row.tied else ''}"]
        equal = rules.rule == "ranks" and sums.count(row.weighted_sum) > 1
        cells.append(f"{row.weighted_sum:g}{'=' if equal else ''}")
        if rules.rule == "ratio":
            cells.append(f"{row.score:.4g}")
        if row.excess is not None:
            cells.append(_beyond(row.excess))
        if standings.before:
            before = standings.before[row.system]
            cells += [str(before.place), f"{before.weighted_sum:g}"]
        rows.append(cells)
    return rows


def _beyond(excess: float) -> str:
    """How far a system is beyond its limits: "within", "1.50 %", or "no value"."""
    if excess == 0:
        return "within"
    return "no value" if math.isinf(excess) else f"{excess:.2f} %"


def _probability_lines(standings: Standings, *, resamples: int, seed: int) -> list[str]:
    """The probability of each place, or that there is none."""
    sure = standings.sure
    if sure is None:
        reason = NO_CLIPS if _CAN_DRAW else NO_NUMPY
        return _wrapped("No probabilities were asked for." if resamples == 0 else reason)
    titles = {each.name: each.title for each in standings.rules.criteria}
    drawn = ", ".join(f"{titles[name]} over {number} clips" for name, number in sure.resampled.items())
    held = ", ".join(titles[name] for name in sure.fixed)
    systems = [row.system for row in standings.rows]
    told = [["", "", *(str(place) for place in range(1, len(systems) + 1))]]
    for title, shares in (("place", sure.places), *((titles[name], each) for name, each in sure.ranks.items())):
        told += [
            ["" if number else title, printable(name), *map(_share, shares[name])]
            for number, name in enumerate(systems)
        ]
    return [
        "",
        f"Probability of each place, and of each rank ({sure.resamples} resamples of the clips, seed {seed}):",
        *aligned(told, left=(0, 1)),
        *_wrapped(f"Resampled: {drawn}." + (f" Held as they are: {held}." if held else "")),
    ]


def _share(share: float) -> str:
    """0.0 -> "-", 0.0004 -> "<1 %", 0.42 -> "42 %"; what happened is never nothing, what did not always is not all."""
    if share == 0:
        return "-"
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{share * 100:.0f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _short(value: float) -> float | int:
    """A sum of whole weights as a whole number."""
    return int(value) if value.is_integer() else value
