"""Rank systems: values of each criterion to ranks, ranks to one order by the rule of the board. Pure arithmetic.

Ranks are 1, 2, 3 ... without repeats: of equal values the system that was given first has the better rank, as on Kaggle
the team does that reached the score first. Equal sums are ordered in the same way.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluator.board.criteria import Criterion, Rules
from evaluator.errors import ConfigError
from evaluator.wording import did_you_mean

TIES = "of equals the system that was given first is ahead, as on Kaggle the team that was there first"

Values = Mapping[str, Mapping[str, float]]
"""Criterion -> system -> value; a system without a value is not there."""


@dataclass(frozen=True, slots=True)
class Row:
    """A system's place.

    Attributes:
        system: its name.
        place: 1 is best.
        values: criterion -> value; None where it has none.
        ranks: criterion -> rank, 1 is best.
        weighted_sum: of its ranks.
        score: what the board is ordered by: the weighted sum, the mean ratio, or the value that is to be smallest.
        excess: rule limit: percent beyond the limit at the worst criterion, 0.0 within; else None.
        tied: criteria in which a system has the same value.
    """

    system: str
    place: int
    values: Mapping[str, float | None]
    ranks: Mapping[str, int]
    weighted_sum: float
    score: float
    excess: float | None
    tied: tuple[str, ...]


def rank(values: Mapping[str, float], systems: Sequence[str], *, higher_is_better: bool) -> dict[str, int]:
    """Rank systems by one criterion.

    Args:
        values: system -> value; whoever is not there is behind all others.
        systems: in the order in which they were given.
        higher_is_better: whether the largest value is first.

    Example:
        ({"a": 2.0, "b": 1.0, "c": 1.0}, ["a", "b", "c"], higher_is_better=False) -> {"b": 1, "c": 2, "a": 3}
    """
    sign = -1.0 if higher_is_better else 1.0
    ordered = sorted(systems, key=lambda name: sign * values[name] if name in values else math.inf)
    return {name: number for number, name in enumerate(ordered, start=1)}


def require_baseline(rules: Rules, systems: Sequence[str], values: Values) -> None:
    """Check what the rules `ratio` and `limit` need.

    Raises:
        ConfigError: no baseline is named, it is no system, or a value cannot be divided by.
    """
    if rules.rule == "ranks":
        return
    if not rules.baseline:
        raise ConfigError(f"The rule {rules.rule} compares with a baseline: name it with --baseline SYSTEM.")
    if rules.baseline not in systems:
        raise ConfigError(f"--baseline {rules.baseline}: no such system; {did_you_mean(rules.baseline, systems)}")
    for criterion in rules.criteria:
        told = values[criterion.name]
        needed = systems if rules.rule == "ratio" else [rules.baseline]
        compared = rules.rule == "ratio" or criterion.limit_percent is not None
        for name in needed if compared else ():
            if name in told and told[name] == 0:
                raise ConfigError(
                    f"{criterion.title} of {name} is 0, which has no ratio: rank by --preset nota-2025, or leave the "
                    "criterion out (--criteria)."
                )
            if name not in told:
                raise ConfigError(f"The rule {rules.rule} needs {criterion.title} of {name}: it has no value.")


def board(
    values: Values, systems: Sequence[str], rules: Rules, *, ahead: Mapping[str, Sequence[str]] | None = None
) -> list[Row]:
    """Rank systems by all criteria.

    Args:
        values: of every criterion of the rules.
        systems: in the order in which they were given.
        rules: `require_baseline` has passed them.
        ahead: criterion -> the systems in the order in which equals are ranked by it, where that is another one.

    Returns:
        list[Row]: best first.
    """
    orders = ahead or {}
    ranks = {
        each.name: rank(values[each.name], orders.get(each.name, systems), higher_is_better=each.higher_is_better)
        for each in rules.criteria
    }
    sums = {name: sum(each.weight * ranks[each.name][name] for each in rules.criteria) for name in systems}
    scores, excess = _scores(values, systems, rules, sums)
    # sorted is stable: of equals the one that was given first stays ahead.
    ordered = sorted(
        systems, key=lambda name: (excess.get(name, 0.0), -scores[name] if rules.rule == "ratio" else scores[name])
    )
    return [
        Row(
            system=name,
            place=place,
            values={each.name: values[each.name].get(name) for each in rules.criteria},
            ranks={each.name: ranks[each.name][name] for each in rules.criteria},
            weighted_sum=sums[name],
            score=scores[name],
            excess=excess.get(name),
            tied=tuple(each.name for each in rules.criteria if _is_tied(values[each.name], name)),
        )
        for place, name in enumerate(ordered, start=1)
    ]


def _scores(
    values: Values, systems: Sequence[str], rules: Rules, sums: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """What the board is ordered by, and how far beyond its limits each system is (rule limit)."""
    if rules.rule == "ratio":
        return {name: mean_ratio(values, name, rules) for name in systems}, {}
    if rules.rule == "limit":
        smallest = next(each for each in rules.criteria if each.limit_percent is None)
        told = values[smallest.name]
        sign = -1.0 if smallest.higher_is_better else 1.0
        scores = {name: sign * told[name] if name in told else math.inf for name in systems}
        return scores, {name: _excess(values, name, rules) for name in systems}
    return dict(sums), {}


def mean_ratio(values: Values, system: str, rules: Rules) -> float:
    """The weighted geometric mean of a system's ratios to the baseline, each above 1 where it is better.

    Example:
        WER 0.05 against 0.06 (1.2), memory 4 against 8 (2.0), equal weights -> sqrt(1.2 * 2.0) = 1.549
    """
    total = sum(each.weight for each in rules.criteria)
    logarithm = 0.0
    for each in rules.criteria:
        ratio = values[each.name][system] / values[each.name][rules.baseline]
        logarithm += each.weight * math.log(ratio if each.higher_is_better else 1 / ratio)
    return math.exp(logarithm / total)


def _excess(values: Values, system: str, rules: Rules) -> float:
    """Percent of the baseline's value beyond the limit, at the worst criterion; 0.0 within all limits."""
    return max(
        (_beyond(each, values[each.name].get(system), values[each.name][rules.baseline]) for each in rules.criteria
         if each.limit_percent is not None),
        default=0.0,
    )  # fmt: skip


def _beyond(criterion: Criterion, value: float | None, baseline: float) -> float:
    if value is None:
        return math.inf
    worse = (baseline - value if criterion.higher_is_better else value - baseline) / baseline * 100
    beyond = worse - (criterion.limit_percent or 0.0)
    # A system that is exactly at the limit is within it, whatever the last digit of the division says.
    return beyond if beyond > 1e-9 else 0.0


def _is_tied(values: Mapping[str, float], system: str) -> bool:
    return system in values and sum(value == values[system] for value in values.values()) > 1
