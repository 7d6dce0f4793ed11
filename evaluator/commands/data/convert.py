"""`audiolm-evaluator convert`: other people's data sets into annotations, and back where that makes sense."""

from pathlib import Path

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError


@click.command("convert", context_settings=SETTINGS)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option("--to", "target", metavar="FILE.json", type=click.Path(path_type=Path), required=True, help="To write.")
@click.option("--from", "kind", metavar="KIND", help="What SOURCE is. [default: as it looks]")
@click.option("--as", "into", metavar="KIND", default="annotation", show_default=True, help="What to write.")
@click.option("--task", metavar="LABEL", help="Of rows that have none. [default: asr, or audiocaption_v2 of captions]")
@click.option("--audio", metavar="FOLDER", type=click.Path(path_type=Path), help="For audio that lies in tables.")
@click.option("--suffix", metavar=".wav", help="Of audio files that are known by their id alone.")
@version_option
def convert_command(
    source: Path, target: Path, kind: str | None, into: str, task: str | None, audio: Path | None, suffix: str | None
) -> None:
    """Make an annotation of a data set, or a data set of an annotation (--as).

    SOURCE is a file or a folder of one of the kinds annotation, manifest (NeMo, JSON Lines), kaldi, librispeech,
    kspon, gigaspeech, clotho, audiocaps, wavcaps, tables (parquet, Arrow), lhotse, shar, webdataset. docs/data.md has
    an example of each.
    """
    escape_what_cannot_be_printed()
    # Here, so that --help need not wait for them.
    from evaluator.convert.clip_row import Choices
    from evaluator.convert.convert import convert, summary
    from evaluator.convert.kinds import KINDS, WRITTEN
    from evaluator.wording import did_you_mean

    for option, name, known in (("--from", kind, tuple(KINDS)), ("--as", into, WRITTEN)):
        if name is not None and name not in known:
            raise click.UsageError(f"{option}: {name} is not known; {did_you_mean(name, known)}")
    try:
        done = convert(source, target, kind=kind, into=into, task=task, choices=Choices(suffix, audio))
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    click.echo("\n".join(summary(done, source, target)))
