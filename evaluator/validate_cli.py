"""The command that checks a submission CSV: used by submission_validator.py and `audiolm-evaluator validate`.

Errors go to standard output, warnings to standard error. Exit status: 0 accepted, 1 refused, 2 wrong usage.
"""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from evaluator.submission import check_submission
from evaluator.submission_rules import Finding, SubmissionReport

SUCCESS = "Validation passed: The CSV file is valid."
SHOWN = 50


@click.command(name="validate", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("csv_file", metavar="FILE.csv", type=click.Path(path_type=Path))
@click.option(
    "--annotation",
    metavar="FILE.json",
    type=click.Path(path_type=Path),
    help="The annotation that the CSV answers: its ids must be there, and no others.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
def validate_command(csv_file: Path, annotation: Path | None, *, as_json: bool) -> None:
    """Check a submission CSV against every rule.

    Prints all problems with their codes and line numbers. docs/submission.md explains the codes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    report = check_submission(csv_file, annotation=annotation)
    if as_json:
        click.echo(_as_json(csv_file, report))
    else:
        _print(report)
    sys.exit(0 if report.valid else 1)


def _as_json(csv_file: Path, report: SubmissionReport) -> str:
    return json.dumps({"file": str(csv_file), "valid": report.valid, **asdict(report)}, indent=2)


def _print(report: SubmissionReport) -> None:
    _list("warning", report.warnings, report.warning_count, err=True)
    if report.valid:
        click.echo(SUCCESS)
        return
    _list("error", report.errors, report.error_count, err=False)
    click.echo(f"Validation failed: {report.error_count} error(s), {report.warning_count} warning(s).")


def _list(kind: str, findings: Sequence[Finding], count: int, *, err: bool) -> None:
    for finding in findings[:SHOWN]:
        click.echo(f"{kind} {finding}", err=err)
    if count > SHOWN:
        click.echo(f"... and {count - SHOWN} more {kind}s (--json lists up to 1000 of each code)", err=err)
