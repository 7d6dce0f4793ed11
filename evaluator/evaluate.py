"""One run from a config to a CSV and its scores: preflight, load, predict, write, score, report.

In: a model package, a validated config and a mode. Out:
`<output_dir>/{submission,valid}_results/<time>_<mode>.csv` and beside it a folder of the same name with
predictions.jsonl, run.json and, in valid modes, scores.json. Whatever fails, what was reached before stays on
disk, and run.json says where it ended.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evaluator.config import Config
from evaluator.errors import AudioLMError, ConfigError, ModelLoadError
from evaluator.journal import Journal, Prediction
from evaluator.model import AudioLM, ModelProvider
from evaluator.predict import predict
from evaluator.preflight import Preflight, preflight
from evaluator.redaction import Redactor
from evaluator.report import write_scores
from evaluator.run_record import (
    Counts,
    EvaluationResult,
    Failure,
    PeakMemory,
    RunRecord,
    process_peak_memory,
    sha256,
)
from evaluator.scoring import Scores, score
from evaluator.submission import write_submission
from evaluator.submission_text import clean_text, is_blank
from evaluator.tasks import Mode, is_scored

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where one run writes: the CSV, and the folder beside it."""

    csv: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What predicting gave: predictions in annotation order, and what the memory peaked at."""

    predictions: tuple[Prediction, ...]
    peak_memory: PeakMemory


def evaluate(
    provider: ModelProvider,
    config: Config,
    mode: Mode,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationResult:
    """Run one mode.

    Args:
        provider: the model package: a module or object with `load_model`.
        config: the validated config.
        mode: what to run.
        progress: told (samples done, samples in all) after each sample.

    Returns:
        EvaluationResult: counts, scores, times and paths.

    Raises:
        AudioLMError: with a sentence for the user and an exit code; see evaluator/errors.py.
    """
    record = RunRecord()
    redact = Redactor()
    redact.add_from(config)
    with record.stage("preflight"):
        ready = preflight(provider, config, mode)
        _note_inputs(record, provider, config, mode, ready)
    for notice in ready.notices:
        logger.warning("%s", notice)
    logger.info("Loading the model.")
    with record.stage("load_model"):
        model = load_model(provider, config)
    paths = make_run_paths(Path(config.run.output_dir), mode, record.started)
    with _recorded(record, paths, redact):
        outcome = _predict(model, config, ready, paths, record, progress)
        texts = [prediction.text for prediction in outcome.predictions]
        notices = _write_csv(config, mode, ready, texts, paths, record)
        scores, scoring_error = _score(config, mode, ready, texts, paths, record)
    return EvaluationResult(
        mode=mode,
        model=name_of(provider),
        checkpoint=str(config.model.get("ckpt") or ""),
        csv_path=paths.csv,
        folder=paths.folder,
        counts=count(outcome.predictions, cut=ready.cut),
        failures=failures_of(outcome.predictions),
        seconds=dict(record.seconds),
        audio_seconds=sum(prediction.audio_seconds for prediction in outcome.predictions),
        peak_memory=outcome.peak_memory,
        scores=scores,
        scoring_error=scoring_error,
        notices=(*ready.notices, *notices),
    )


def load_model(provider: ModelProvider, config: Config) -> AudioLM:
    """Load the model on the configured device.

    Args:
        provider: the model package.
        config: the validated config; its pass-through sections go to the model package as they are.

    Returns:
        AudioLM: the loaded model.

    Raises:
        ModelLoadError: whatever the model package raised, chained.
    """
    try:
        model = provider.load_model(config.mapping(), config.run.device)
    except AudioLMError:
        raise
    except Exception as error:  # the model package is foreign code: its own error types are not known here
        raise ModelLoadError(f"The model could not be loaded. {type(error).__name__}: {error}") from error
    if not isinstance(model, AudioLM):
        raise ModelLoadError(
            f"{name_of(provider)}.load_model returned {type(model).__name__}, "
            "which lacks sampling_rate or generate (see evaluator/model.py)."
        )
    return model


def make_run_paths(output_dir: Path, mode: Mode, started: datetime) -> RunPaths:
    """Make the folder of a run that began at `started`, and name its CSV.

    Two runs of the same second get two names: the later one's ends in "-2".

    Args:
        output_dir: the folder of all results; need not exist.
        mode: what is run.
        started: its beginning.

    Returns:
        RunPaths: for example valid_results/2025-01-31_09-05-00_valid_asr.csv and the folder without ".csv".

    Raises:
        ConfigError: if the folder cannot be made.
    """
    parent = output_dir / ("valid_results" if is_scored(mode) else "submission_results")
    stem = f"{started:%Y-%m-%d_%H-%M-%S}_{mode}"
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"Cannot make the folder {folder}: {error.strerror}.") from error
        else:
            return RunPaths(csv=folder.with_name(f"{folder.name}.csv"), folder=folder)


def count(predictions: Sequence[Prediction], *, cut: int) -> Counts:
    """Count rows by what became of them; `cut` is known from the audio headers."""
    return Counts(
        rows=len(predictions),
        failed=sum(prediction.finish_reason == "error" for prediction in predictions),
        empty=sum(p.finish_reason != "error" and is_blank(clean_text(p.text)) for p in predictions),
        cut=cut,
        hit_max_length=sum(prediction.finish_reason == "length" for prediction in predictions),
    )


def failures_of(predictions: Sequence[Prediction]) -> tuple[Failure, ...]:
    """The rows without an answer."""
    return tuple(Failure(p.id, p.error) for p in predictions if p.error is not None)


def name_of(provider: ModelProvider) -> str:
    """What the model package is called."""
    return str(getattr(provider, "__name__", type(provider).__name__))


@contextmanager
def _recorded(record: RunRecord, paths: RunPaths, redact: Redactor) -> Iterator[None]:
    """Write run.json however the block ends, and say what a run that did not end well has left."""
    target = paths.folder / "run.json"
    try:
        yield
    except BaseException as error:
        interrupted = not isinstance(error, Exception)
        reason = redact(f"{type(error).__name__}: {error}")
        record.write(target, status="interrupted" if interrupted else "failed", reason=reason)
        logger.error("The run did not finish. What it has is in %s", paths.folder)
        raise
    failed = record.facts.get("scoring_error")
    record.write(target, status="failed" if failed else "finished", reason=failed)


def _note_inputs(record: RunRecord, provider: ModelProvider, config: Config, mode: Mode, ready: Preflight) -> None:
    """Note what the run is made of: config, annotation, checkpoint."""
    checkpoint = config.model.get("ckpt")
    record.note(
        mode=mode,
        model=name_of(provider),
        config_file=str(config.path),
        config=config.public(),
        annotation=_fingerprint(ready.annotation),
        checkpoint=_fingerprint(Path(checkpoint)) if isinstance(checkpoint, str) and checkpoint else None,
        notices=list(ready.notices),
    )


def _fingerprint(path: Path) -> dict[str, str | None]:
    """A file's path and hash; None for what is no readable file, of which whoever needs it will tell more."""
    try:
        return {"path": str(path), "sha256": sha256(path) if path.is_file() else None}
    except OSError:
        return {"path": str(path), "sha256": None}


