"""Whether systems can be compared: the same clips, the same references, scores of one protocol."""

from collections.abc import Sequence

from evaluator.comparison.system import System
from evaluator.errors import ConfigError, Problem, ResultError
from evaluator.scoring.result import KINDS
from evaluator.wording import counted, did_you_mean, named, shown


def comparable(systems: Sequence[System], wanted: Sequence[str]) -> tuple[list[System], tuple[str, ...]]:
    """Check systems and choose the metrics.

    Args:
        systems: at least one.
        wanted: names of metrics; () for all that every system has.

    Returns:
        tuple[list[System], tuple[str, ...]]: the systems with their rows in the first one's order, and the metrics.

    Raises:
        ResultError: they do not compare, with every reason.
        ConfigError: a wanted metric does not exist.
    """
    problems = _names(systems)
    if len(systems) < 2:
        problems.append(Problem("", "give two systems or more"))
    if problems:
        raise ResultError(f"The systems cannot be compared: {counted(problems)}.", problems)
    found = [systems[0]]
    for system in systems[1:]:
        wrong = _rows(systems[0], system)
        problems += wrong
        found.append(system if wrong else system.in_order_of(systems[0].ids))
    if not problems:
        problems = [problem for system in found[1:] for problem in _references(found[0], system)]
    metrics = _metrics(found, wanted, problems)
    if problems:
        raise ResultError(f"The systems cannot be compared: {counted(problems)}.", problems)
    return found, metrics


def _names(systems: Sequence[System]) -> list[Problem]:
    names = [system.name for system in systems]
    twice = sorted({name for name in names if names.count(name) > 1})
    cure = "give them names of their own (NAME=PATH; in Python {name: run})"
    return [Problem("", f"{names.count(name)} systems are called {name}: {cure}") for name in twice]


def _rows(first: System, second: System) -> list[Problem]:
    """What keeps two systems' rows apart."""
    if first.task != second.task:
        return [Problem(second.source, f"is of the task {second.task}, and {first.name} of {first.task}")]
    if first.ids == second.ids:
        return []
    own, other = set(first.ids), set(second.ids)
    if own == other and len(own) == len(first.ids) == len(second.ids):
        return []
    only = [(first.name, [each for each in first.ids if each not in other])]
    only.append((second.name, [each for each in second.ids if each not in own]))
    told = "; ".join(f"{len(ids)} clips only in {name} ({named(ids, 3)})" for name, ids in only if ids)
    told = told or f"{first.name} has {len(first.ids)} rows and {second.name} {len(second.ids)}, of the same ids"
    return [Problem(second.source, f"has other clips: {told}: run both over the same annotation")]


def _references(first: System, second: System) -> list[Problem]:
    rows = zip(first.ids, first.references, second.references, strict=True)
    differing = [(identifier, one, other) for identifier, one, other in rows if one != other]
    if not differing:
        return []
    identifier, one, other = differing[0]
    return [
        Problem(
            second.source,
            f"{len(differing)} clips have other references than in {first.name} (the first is {identifier}: "
            f"{shown(' | '.join(other))}, not {shown(' | '.join(one))}): score both against the same annotation",
        )
    ]


def _metrics(systems: Sequence[System], wanted: Sequence[str], problems: list[Problem]) -> tuple[str, ...]:
    for name in wanted:
        if name not in KINDS:
            raise ConfigError(f"--metric {name}: there is no such metric; {did_you_mean(name, KINDS)}.")
    chosen = [name for name in KINDS if (name in wanted if wanted else any(name in s.metrics for s in systems))]
    found = []
    for name in chosen:
        without = [system for system in systems if name not in system.metrics]
        if without and wanted:
            told = without[0].absent.get(name, "it was not computed")
            problems.append(Problem(without[0].source, f"{without[0].name} has no {name}: {told}"))
        if without:
            continue
        found.append(name)
        protocols = {system.metrics[name].protocol: system for system in systems}
        if len(protocols) > 1:
            told = "; ".join(f"{system.name} by {protocol}" for protocol, system in protocols.items())
            cure = "score them again with one of them (--resume)"
            problems.append(Problem("", f"{name} is scored by different protocols: {told}: {cure}"))
        lengths = {system.metrics[name].below for system in systems}
        if len(lengths) > 1 and len(protocols) == 1 and not problems:
            problems.append(Problem("", f"{name}: the references have other lengths: score the runs again (--resume)"))
    if not found and not problems:
        reasons = "; ".join(dict.fromkeys(f"{n}: {r}" for system in systems for n, r in system.absent.items()))
        problems.append(Problem("", f"no metric has rows in all of them ({reasons})"))
    return tuple(found)
