"""`audiolm-evaluator report`: a page of finished runs that one can look at and listen to."""

from pathlib import Path

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError

_EXAMPLES = """\b
Examples:
  audiolm-evaluator report valid_results/2026-01-31_09-05-00_valid_asr
  audiolm-evaluator report beams=runs/2_valid_asr greedy=runs/1_valid_asr --output beams.html
  audiolm-evaluator report runs/2_valid_asr runs/1_valid_asr --board teams.csv
"""


@click.command("report", context_settings=SETTINGS, epilog=_EXAMPLES)
@click.argument("sources", metavar="RUN [RUN_B...]", nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: report.html in RUN.")
@click.option(
    "--board", multiple=True, metavar="SOURCE", help="Tell each run's place among these, as `board` takes them."
)
@click.option("--preset", default="nota-2025", show_default=True, metavar="NAME", help="Rules of the board.")
@click.option(
    "--embed",
    type=click.FloatRange(min=0),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Audio in the page, the worst clips first; others are linked. 300 s are about 1.5 MB.",
)
@version_option
def report_command(
    sources: tuple[str, ...], output: Path | None, board: tuple[str, ...], preset: str, embed: float
) -> None:
    """Write a page of a run: scores, pictures, a table of clips to listen to. It opens from disk.

    RUN is PATH or NAME=PATH: the folder of a finished run of a valid mode. The page is of the first one; others are
    what it is compared with. docs/report.md says what is where.
    """
    escape_what_cannot_be_printed()
    # Here, so that --help need not wait for it.
    from evaluator.report.write import write_report

    try:
        path = write_report(sources, output, board=board, preset=preset, seconds=embed)
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    click.echo(str(path))
