"""Whether one system is better than another: where they are in, the comparison out."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from evaluator.comparison.comparable import comparable
from evaluator.comparison.compare import Comparison, compare
from evaluator.comparison.slices import DURATION, slice_labels
from evaluator.comparison.sources import Source, read_reference, read_systems, reference_of_runs
from evaluator.comparison.units import units_of
from evaluator.comparison.words import align_systems
from evaluator.errors import ConfigError


def compare_sources(
    sources: Sequence[Source],
    *,
    metrics: Sequence[str],
    annotation: Path | None,
    by: Sequence[str],
    protocol: str | None,
    unit: str | None,
    unit_field: str | None,
    resamples: int,
    seed: int,
) -> Comparison:
    """Read systems and compare them on the same clips.

    Args:
        sources: where they are.
        metrics: names; () for all that every system has.
        annotation: what files of answers answer, and where `by` and `unit` look; run folders name theirs.
        by: fields of the annotation, or "duration": parts of the set that are compared too.
        protocol: how files are scored; None: as the first run folder, else as usual.
        unit: what is drawn anew: "clip", "speaker", "recording"; None: as the first run, else "clip".
        unit_field: what tells a clip's unit, as scoring.unit_field.
        resamples: of draws and signs.
        seed: of both.

    Raises:
        AudioLMError: one cannot be read, or they do not compare, with every reason.
    """
    if importlib.util.find_spec("numpy") is None:
        raise ConfigError("compare needs numpy; install it with pip install 'audiolm-evaluator[audio]'.")
    given = read_reference(annotation) if annotation is not None else None
    systems, chosen = comparable(read_systems(sources, given, protocol=protocol), metrics)
    scoring = systems[0].scoring
    kind = unit or scoring.unit
    field = scoring.unit_field if unit_field is None and unit is None else unit_field or ""
    needs_rows = any(name != DURATION for name in by) or kind != "clip"
    reference = given or (reference_of_runs(systems) if needs_rows else None)
    return compare(
        systems,
        chosen,
        units_of(kind, field, systems, reference),
        align_systems(systems),
        slices={name: slice_labels(name, systems, reference) for name in by},
        resamples=resamples,
        seed=seed,
    )
