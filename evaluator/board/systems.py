"""From what was typed to the systems of a board: sources are found, named, read, merged by name and checked.

A source is a path or NAME=path. Sources of one name are one system. Without a name a folder is named after itself; a
CSV names its systems in its column `system`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluator.board.criteria import CAPTION_METRICS, Criterion
from evaluator.board.csv_table import read_table
from evaluator.board.measurement import Measurement, Value
from evaluator.board.run_folder import EFFICIENCY, RUN, SCORES, is_submission, read_efficiency, read_run
from evaluator.errors import Problem, ResultError
from evaluator.wording import counted, named, printable


@dataclass(frozen=True, slots=True)
class System:
    """A system of the board.

    Attributes:
        name: as it was given.
        values: criterion -> value.
        conditions: what its values hold for.
    """

    name: str
    values: Mapping[str, Value]
    conditions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """All systems of a board.

    Attributes:
        systems: in the order in which they were given: equal values are ranked in it.
        criteria: those that are ranked by.
        notes: sentences: criteria that are left out, conditions that differ.
    """

    systems: tuple[System, ...]
    criteria: tuple[Criterion, ...]
    notes: tuple[str, ...]


def read_field(sources: Sequence[str], criteria: Sequence[Criterion], *, missing_last: bool = False) -> Field:
    """Read the systems of a board.

    Args:
        sources: PATH or NAME=PATH; at least one.
        criteria: what is ranked by.
        missing_last: a system without a value is ranked last instead of refused.

    Raises:
        ResultError: a source cannot be read, or the systems cannot be compared; with every problem of that stage.
    """
    columns = [criterion.column for criterion in criteria]
    optional = [criterion.column for criterion in criteria if criterion.optional]
    # Read too, to say why a board has no captions.
    extra = [name for name in CAPTION_METRICS if name not in columns]
    measurements: list[Measurement] = []
    problems: list[Problem] = []
    for place, source in enumerate(sources):
        if source in sources[:place]:
            problems.append(Problem(source, "is given twice: give it once"))
            continue
        try:
            measurements += _read(source, [*columns, *extra], [*optional, *extra])
        except ResultError as error:
            problems += error.problems or [Problem("", error.message)]
    if problems:
        raise ResultError(f"The board cannot be made: {counted(problems)}.", problems)
    merged = _merge(measurements)
    kept = [each for each in criteria if not (each.optional and not any(each.column in m.values for m in merged))]
    notes = [f"{each.title}: no system has a value; left out." for each in criteria if each not in kept]
    _require_comparable(merged, kept, missing_last=missing_last)
    systems = tuple(
        System(each.system, {c.name: each.values[c.column] for c in kept if c.column in each.values}, each.conditions)
        for each in merged
    )
    return Field(systems, tuple(kept), (*notes, *_differences(systems)))


def _read(source: str, columns: Sequence[str], optional: Sequence[str]) -> list[Measurement]:
    """What one source says."""
    given, path = _split(source)
    if not path.exists():
        raise ResultError(f"{path} does not exist.")
    if path.is_dir():
        name = given or printable(path.absolute().name)
        folders = [path] if _holds_run(path) else _run_folders(path)
        if not folders:
            raise ResultError(f"{path} holds no finished run: expected {SCORES} or {EFFICIENCY} in it or below it.")
        return [measurement for folder in folders for measurement in _read_folder(folder, name)]
    if path.suffix.lower() == ".json":
        if path.name in (SCORES, RUN):
            raise ResultError(f"{path} is a file of a run folder: give the folder {path.parent}.")
        return [read_efficiency(path, given or printable(path.absolute().parent.name))]
    if given:
        raise ResultError(f'{source}: a CSV names its systems in its column "system": leave out "{given}=".')
    return read_table(path, columns, optional)


def _split(source: str) -> tuple[str, Path]:
    """ "B=runs/b" -> ("B", runs/b); a path that exists is one, whatever its name."""
    name, found, rest = source.partition("=")
    if not found or Path(source).exists():
        return "", Path(source)
    if not name.strip() or not rest:
        raise ResultError(f"{source}: expected PATH or NAME=PATH.")
    return printable(name.strip()), Path(rest)


def _holds_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (SCORES, RUN, EFFICIENCY, "predictions.jsonl"))


def _run_folders(folder: Path) -> list[Path]:
    """The folders below one that hold a run of a valid mode, or an efficiency.json."""
    found = {file.parent for name in (RUN, EFFICIENCY) for file in folder.rglob(name)}
    return sorted(each for each in found if not is_submission(each))


def _read_folder(folder: Path, name: str) -> list[Measurement]:
    found = []
    if any((folder / each).is_file() for each in (SCORES, RUN, "predictions.jsonl")):
        found.append(read_run(folder, name))
    if (folder / EFFICIENCY).is_file():
        found.append(read_efficiency(folder / EFFICIENCY, name))
    return found


def _merge(measurements: Sequence[Measurement]) -> list[Measurement]:
    """One measurement a system, in the order of first mention.

    Raises:
        ResultError: two sources give one system the same value.
    """
    merged: dict[str, Measurement] = {}
    problems: list[Problem] = []
    for each in measurements:
        before = merged.setdefault(each.system, replace(each, values={}, absent={}, conditions={}))
        values = dict(before.values)
        for column, value in each.values.items():
            known = values.get(column)
            if known is None or value.order < known.order:
                values[column] = value
            elif value.order == known.order:
                cure = "give each system one source of it, or its own name (NAME=PATH)"
                problems.append(Problem(value.origin, f'"{each.system}" has it already from {known.origin}: {cure}'))
        merged[each.system] = replace(
            before,
            values=values,
            absent={**each.absent, **before.absent},
            # Those of the source that holds first.
            conditions={**each.conditions, **before.conditions},
        )
    if problems:
        raise ResultError(f"Values are given twice: {counted(problems)}.", problems)
    return list(merged.values())


def _require_comparable(systems: Sequence[Measurement], criteria: Sequence[Criterion], *, missing_last: bool) -> None:
    """Refuse systems whose values do not compare.

    Raises:
        ResultError: with every problem.
    """
    problems = _mixed_captions(systems, criteria)
    if not problems and not missing_last:
        problems = [
            Problem(each.source, f"{each.system} has no {criterion.column}{_why(each, criterion)}{_CURE}")
            for each in systems
            for criterion in criteria
            if criterion.column not in each.values
        ]
    for criterion in criteria:
        valued = [(each.system, each.values[criterion.column]) for each in systems if criterion.column in each.values]
        problems += _mixed_ways(criterion, valued)
        problems += _other_clips(criterion, valued)
    if problems:
        raise ResultError(f"The systems cannot be ranked: {counted(problems)}.", problems)


_CURE = ": add it (NAME=PATH adds a source to a system), or rank it last with --missing last"


def _why(system: Measurement, criterion: Criterion) -> str:
    return f" ({system.absent[criterion.column]})" if criterion.column in system.absent else ""


def _mixed_captions(systems: Sequence[Measurement], criteria: Sequence[Criterion]) -> list[Problem]:
    """Captions that are scored by SPIDEr here and by CIDEr-D there, or by the one that is not asked for."""
    asked = next((each for each in criteria if each.column in CAPTION_METRICS), None)
    if asked is None or sum(each.column in CAPTION_METRICS for each in criteria) > 1:
        return []
    other = CAPTION_METRICS[1 - CAPTION_METRICS.index(asked.column)]
    without = [each for each in systems if asked.column not in each.values and other in each.values]
    if not without:
        return []
    reason = _why(without[0], asked)
    names = named([each.system for each in without])
    if all(other in each.values for each in systems):
        cure = f"rank all by {other} (--captions {other}), or score them again with {asked.column}"
    else:
        cure = f"the two do not compare: score them again with {asked.column}"
    return [Problem(without[0].source, f"captions of {names} have {other} and no {asked.column}{reason}: {cure}")]


def _mixed_ways(criterion: Criterion, valued: Sequence[tuple[str, Value]]) -> list[Problem]:
    """Values of one criterion that were measured in different ways."""
    ways: dict[str, tuple[str, Value]] = {}
    for system, value in valued:
        if value.how:
            ways.setdefault(value.how, (system, value))
    if len(ways) < 2:
        return []
    listed = ", ".join(f"{system} by {how}" for how, (system, _) in ways.items())
    (_, (_, value)) = list(ways.items())[1]
    return [Problem(value.origin, f"{criterion.title} is measured in different ways ({listed}): measure all alike")]


def _other_clips(criterion: Criterion, valued: Sequence[tuple[str, Value]]) -> list[Problem]:
    """Runs over other clips than the first one's."""
    known = [(system, value, value.clips) for system, value in valued if value.clips is not None]
    problems = []
    for system, value, clips in known[1:]:
        first, _, reference = known[0]
        if len(clips.ids) != len(reference.ids):
            what = f"{system} has {len(clips.ids)} rows and {first} {len(reference.ids)}"
        elif clips.ids != reference.ids:
            row = next(n for n, pair in enumerate(zip(clips.ids, reference.ids, strict=True)) if pair[0] != pair[1])
            what = f"row {row + 1} of {system} is {clips.ids[row]} and of {first} {reference.ids[row]}"
        elif clips.references and reference.references and clips.references != reference.references:
            pairs = zip(clips.references, reference.references, strict=True)
            row = next(n for n, pair in enumerate(pairs) if pair[0] != pair[1])
            what = f"row {row + 1} ({clips.ids[row]}) of {system} has another reference than that of {first}"
        elif criterion.column == "wer" and clips.denominators != reference.denominators:
            what = f"references of {system} have other numbers of words than those of {first}"
        else:
            continue
        problems.append(Problem(value.origin, f"{what}: run all systems over the same annotation"))
    return problems


def _differences(systems: Sequence[System]) -> list[str]:
    """Conditions in which systems differ, a sentence each."""
    notes = []
    for name in dict.fromkeys(name for each in systems for name in each.conditions):
        told = [(each.name, each.conditions[name]) for each in systems if name in each.conditions]
        if len({value for _, value in told}) > 1:
            notes.append(f"{name} differs: " + "; ".join(f"{system} {value}" for system, value in told) + ".")
    return notes