def _predict(
    model: AudioLM,
    config: Config,
    ready: Preflight,
    paths: RunPaths,
    record: RunRecord,
    progress: Callable[[int, int], None],
) -> Outcome:
    """Ask the model, journal in hand."""
    total = len(ready.samples)
    logger.info("Predicting %d row(s) of %s", total, ready.annotation)
    with record.stage("predict"), Journal(paths.folder / "predictions.jsonl") as journal:
        predictions = predict(
            model,
            ready.samples,
            journal=journal,
            on_audio_error=config.run.on_audio_error,
            workers=config.run.num_workers,
            progress=lambda done: progress(done, total),
        )
    outcome = Outcome(tuple(predictions), PeakMemory(process_peak_memory(), _device_peak_memory(model)))
    record.note(
        audio_seconds=round(sum(prediction.audio_seconds for prediction in predictions), 3),
        peak_memory_bytes=asdict(outcome.peak_memory),
        counts=asdict(count(predictions, cut=ready.cut)),
        failures=[asdict(failure) for failure in failures_of(predictions)],
    )
    return outcome


def _device_peak_memory(model: AudioLM) -> int | None:
    """The accelerator's peak in bytes, if the model knows it: its optional `peak_memory()`."""
    ask: Any = getattr(model, "peak_memory", None)
    found = ask() if ask is not None else None
    return int(found) if found is not None else None


def _write_csv(
    config: Config, mode: Mode, ready: Preflight, texts: Sequence[str], paths: RunPaths, record: RunRecord
) -> tuple[str, ...]:
    """Write the CSV; returns the writer's warnings."""
    with record.stage("write_csv"):
        report = write_submission(
            paths.csv,
            [(sample.id, text) for sample, text in zip(ready.samples, texts, strict=True)],
            empty_text=config.run.empty_text,
            require_ids=not is_scored(mode),
        )
    warnings = tuple(str(warning) for warning in report.warnings)
    record.note(csv={"path": str(paths.csv), "sha256": sha256(paths.csv)}, csv_warnings=list(warnings))
    logger.info("Wrote %s", paths.csv)
    return warnings


def _score(
    config: Config, mode: Mode, ready: Preflight, texts: Sequence[str], paths: RunPaths, record: RunRecord
) -> tuple[Scores | None, str | None]:
    """Score in valid modes; a failure is a reason, because the CSV and the predictions outlive it."""
    if not is_scored(mode):
        return None, None
    logger.info("Scoring.")
    references = [sample.references for sample in ready.samples]
    with record.stage("score"):
        try:
            scores = score(ready.task, references, texts, config.scoring)
        except AudioLMError as error:
            record.note(scoring_error=str(error))
            return None, str(error)
        write_scores(paths.folder / "scores.json", scores, ids=[sample.id for sample in ready.samples])
    return scores, None
