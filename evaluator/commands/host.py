"""`audiolm-evaluator host`: all submissions of a folder scored against hidden references, and one table."""

import json
from pathlib import Path

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError, ConfigError, ResultError
from evaluator.tasks import TASKS, task_named

PARTICIPANTS, ORGANISERS = "participants", "organisers"


@click.command("host", context_settings=SETTINGS)
@click.option("--reference", metavar="HIDDEN.json", type=click.Path(path_type=Path), required=True, help="References.")
@click.option("--submissions", metavar="FOLDER", type=click.Path(path_type=Path), required=True, help="CSV files.")
@click.option("--output-dir", metavar="FOLDER", type=click.Path(path_type=Path), required=True, help="For the results.")
@click.option("--task", type=click.Choice([task.name for task in TASKS]), default="asr", show_default=True)
@click.option("--metric", default=None, metavar="NAME", help="To rank by. [default: wer, cider_d, accuracy ...]")
@click.option("--protocol", default="challenge", show_default=True, metavar="NAME")
@click.option("--public-share", type=click.FloatRange(0, 1), help="Part of the rows whose scores participants see.")
@click.option(
    "--public-ids", metavar="FILE.txt", type=click.Path(path_type=Path), help="These rows instead, an id a line."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --public-share.")
@version_option
def host_command(
    reference: Path,
    submissions: Path,
    output_dir: Path,
    task: str,
    metric: str | None,
    protocol: str,
    public_share: float | None,
    public_ids: Path | None,
    seed: int,
) -> None:
    """Score every CSV of a folder and rank them.

    OUTPUT gets leaderboard.csv, .json and .md, and for each submission a file in participants/, which its team may see,
    and one in organisers/ with everything.
    """
    escape_what_cannot_be_printed()
    if public_share is not None and public_ids is not None:
        raise click.UsageError("--public-share and --public-ids are two ways to say the same: give one.")
    try:
        table = _host(
            reference,
            submissions,
            output_dir,
            task,
            metric,
            protocol,
            _public(reference, public_share, public_ids, seed),
        )
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    click.echo(table)


def _public(reference: Path, share: float | None, file: Path | None, seed: int) -> frozenset[str] | None:
    from evaluator.annotation.annotation import submission_ids
    from evaluator.host.board import check_public, public_part

    if file is not None:
        try:
            # Editors of Windows put a byte order mark before the first id.
            ids = frozenset(filter(None, map(str.strip, file.read_text(encoding="utf-8-sig").splitlines())))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--public-ids: {file} cannot be read: {error}") from error
        check_public(ids, submission_ids(reference), str(file))
        return ids
    return None if share is None else public_part(submission_ids(reference), share=share, seed=seed)


def _host(
    reference: Path,
    submissions: Path,
    output: Path,
    task_name: str,
    metric: str | None,
    protocol: str,
    public: frozenset[str] | None,
) -> str:
    from evaluator.config.sections import ScoringConfig
    from evaluator.files import write_json
    from evaluator.host.board import as_csv, as_markdown, check_metric, distinct, rank
    from evaluator.host.verdict import Reference, judge, metrics_of
    from evaluator.scoring.result import KINDS
    from evaluator.wording import printable

    task = task_named(task_name)
    names = [name for name, kind in KINDS.items() if kind.task == task.name]
    usual = "cider_d" if task.name == "aac" else names[0]
    files = sorted(each for each in _entries(submissions) if each.suffix.lower() == ".csv")
    if output.resolve() == submissions.resolve():
        raise ConfigError(
            f"--output-dir: {output} holds the submissions, and leaderboard.csv would be one of them: choose another."
        )
    if not files:
        raise ConfigError(f"--submissions: there is no CSV file in {submissions}.")
    judged, config = Reference(reference, task, public), ScoringConfig(protocol=protocol)
    # What is wrong with the references or the options is the organisers' to mend, and no submission's fault.
    check_metric(metric or usual, metrics_of(judged, config))
    _make_folders(output)
    places = rank([judge(file, judged, config) for file in files], metric or usual)
    for place, name in zip(places, distinct([printable(place.verdict.name) for place in places]), strict=True):
        verdict = place.verdict
        write_json(output / PARTICIPANTS / f"{name}.json", verdict.for_participants())
        write_json(output / ORGANISERS / f"{name}.json", {"rank": place.rank, **verdict.for_organisers()})
    rows = [{"rank": place.rank, "tied": place.tied, **place.verdict.for_organisers()} for place in places]
    _write(output / "leaderboard.csv", as_csv(places))
    _write(output / "leaderboard.md", as_markdown(places))
    _write(output / "leaderboard.json", json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    return as_markdown(places)


def _write(file: Path, text: str) -> None:
    from evaluator.files import replacing

    try:
        # Names of files need not be Unicode.
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ResultError(f"Cannot write {file}: {error.strerror or error}.") from error


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"--submissions: {folder} cannot be read: {error.strerror or error}.") from error


def _make_folders(output: Path) -> None:
    """Make the folders before anything is scored: hours of scoring are not to end at a folder."""
    try:
        for kind in (PARTICIPANTS, ORGANISERS):
            (output / kind).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output-dir: {output} cannot be written: {error.strerror or error}.") from error
