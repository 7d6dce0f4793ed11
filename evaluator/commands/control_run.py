"""`audiolm-evaluator status`, `pause`, `unpause` and `stop`: how a run goes, and having it wait or end.

In: a run's folder, on any machine that sees it. Out: lines or JSON; a mark in the folder that the run's processes find
within a second, before they begin their next clip.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from evaluator.commands.command_line import SETTINGS, version_option
from evaluator.errors import AudioLMError, JournalError
from evaluator.wording import duration

if TYPE_CHECKING:
    from evaluator.run.folder import RunPaths
    from evaluator.run.status import RunStatus, WorkerStatus

Function = TypeVar("Function", bound=Callable[..., Any])

_run_argument = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))


@click.command("status", context_settings=SETTINGS)
@_run_argument
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@version_option
def status_command(run: Path, as_json: bool) -> None:
    """Say how a run goes: rows done, rate, time left, failures, processes.

    RUN is the run's folder, its CSV or its predictions.jsonl.
    """
    with _told():
        from evaluator.run.status import read_status

        found = read_status(_paths(run))
    text = json.dumps(found.json(), ensure_ascii=False, indent=2) if as_json else "\n".join(status_lines(found))
    click.echo(text)


@click.command("pause", context_settings=SETTINGS)
@_run_argument
@version_option
def pause_command(run: Path) -> None:
    """Let a run wait: clips in hand are answered, none is begun until `unpause`. Memory stays taken."""
    _mark(run, "pause")


@click.command("unpause", context_settings=SETTINGS)
@_run_argument
@version_option
def unpause_command(run: Path) -> None:
    """Let a run that waits go on."""
    with _told():
        from evaluator.run.marks import PAUSE, clear_marks

        clear_marks(_running(run).parts, PAUSE)
    click.echo("The run goes on.")


@click.command("stop", context_settings=SETTINGS)
@_run_argument
@version_option
def stop_command(run: Path) -> None:
    """End a run: clips in hand are answered, the rest waits for --resume."""
    _mark(run, "stop")


def status_lines(status: "RunStatus") -> list[str]:
    """What a person wants to know of a run."""
    total = "" if status.rows is None else f" of {status.rows:,} ({100 * status.done // max(1, status.rows)} %)"
    reason = f": {status.reason}" if status.reason else ""
    lines = [
        str(status.folder),
        f"  {'state':10}{status.state}{reason}",
        f"  {'rows':10}{status.done:,}{total}, {status.failed:,} failed",
    ]
    if status.state in ("running", "stopping") and status.rate:
        left = "" if status.seconds_left is None else f", about {duration(status.seconds_left)} left"
        lines.append(f"  {'rate':10}{status.rate:,.1f} rows/s{left}")
    lines += [f"  {f'process {worker.number}':10}{_worker(worker)}" for worker in status.workers]
    return lines


def _worker(worker: "WorkerStatus") -> str:
    beat = worker.beat
    memory = "" if beat.memory is None else f", {beat.memory / 2**30:.1f} GiB"
    failed = f", {beat.failed:,} failed" if beat.failed else ""
    gone = "" if worker.alive else ", ended"
    return f"  {beat.rows:,} rows, {worker.rate:,.1f} rows/s{failed}{memory}, pid {beat.pid} on {beat.host}{gone}"


def _mark(run: Path, name: str) -> None:
    with _told():
        from evaluator.run.marks import set_mark

        set_mark(_running(run).parts, name)
    done = "waits" if name == "pause" else "ends"
    click.echo(f"The run {done} as soon as the clips in hand are answered.")


def _running(run: Path) -> "RunPaths":
    from evaluator.run.status import read_status

    paths = _paths(run)
    state = read_status(paths).state
    if state not in ("running", "paused", "stopping"):
        raise JournalError(f"{paths.folder} does not run: it is {state}.")
    if not paths.parts.is_dir():
        raise JournalError(f"{paths.folder} has all its answers: its results are being written.")
    return paths


def _paths(run: Path) -> "RunPaths":
    from evaluator.run.folder import folder_of, paths_of

    return paths_of(folder_of(run))


class _told:  # noqa: N801 - reads as a statement
    """A user error in the block is a sentence, and the command's exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AudioLMError):
            click.echo(f"Error: {error}", err=True)
            raise SystemExit(error.exit_code) from error
