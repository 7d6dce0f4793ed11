"""The command `audiolm-evaluator score`: answers that are on disk, scored without a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.commands.command_line import SETTINGS, ManyValues, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError, ResultError
from evaluator.tasks import TASKS, task_named

if TYPE_CHECKING:
    from evaluator.answer_files.scored_file import ScoredAnswers


@click.command("score", cls=ManyValues, context_settings=SETTINGS)
@click.option("--annotation", metavar="FILE.json", type=click.Path(path_type=Path), required=True, help="References.")
@click.option(
    "--predictions",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="A CSV (testset_id,text), JSON Lines or a JSON list of the same, a predictions.jsonl, a run's folder.",
)
@click.option("--task", type=click.Choice([task.name for task in TASKS]), help="Default: what the rows' labels say.")
@click.option("--protocol", metavar="NAME", help="How to score (docs/protocols.md). [default: challenge]")
@click.option("--signature", "line", metavar="SIGNATURE", help="Score as it says; other versions are an error.")
@click.option("--cfg-path", metavar="FILE.yaml", type=click.Path(path_type=Path), help="Score as this run would.")
@click.option(
    "--options", multiple=True, metavar="KEY=VALUE ...", help="Override settings: --options scoring.unit=speaker"
)
@click.option("--output-dir", metavar="FOLDER", type=click.Path(path_type=Path), help="Write scores.json into it.")
@click.option("--json", "as_json", is_flag=True, help="Print what scores.json holds.")
@version_option
def score_command(
    annotation: Path,
    predictions: Path,
    task: str | None,
    protocol: str | None,
    line: str | None,
    cfg_path: Path | None,
    options: tuple[str, ...],
    output_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Score answers that somebody has made, without a model and without audio.

    Clips without an answer, answers for no clip and repeated ones are one report that names them.
    """
    escape_what_cannot_be_printed()
    if line is not None and protocol is not None:
        raise click.UsageError("--signature says the protocol: give it alone.")
    try:
        # Here, so that --help need not wait for it.
        from evaluator.answer_files.signed import score_as_signed
        from evaluator.config.scoring_settings import scoring_settings

        chosen = task_named(task) if task is not None else None
        config, shuffle = scoring_settings(cfg_path, options)
        if protocol is not None:
            config = config.model_copy(update={"protocol": protocol})
        done = score_as_signed(annotation, predictions, chosen, config, line, shuffle=shuffle)
        if output_dir is not None:
            _write(output_dir, done)
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    for notice in done.notices:
        click.echo(f"Note: {notice}", err=True)
    from evaluator.report.summary import scores_json, summarize_answers

    if as_json:
        told = scores_json(done.scores, ids=done.ids)
        click.echo(json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False))
    else:
        click.echo("\n".join(summarize_answers(done)))
    raise SystemExit(0 if any(metric.value is not None for metric in done.scores.metrics) else 1)


def _write(folder: Path, done: "ScoredAnswers") -> None:
    from evaluator.report.summary import write_scores

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"Cannot make the folder {folder}: {error.strerror}.") from error
    write_scores(folder / "scores.json", done.scores, ids=done.ids)
