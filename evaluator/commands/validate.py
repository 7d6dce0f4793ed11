"""The command that checks submission CSVs: used by submission_validator.py and `audiolm-evaluator validate`.

Errors go to standard output, warnings to standard error. Exit status: 0 accepted, 1 one is refused, 2 wrong usage.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.submission.rules import Finding, SubmissionReport
from evaluator.submission.submission import MAX_BYTES, check_submission

SUCCESS = "Validation passed: The CSV file is valid."
SHOWN = 50
_STANDARD_INPUT = Path("-")


@click.command(name="validate", context_settings=SETTINGS)
@click.argument("csv_files", metavar="FILE.csv...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--annotation",
    metavar="FILE.json",
    type=click.Path(path_type=Path),
    help="The annotation that the CSV answers: its ids must be there, and no others.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON; of several files a list.")
@version_option
def validate_command(csv_files: tuple[Path, ...], annotation: Path | None, *, as_json: bool) -> None:
    """Check submission CSVs against every rule; - is standard input.

    Prints all problems with their codes and line numbers. docs/submission.md explains the codes.
    """
    escape_what_cannot_be_printed()
    if csv_files.count(_STANDARD_INPUT) > 1:
        raise click.UsageError("- is standard input, which can be read once.")
    reports: list[tuple[Path, SubmissionReport]] = []
    for csv_file in csv_files:
        with _at_rest(csv_file) as path:
            reports.append((csv_file, check_submission(path, annotation=annotation)))
        if not as_json:
            _print(reports[-1][1], before=f"{csv_file}: " if len(csv_files) > 1 else "")
    valid = sum(report.valid for _, report in reports)
    if as_json:
        found = [{"file": str(path), "valid": report.valid, **asdict(report)} for path, report in reports]
        click.echo(json.dumps(found[0] if len(found) == 1 else found, indent=2))
    elif len(csv_files) > 1:
        click.echo(f"{valid} of {len(reports)} files are valid.")
    sys.exit(0 if valid == len(reports) else 1)


@contextmanager
def _at_rest(csv_file: Path) -> Iterator[Path]:
    """The file to check: what comes in on standard input is put into one, as far as a CSV may be long."""
    if csv_file != _STANDARD_INPUT:
        yield csv_file
        return
    with tempfile.TemporaryDirectory(prefix="audiolm-validate-") as folder:
        path = Path(folder) / "standard-input.csv"
        with path.open("wb") as file:
            _copy(sys.stdin.buffer, file)
        yield path


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    left = MAX_BYTES + 1
    while left > 0 and (piece := source.read(min(left, 1 << 20))):
        target.write(piece)
        left -= len(piece)


def _print(report: SubmissionReport, *, before: str) -> None:
    _list("warning", report.warnings, report.warning_count, before=before, err=True)
    if report.valid:
        click.echo(before + SUCCESS)
        return
    _list("error", report.errors, report.error_count, before=before, err=False)
    click.echo(f"{before}Validation failed: {report.error_count} error(s), {report.warning_count} warning(s).")


def _list(kind: str, findings: Sequence[Finding], count: int, *, before: str, err: bool) -> None:
    for finding in findings[:SHOWN]:
        click.echo(f"{before}{kind} {finding}", err=err)
    if count > SHOWN:
        click.echo(f"{before}... and {count - SHOWN} more {kind}s (--json lists up to 1000 of each code)", err=err)
