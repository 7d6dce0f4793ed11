"""`audiolm-evaluator compare`: whether one system is better than another, on the same clips."""

import json
from pathlib import Path

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError

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
    from evaluator.comparison.compare_sources import compare_sources
    from evaluator.comparison.json_form import as_json
    from evaluator.comparison.lines import lines
    from evaluator.comparison.sources import parse_source

    try:
        found = compare_sources(
            [parse_source(source) for source in sources],
            metrics=metrics,
            annotation=annotation,
            by=by,
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
