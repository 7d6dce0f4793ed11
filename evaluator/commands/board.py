"""`audiolm-evaluator board`: systems ranked by several criteria, from finished runs or a CSV."""

import json
from dataclasses import replace
from pathlib import Path

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError

_EXAMPLES = """\b
Examples:
  audiolm-evaluator board teams.csv
  audiolm-evaluator board systems/* --plot board.svg
  audiolm-evaluator board small=runs/1_valid_asr small=runs/2_valid_aac teams.csv --what-if "small memory=3.6"
"""


@click.command("board", context_settings=SETTINGS, epilog=_EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--preset", "preset_name", metavar="NAME", help="nota-2025 (default), ratio or limit.")
@click.option("--criteria", type=click.Path(path_type=Path), metavar="FILE.yaml", help="Criteria of your own.")
@click.option("--baseline", metavar="SYSTEM", help="What the rules ratio and limit compare with.")
@click.option(
    "--limit-percent", type=click.FloatRange(min=0), metavar="X", help="Rule limit: at most X % worse (preset: 0.5)."
)
@click.option("--captions", type=click.Choice(("spider", "cider_d")), help="The metric that captions are ranked by.")
@click.option("--missing", type=click.Choice(("error", "last")), default="error", help="A system without a value.")
@click.option(
    "--what-if", "what_if", multiple=True, metavar='"SYSTEM CRITERION=VALUE"', help="Change a value; repeat it."
)
@click.option("--resamples", type=click.IntRange(min=0), default=1000, show_default=True, help="0: no probabilities.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resamples.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Write quality against cost.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of rows, best first.")
@version_option
def board_command(
    sources: tuple[str, ...],
    preset_name: str | None,
    criteria: Path | None,
    baseline: str | None,
    limit_percent: float | None,
    captions: str | None,
    missing: str,
    what_if: tuple[str, ...],
    resamples: int,
    seed: int,
    plot: Path | None,
    *,
    as_json: bool,
) -> None:
    """Rank systems by quality, memory and latency.

    SOURCE is PATH or NAME=PATH: the folder of a finished run of a valid mode, a folder with several, an
    efficiency.json, or a CSV with the columns system,wer,spider,memory_gb,latency_s[,qa]. Sources of one name are one
    system. docs/board.md has the rules.
    """
    escape_what_cannot_be_printed()
    if preset_name is not None and criteria is not None:
        raise click.UsageError("--preset and --criteria are two ways to say the same: give one of them.")
    # Here, so that --help need not wait for them.
    from evaluator.board.criteria import Rules, preset, read_rules
    from evaluator.board.plot import write_plot
    from evaluator.board.standings import lines, rows_json, stand
    from evaluator.board.systems import read_field
    from evaluator.board.what_if import parse_changes

    def chosen_rules() -> Rules:
        rules = preset(preset_name or "nota-2025") if criteria is None else read_rules(criteria)
        rules = rules if captions is None else rules.with_captions(captions)
        rules = rules if limit_percent is None else rules.with_limit(limit_percent)
        return rules if baseline is None else replace(rules, baseline=baseline)

    try:
        rules = chosen_rules()
        field = read_field(sources, rules.criteria, missing_last=missing == "last")
        rules = replace(rules, criteria=field.criteria)
        changes = parse_changes(what_if, [system.name for system in field.systems], rules.criteria)
        standings = stand(field, rules, changes, resamples=resamples, seed=seed)
        if plot is not None:
            write_plot(plot, standings)
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    if as_json:
        click.echo(json.dumps(rows_json(standings), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        click.echo("\n".join(lines(standings, resamples=resamples, seed=seed)))
