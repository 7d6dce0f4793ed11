"""The command `audiolm-evaluator setup-metrics`: fetches what SPICE needs beyond the Python packages."""

from pathlib import Path

import click

from evaluator.commands.command_line import SETTINGS, version_option
from evaluator.errors import ConfigError, MetricUnavailableError
from evaluator.extras import check_installed


@click.command("setup-metrics", context_settings=SETTINGS)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Take the files from here, no network: stanford-corenlp-full-2015-12-09.zip, or a folder with "
    "it or with stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar.",
)
@version_option
def setup_metrics_command(source: Path | None) -> None:
    """Install the files of SPICE and SPIDEr, once for this user.

    Fetches Stanford CoreNLP 3.6.0 (404 MB, GPL), the archive that aac-metrics-download fetches, and keeps the
    16 MB that SPICE reads. Everything is checked; it is installed whole or not at all.
    """
    try:
        check_installed("captions")
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    # Here, so that --help need not wait for them.
    from tqdm import tqdm

    from evaluator.scoring.spice_setup import install_spice_files

    with tqdm(unit="B", unit_scale=True, desc="CoreNLP 3.6.0", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        try:
            installed = install_spice_files(source, progress=show)
        except MetricUnavailableError as error:
            bar.close()
            click.echo(f"Error: {error.message}\n  {error.fix}", err=True)
            raise SystemExit(error.exit_code) from None
    state = "are already there" if installed.already else "are installed"
    click.echo(f"SPICE's files {state}: {installed.folder}")
