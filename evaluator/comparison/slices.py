"""Parts of a set that are compared for themselves: by a field of the annotation, or by how long the clips are."""

from collections.abc import Sequence

from evaluator.annotation.row_field import field_values
from evaluator.comparison.sources import Reference
from evaluator.comparison.system import System
from evaluator.errors import ConfigError

DURATION = "duration"
_SECONDS = (2, 5, 10, 20, 30)


def slice_labels(name: str, systems: Sequence[System], reference: Reference | None) -> tuple[str, ...]:
    """The part that each clip belongs to.

    Args:
        name: a field of the annotation, or "duration".
        systems: those that are compared.
        reference: the annotation, for fields.

    Raises:
        AudioLMError: it is not known of each clip.
    """
    if name == DURATION:
        known = next((system.seconds for system in systems if None not in system.seconds), None)
        if known is None:
            raise ConfigError("--by duration: no system tells how long each clip is; a run folder does.")
        return tuple(_bucket(seconds or 0.0) for seconds in known)
    if reference is None:
        raise ConfigError(f"--by {name}: the annotation has the fields: give --annotation FILE.json.")
    by_id = dict(
        zip(
            (sample.id for sample in reference.samples),
            field_values(reference.annotation.rows, reference.samples, name, annotation=reference.path),
            strict=True,
        )
    )
    missing = [each for each in systems[0].ids if each not in by_id]
    if missing:
        raise ConfigError(f"--by {name}: {reference.path} has no row {missing[0]}: give the annotation of these runs.")
    return tuple(by_id[each] for each in systems[0].ids)


def _bucket(seconds: float) -> str:
    """3.2 -> "2 to 5 s"; a bound belongs to the bucket that it begins."""
    below = 0
    for bound in _SECONDS:
        if seconds < bound:
            return f"{below} to {bound} s"
        below = bound
    return f"{below} s and more"


def in_order(labels: Sequence[str]) -> list[str]:
    """The parts, by number where they begin with one, then by name."""
    return sorted(set(labels), key=lambda label: (_number(label), label))


def _number(label: str) -> float:
    try:
        return float(label.partition(" ")[0])
    except ValueError:
        return float("inf")
