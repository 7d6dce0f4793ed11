"""`audiolm-evaluator compare`: whether one system is better than another, on the same clips."""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError, ConfigError

if TYPE_CHECKING:
    from evaluator.comparison.compare import Comparison

_EXAMPLES = """\b
Examples:
  audiolm-evaluator compare greedy=runs/1_valid_asr beams=runs/2_valid_asr
  audiolm-evaluator compare a.csv b.csv c.csv --annotation valid.json --metric wer
  audiolm-evaluator compare runs/1_valid_asr runs/2_valid_asr --by duration --by accent --json
"""


@click.command("compare", context_settings=SETTINGS, epilog=_EXAMPLES)
@click.argument("sources", metavar="SYSTEM SYSTEM...", nargs=-1, required=True)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="wer, cer, cider_d ...; repeat it. Default: all."
)
@click.option(
    "--annotation",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="What CSVs answer, and where --by and --unit look; run folders name theirs.",
)
@click.option(
    "--protocol", metavar="NAME", help="How files are scored. Default: as the first run folder, else challenge."
)
@click.option("--by", multiple=True, metavar="FIELD|duration", help="Compare parts of the set, too; repeat it.")
@click.option(
    "--unit",
    type=click.Choice(("clip", "speaker", "recording")),
    help="What is drawn anew. Default: scoring.unit of the first run, else clip.",
)
@click.option("--unit-field", metavar="FIELD|path:N|name:N", help="What tells a clip's unit, as scoring.unit_field.")
@click.option(
    "--resamples", type=click.IntRange(min=100), default=10_000, show_default=True, help="Of draws and signs."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of both.")
@click.option("--clips", type=click.IntRange(min=0), default=5, show_default=True, help="Clips shown of each kind.")
@click.option("--json", "as_json_object", is_flag=True, help="Print one JSON object.")
@version_option
def compare_command(
    sources: tuple[str, ...],
    metrics: tuple[str, ...],
    annotation: Path | None,
    protocol: str | None,
    by: tuple[str, ...],
    unit: str | None,
    unit_field: str | None,
    resamples: int,
    seed: int,
    clips: int,
    *,
    as_json_object: bool,
) -> None:
    """Compare systems on the same clips: differences with intervals and tests, and the clips that changed.

    SYSTEM is PATH or NAME=PATH: the folder of a finished run of a valid mode, its predictions.jsonl, or a CSV
    (testset_id,text; with --annotation). docs/comparing.md explains the figures.
    """
    escape_what_cannot_be_printed()
    # Here, so that --help need not wait for them.
    from evaluator.comparison.json_form import as_json
    from evaluator.comparison.lines import lines

    try:
        found = _compare(
            sources,
            metrics,
            annotation,
            by,
            protocol=protocol,
            unit=unit,
            unit_field=unit_field,
            resamples=resamples,
            seed=seed,
        )
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    if as_json_object:
        click.echo(json.dumps(as_json(found, clips=clips), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        click.echo("\n".join(lines(found, clips=clips)))


def _compare(
    sources: tuple[str, ...],
    metrics: tuple[str, ...],
    annotation: Path | None,
    by: tuple[str, ...],
    *,
    protocol: str | None,
    unit: str | None,
    unit_field: str | None,
    resamples: int,
    seed: int,
) -> "Comparison":
    from evaluator.comparison.comparable import comparable
    from evaluator.comparison.compare import compare
    from evaluator.comparison.slices import DURATION, slice_labels
    from evaluator.comparison.sources import read_reference, read_systems, reference_of_runs
    from evaluator.comparison.units import units_of
    from evaluator.comparison.words import align_systems

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
