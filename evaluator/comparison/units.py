"""What is drawn anew when systems are compared: clips, or all clips of a speaker or recording together."""

from collections.abc import Sequence
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.comparison.sources import Reference
from evaluator.comparison.system import System
from evaluator.errors import ConfigError
from evaluator.statistics.units import CLIP, PATH_RULE, Units, find_units


def units_of(kind: str, field: str, systems: Sequence[System], reference: Reference | None) -> Units:
    """The unit of each clip.

    Args:
        kind: "clip", "speaker", "recording".
        field: as `scoring.unit_field`.
        systems: rows in one order.
        reference: the annotation, for fields.

    Raises:
        AudioLMError: it is not known of each clip.
    """
    if kind == CLIP:
        return Units()
    if PATH_RULE.fullmatch(field):
        paths = next((system.paths for system in systems if all(system.paths)), systems[0].paths)
        first = systems[0]
        samples = [Sample(row, each, Path(paths[row]), first.task, "", ()) for row, each in enumerate(first.ids)]
        return find_units(kind, field, (), samples, annotation=Path())
    if reference is None:
        raise ConfigError(f"--unit {kind}: the annotation tells it: give --annotation FILE.json.")
    by_id = {sample.id: sample for sample in reference.samples}
    missing = [each for each in systems[0].ids if each not in by_id]
    if missing:
        raise ConfigError(
            f"--unit {kind}: {reference.path} has no row {missing[0]}: give the annotation of these runs."
        )
    samples = [by_id[each] for each in systems[0].ids]
    return find_units(kind, field, reference.annotation.rows, samples, annotation=reference.path)
