"""Changes that were asked for by --what-if: "C memory=3.6" sets the memory of system C."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluator.board.criteria import Criterion
from evaluator.errors import ConfigError, Problem
from evaluator.wording import counted, did_you_mean, shown


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is another: of `system` in `criterion`."""

    system: str
    criterion: str
    value: float


def parse_changes(texts: Sequence[str], systems: Sequence[str], criteria: Sequence[Criterion]) -> list[Change]:
    """Read what was typed.

    Args:
        texts: "SYSTEM CRITERION=VALUE"; the criterion by its name or its column.
        systems: those of the board.
        criteria: those of the board.

    Raises:
        ConfigError: with every problem.
    """
    names = {each.column: each.name for each in criteria} | {each.name: each.name for each in criteria}
    changes: list[Change] = []
    problems: list[Problem] = []
    for text in texts:
        where = f"--what-if {shown(text)}"
        left, equals, number = text.rpartition("=")
        system, space, criterion = left.strip().rpartition(" ")
        system = system.strip()
        value = _amount(number)
        if not equals or not space:
            problems.append(Problem(where, 'expected "SYSTEM CRITERION=VALUE", as "C memory=3.6"'))
        elif system not in systems:
            problems.append(Problem(where, f"no system {shown(system)}; {did_you_mean(system, systems)}"))
        elif criterion not in names:
            known = [each.name for each in criteria]
            problems.append(Problem(where, f"no criterion {shown(criterion)}; {did_you_mean(criterion, known)}"))
        elif value is None:
            problems.append(Problem(where, f"{shown(number)} is not a number that is finite and not negative"))
        elif any((each.system, each.criterion) == (system, names[criterion]) for each in changes):
            problems.append(Problem(where, f"{names[criterion]} of {system} is changed twice: give one value"))
        else:
            changes.append(Change(system, names[criterion], value))
    if problems:
        raise ConfigError(f"--what-if has {counted(problems)}:", problems)
    return changes


def changed(values: Mapping[str, Mapping[str, float]], changes: Sequence[Change]) -> dict[str, dict[str, float]]:
    """The values with the changes made; the given ones stay."""
    found = {criterion: dict(told) for criterion, told in values.items()}
    for each in changes:
        found[each.criterion][each.system] = each.value
    return found


def _amount(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
