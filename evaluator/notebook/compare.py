"""`compare`: what `audiolm-evaluator compare` does, from Python."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal

from evaluator.comparison.compare import Comparison
from evaluator.comparison.compare_sources import compare_sources
from evaluator.comparison.sources import Source
from evaluator.errors import ConfigError, Problem
from evaluator.notebook.loaded import LoadedAnnotation
from evaluator.notebook.paths import typed_path, typed_path_or_none
from evaluator.run.record import EvaluationResult
from evaluator.wording import counted, printable, shown

System = str | PathLike[str] | EvaluationResult
FEWEST_RESAMPLES = 100


def compare(
    systems: Sequence[System] | Mapping[str, System],
    *,
    annotation: str | PathLike[str] | LoadedAnnotation | None = None,
    metrics: Sequence[str] = (),
    protocol: str | None = None,
    by: Sequence[str] = (),
    unit: Literal["clip", "speaker", "recording"] | None = None,
    unit_field: str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare systems on the same clips: differences with intervals and tests, and the clips that changed.

    Args:
        systems: two or more, in a list, or by names of your own: what `run_model` gave, a run's folder, a
            predictions.jsonl, or another file of answers, which needs `annotation`.
        annotation: what files answer, and where `by` and `unit` look; run folders name theirs.
        metrics: names; () for all that every system has.
        protocol: how files are scored; None: as the first run folder, else "challenge".
        by: fields of the annotation, or "duration": parts of the set that are compared too.
        unit: what is drawn anew; None: as the first run, else "clip".
        unit_field: what tells a clip's unit, as scoring.unit_field.
        resamples: of draws and signs, 100 or more.
        seed: of both.

    Raises:
        AudioLMError: one cannot be read, or they do not compare, with every reason.
    """
    wrong = []
    if unit not in (None, "clip", "speaker", "recording"):
        wrong.append(Problem("unit", f"expected clip, speaker or recording, found {shown(unit)}"))
    for name, value, least in (("resamples", resamples, FEWEST_RESAMPLES), ("seed", seed, 0)):
        if value < least:
            wrong.append(Problem(name, f"expected {least} or more, found {value}"))
    for name, texts in (("metrics", metrics), ("by", by), ("systems", systems)):
        if isinstance(texts, str):
            wrong.append(Problem(name, f"expected a list, found the text {shown(texts)}"))
    if wrong:
        raise ConfigError(f"The systems cannot be compared: {counted(wrong)}.", wrong)
    named = systems.items() if isinstance(systems, Mapping) else [("", system) for system in systems]
    if isinstance(annotation, LoadedAnnotation):
        annotation = annotation.path
    return compare_sources(
        [_source(name, system) for name, system in named],
        metrics=metrics,
        annotation=typed_path_or_none(annotation),
        by=by,
        protocol=protocol,
        unit=unit,
        unit_field=unit_field,
        resamples=resamples,
        seed=seed,
    )


def _source(name: str, system: System) -> Source:
    path = system.folder if isinstance(system, EvaluationResult) else typed_path(system)
    return Source(path, printable(name))
