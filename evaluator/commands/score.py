"""The command `audiolm-evaluator score`: answers that are on disk, scored without a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError, ConfigError, ResultError
from evaluator.tasks import TASKS

if TYPE_CHECKING:
    from evaluator.answer_files.scored_file import ScoredAnswers
    from evaluator.config.sections import ScoringConfig
    from evaluator.scoring.protocols.signature import Signature


@click.command("score", context_settings=SETTINGS)
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
@click.option(
    "--dual-transcripts",
    type=click.Choice(["none", "spelling", "phonetic"]),
    help="Side of (spelling)/(pronunciation) in the references, for the Korean protocols.",
)
@click.option("--signature", "line", metavar="SIGNATURE", help="Score as it says; other versions are an error.")
@click.option("--unit", type=click.Choice(["clip", "speaker", "recording"]), default="clip", help="What is drawn anew.")
@click.option("--unit-field", default="", help="The annotation's field with it, or path:1, name:1 (docs/scoring.md).")
@click.option("--shuffle-choices", type=int, metavar="SEED", help="The run's datasets.shuffle_choices.")
@click.option("--output-dir", metavar="FOLDER", type=click.Path(path_type=Path), help="Write scores.json into it.")
@click.option("--json", "as_json", is_flag=True, help="Print what scores.json holds.")
@version_option
def score_command(
    annotation: Path,
    predictions: Path,
    task: str | None,
    protocol: str | None,
    dual_transcripts: str | None,
    line: str | None,
    unit: str,
    unit_field: str,
    shuffle_choices: int | None,
    output_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Score answers that somebody has made, without a model and without audio.

    Clips without an answer, answers for no clip and repeated ones are one report that names them.
    """
    escape_what_cannot_be_printed()
    if line is not None and (protocol is not None or dual_transcripts is not None):
        raise click.UsageError("--signature says the protocol: give it alone.")
    try:
        signature, config = _settings(line, protocol, dual_transcripts)
        config = config.model_copy(update={"unit": unit, "unit_field": unit_field})
        done = _score(annotation, predictions, task, config, signature, shuffle_choices)
        if output_dir is not None:
            _write(output_dir, done)
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    for notice in done.notices:
        click.echo(f"Note: {notice}", err=True)
    click.echo("\n".join(_lines(done, annotation, predictions, as_json=as_json)))
    raise SystemExit(0 if any(metric.value is not None for metric in done.scores.metrics) else 1)


def _settings(
    line: str | None, protocol: str | None, dual_transcripts: str | None
) -> "tuple[Signature | None, ScoringConfig]":
    """The signature, if one is given, and the settings that it or the options stand for.

    Raises:
        ConfigError: it is no signature, or versions differ from those installed here.
    """
    # Here, so that --help need not wait for them.
    from evaluator.config.sections import ScoringConfig
    from evaluator.scoring.protocols.explain import differences, settings_of
    from evaluator.scoring.protocols.signature import parse_signature

    if line is None:
        given = {"protocol": protocol, "dual_transcripts": dual_transcripts}
        return None, ScoringConfig.model_validate({key: value for key, value in given.items() if value is not None})
    signature = parse_signature(line)
    config, wrong = settings_of(signature), differences(signature)
    if wrong:
        raise ConfigError("The signature cannot be replayed with what is installed here:", wrong)
    return signature, config


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

    chosen = next((each for each in TASKS if each.name == task), None)
    done = score_answer_file(annotation, predictions, chosen, config, shuffle=shuffle)
    return done if signature is None else replace(done, scores=only_signed(done.scores, signature))


def _write(folder: Path, done: "ScoredAnswers") -> None:
    from evaluator.report import write_scores

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"Cannot make the folder {folder}: {error.strerror}.") from error
    write_scores(folder / "scores.json", done.scores, ids=done.ids)


def _lines(done: "ScoredAnswers", annotation: Path, predictions: Path, *, as_json: bool) -> list[str]:
    from evaluator.report import label_line, score_lines, scores_json

    if as_json:
        return [json.dumps(scores_json(done.scores, ids=done.ids), ensure_ascii=False, indent=2, allow_nan=False)]
    return [
        f"{predictions}: {done.task.title}",
        *label_line("annotation", str(annotation)),
        *label_line("rows", str(done.scores.num_samples)),
        *label_line("empty", str(done.scores.details.get("empty_hypotheses", 0))),
        *score_lines(done.scores),
    ]
