"""The command `audiolm-evaluator score`: answers that are on disk, scored without a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.commands.command_line import SETTINGS, ManyValues, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError, ConfigError, ResultError
from evaluator.tasks import TASKS, task_named

if TYPE_CHECKING:
    from evaluator.answer_files.scored_file import ScoredAnswers
    from evaluator.config.sections import ScoringConfig
    from evaluator.scoring.protocols.signature import Signature


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
        from evaluator.config.scoring_settings import scoring_settings

        config, shuffle = scoring_settings(cfg_path, options)
        if protocol is not None:
            config = config.model_copy(update={"protocol": protocol})
        signature, config = _replayed(line, config)
        done = _score(annotation, predictions, task, config, signature, shuffle)
        if output_dir is not None:
            _write(output_dir, done)
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    for notice in done.notices:
        click.echo(f"Note: {notice}", err=True)
    click.echo("\n".join(_lines(done, annotation, predictions, as_json=as_json)))
    raise SystemExit(0 if any(metric.value is not None for metric in done.scores.metrics) else 1)


def _replayed(line: str | None, config: "ScoringConfig") -> "tuple[Signature | None, ScoringConfig]":
    """The signature, if one is given, and the settings with what it says.

    Raises:
        ConfigError: it is no signature, or versions differ from those installed here.
    """
    from evaluator.scoring.protocols.explain import differences, settings_of
    from evaluator.scoring.protocols.signature import parse_signature

    if line is None:
        return None, config
    signature = parse_signature(line)
    said, wrong = settings_of(signature), differences(signature)
    if wrong:
        raise ConfigError("The signature cannot be replayed with what is installed here:", wrong)
    return signature, config.model_copy(update=said.model_dump(exclude_unset=True))


def _score(
    annotation: Path,
    predictions: Path,
    task: str | None,
    config: "ScoringConfig",
    signature: "Signature | None",
    shuffle: int | None,
) -> "ScoredAnswers":
    from dataclasses import replace

    from evaluator.answer_files.scored_file import only_signed, score_answer_file

    chosen = task_named(task) if task is not None else None
    done = score_answer_file(annotation, predictions, chosen, config, shuffle=shuffle)
    return done if signature is None else replace(done, scores=only_signed(done.scores, signature))


def _write(folder: Path, done: "ScoredAnswers") -> None:
    from evaluator.report.summary import write_scores

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"Cannot make the folder {folder}: {error.strerror}.") from error
    write_scores(folder / "scores.json", done.scores, ids=done.ids)


def _lines(done: "ScoredAnswers", annotation: Path, predictions: Path, *, as_json: bool) -> list[str]:
    from evaluator.report.summary import diagnosis_lines, label_line, score_lines, scores_json

    if as_json:
        return [json.dumps(scores_json(done.scores, ids=done.ids), ensure_ascii=False, indent=2, allow_nan=False)]
    return [
        f"{predictions}: {done.task.title}",
        *label_line("annotation", str(annotation)),
        *label_line("rows", str(done.scores.num_samples)),
        *label_line("empty", str(done.scores.details.get("empty_hypotheses", 0))),
        *score_lines(done.scores),
        *diagnosis_lines(done.scores),
    ]
