"""One run from a config to a CSV and its scores: preflight, load, predict, write, score, report.

In: a model package, a validated config and a mode. Out:
`<output_dir>/{submission,valid}_results/<time>_<mode>.csv` and beside it a folder of the same name with
predictions.jsonl, run.json and, in valid modes, scores.json. Whatever fails, what was reached before stays on
disk, and run.json says where it ended. A run that was interrupted can go on; several processes can share one run
(evaluator/workers/rendezvous.py), of which the first does all of this and the others `take_part`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.config.config import Config
from evaluator.diagnosis.answers import Given
from evaluator.diagnosis.diagnosis import diagnosed
from evaluator.errors import AudioLMError
from evaluator.files import sha256
from evaluator.model import AudioLM, ModelProvider
from evaluator.preflight import Preflight, preflight
from evaluator.provider.loading import load_model, name_of
from evaluator.provider.probe import heard_seconds
from evaluator.provider.questions import check_parts
from evaluator.redaction import Redactor
from evaluator.report.summary import write_scores
from evaluator.run.clip_record import require_same_clips, write_clips
from evaluator.run.folder import (
    RunPaths,
    answered,
    find_run,
    make_run_paths,
    merge,
    next_attempt,
    results_folder,
)
from evaluator.run.inputs import note_inputs
from evaluator.run.journal import Prediction
from evaluator.run.latency import LATENCY_ELSEWHERE, UNDER_WAY, Latency
from evaluator.run.marks import PAUSE, STOP, clear_marks
from evaluator.run.record import (
    Counts,
    EvaluationResult,
    PeakMemory,
    RunRecord,
)
from evaluator.run.timing import speed_of
from evaluator.run_end import count, failures_of, recorded, write_ended
from evaluator.scoring.result import Scores
from evaluator.scoring.scored_set import score_set
from evaluator.speed.latency_pass import latency_of_run
from evaluator.submission.submission import MAX_TEXT, write_submission
from evaluator.tasks import Mode, is_scored
from evaluator.wording import named
from evaluator.workers.answering import Rows, answer_by_workers, answer_here
from evaluator.workers.launch import SINGLE, Launch
from evaluator.workers.pool import Pool
from evaluator.workers.worker import Attempt, peak_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What predicting gave.

    Attributes:
        predictions: in annotation order, those of earlier attempts included.
        counts: of them.
        audio_seconds: what the model was given in this attempt, in seconds.
        peak_memory: of the process that held most.
    """

    predictions: tuple[Prediction, ...]
    counts: Counts
    audio_seconds: float
    peak_memory: PeakMemory


@dataclass(slots=True)
class _Work:
    """What is to be run: all rows, places of those that are still to be asked, how and where this is recorded."""

    config: Config
    mode: Mode
    ready: Preflight
    left: tuple[int, ...]
    record: RunRecord
    paths: RunPaths

    def hear(self, seconds: float | None) -> None:
        """Note how much of a clip the loaded model hears, and tell the user what that changes."""
        told = len(self.ready.notices)
        self.ready = self.ready.heard(seconds)
        for notice in self.ready.notices[told:]:
            logger.warning("%s", notice)


def evaluate(
    provider: ModelProvider,
    config: Config,
    mode: Mode,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    resume: str | None = None,
    launch: Launch = SINGLE,
    limit: int | None = None,
    pool: Pool | None = None,
) -> EvaluationResult:
    """Run one mode, alone, as the first of several processes, or with workers.

    Args:
        provider: the model package: a module or object with `load_model`.
        config: the validated config.
        mode: what to run.
        progress: told (samples done, samples to be done in all) after each sample, or now and then.
        resume: the folder of an interrupted run to go on with, or "auto" for the latest that fits, if there is one.
        launch: the place of this process, which is process 0.
        limit: so many of the first rows only, for a try; None: all.
        pool: where workers run; None: the model runs in this process.

    Returns:
        EvaluationResult: counts, scores, times and paths.

    Raises:
        AudioLMError: with a sentence for the user and an exit code; see evaluator/errors.py.
    """
    record = RunRecord()
    redact = Redactor()
    redact.add(config.secret)
    work, model = _begin(provider, config, mode, record, resume=resume, limit=limit, loads=pool is None)
    if not launch.restarted:
        # A launcher that starts its processes again does not know that they were stopped.
        clear_marks(work.paths.parts, PAUSE, STOP)
    paths, ready = work.paths, work.ready
    with recorded(record, paths, redact, ready.samples):
        attempt = Attempt(paths, next_attempt(paths), launch, workers=pool is not None)
        outcome = _predict(model, work, attempt, progress, pool)
        texts = [prediction.text for prediction in outcome.predictions]
        notices = _write_csv(work, texts)
        scores, scoring_error = _score(work, outcome.predictions)
        # What run.json says should the process not live to say better.
        if record.latency is None:
            record.latency = UNDER_WAY.facts()
        record_error = write_ended(record, paths)
    latency = _latency(model, work, outcome, redact, pool)
    record_error = write_ended(record, paths) or record_error
    return EvaluationResult(
        mode=mode,
        model=name_of(provider),
        checkpoint=str(config.model.get("ckpt") or ""),
        csv_path=paths.csv,
        folder=paths.folder,
        counts=outcome.counts,
        failures=failures_of(outcome.predictions),
        seconds=dict(record.seconds),
        audio_seconds=outcome.audio_seconds,
        peak_memory=outcome.peak_memory,
        latency=latency,
        scores=scores,
        scoring_error=scoring_error,
        notices=(*ready.notices, *notices),
        all_rows=ready.all_rows,
        record_error=record_error,
        heard_seconds=record.heard_seconds or ready.limit,
    )


def _begin(
    provider: ModelProvider,
    config: Config,
    mode: Mode,
    record: RunRecord,
    *,
    resume: str | None,
    limit: int | None,
    loads: bool,
) -> tuple[_Work, AudioLM | None]:
    """Check everything, find or make the run's folder, and load the model if a row is left that this process asks."""
    with record.timed("preflight"):
        ready = preflight(provider, config, mode, limit=limit, loads=resume is None)
        identity = note_inputs(record, provider, config, mode, ready)
        parent = results_folder(Path(config.run.output_dir), mode)
        paths = find_run(resume, parent, identity) if resume is not None else None
        left = _left(ready, paths)
        # A run that is whole is scored anew where its model is not.
        check_parts(provider, config, needed=resume is not None and bool(left))
        if paths is not None:
            asked = set(left)
            answered_rows = {sample.index for place, sample in enumerate(ready.samples) if place not in asked}
            require_same_clips(paths.parts, ready.samples, ready.digests, answered_rows)
    for notice in ready.notices:
        logger.warning("%s", notice)
    if paths is not None:
        logger.info("Going on with %s: %d of %d row(s) are left.", paths.folder, len(left), len(ready.samples))
    model = None
    if left and loads:
        logger.info("Loading the model.")
        with record.timed("load_model"):
            model = load_model(provider, config)
    if paths is None:
        started = datetime.fromisoformat(record.started)
        paths = make_run_paths(Path(config.run.output_dir), mode, started, limit=record.limit)
    elif not left and (earlier := RunRecord.read(paths.record)) is not None:
        record.keep(earlier)
    if left:
        write_clips(paths.parts, ready.digests)
    work = _Work(config, mode, ready, left, record, paths)
    if model is not None:
        work.hear(heard_seconds(model))
    return work, model


def _left(ready: Preflight, paths: RunPaths | None) -> tuple[int, ...]:
    """Places of the rows to be asked. A clip that could not be read is tried again: it has no answer."""
    found = answered(paths, ready.samples) if paths is not None else {}
    done = {index for index, prediction in found.items() if prediction.finish_reason != "error"}
    return tuple(place for place, sample in enumerate(ready.samples) if sample.index not in done)


def _predict(
    model: AudioLM | None, work: _Work, attempt: Attempt, progress: Callable[[int, int], None], pool: Pool | None
) -> Outcome:
    """Have the rows that are left answered, here or by workers, and gather what all journals hold."""
    record, samples = work.record, work.ready.samples
    rows = Rows(samples=samples, left=work.left, seconds=work.ready.seconds, identity=record.identity or {})
    if work.left:
        logger.info("Predicting %d row(s) of %s", len(work.left), work.ready.annotation)
    if pool is None:
        done = answer_here(model, work.config, rows, attempt, progress, record.timed)
    elif work.left:
        done = answer_by_workers(pool, work.config, rows, attempt, progress, record.timed, work.hear)
    else:
        done = []
    predictions = merge(attempt.paths, samples)
    record.failures = [asdict(failure) for failure in failures_of(predictions)]
    if record.scored_again is not None:
        return _kept(predictions, work)
    counts = count(predictions, cut=work.ready.cut)
    asked = {samples[place].index for place in work.left}
    outcome = Outcome(tuple(predictions), counts, sum(each.audio_seconds for each in done), peak_memory(done))
    record.counts = asdict(counts)
    record.heard_seconds = work.ready.limit
    record.attempt = attempt.number
    record.rows_of_earlier_attempts = len(samples) - len(work.left)
    record.processes = [asdict(each) for each in done]
    record.audio_seconds = round(outcome.audio_seconds, 3)
    record.peak_memory_bytes = asdict(outcome.peak_memory)
    record.speed = asdict(speed_of([p for p in predictions if p.index in asked], record.seconds.get("predict", 0.0)))
    return outcome


def _kept(predictions: Sequence[Prediction], work: _Work) -> Outcome:
    """The outcome of a run that was whole before: what it measured, and what its model heard, is in its record."""
    record = work.record
    memory, heard = record.peak_memory_bytes or {}, record.counts or {}
    counts = count(predictions, cut=heard.get("cut", work.ready.cut))
    record.counts = asdict(counts)
    record.heard_seconds = work.ready.limit if record.heard_seconds is None else record.heard_seconds
    peaks = PeakMemory(**{name.name: memory.get(name.name) for name in fields(PeakMemory)})
    return Outcome(tuple(predictions), counts, record.audio_seconds or 0.0, peaks)


def _write_csv(work: _Work, texts: Sequence[str]) -> tuple[str, ...]:
    """Write the CSV; returns the writer's warnings."""
    record, paths = work.record, work.paths
    with record.timed("write_csv"):
        report = write_submission(
            paths.csv,
            [(sample.id, text) for sample, text in zip(work.ready.samples, texts, strict=True)],
            empty_text=work.config.run.empty_text,
            require_ids=not is_scored(work.mode),
        )
    warnings = tuple(str(warning) for warning in report.warnings)
    if report.cut:
        told = f"In the CSV {len(report.cut)} text(s) are cut to {MAX_TEXT} characters ({named(report.cut)})."
        logger.warning("%s", told)
        warnings = (*warnings, told)
    record.csv, record.csv_warnings = {"path": str(paths.csv), "sha256": sha256(paths.csv)}, list(warnings)
    logger.info("Wrote %s", paths.csv)
    return warnings


def _score(work: _Work, predictions: Sequence[Prediction]) -> tuple[Scores | None, str | None]:
    """Score in valid modes; a failure is a reason, because the CSV and the predictions outlive it."""
    record, ready = work.record, work.ready
    if not is_scored(work.mode):
        return None, None
    logger.info("Scoring.")
    references = [sample.references for sample in ready.samples]
    with record.timed("score"):
        try:
            choices = [sample.choices for sample in ready.samples]
            texts = [prediction.text for prediction in predictions]
            scores = score_set(ready.task, references, texts, work.config.scoring, ready.units, choices)
            scores = diagnosed(scores, [_given(*row) for row in zip(ready.samples, predictions, strict=True)])
        except AudioLMError as error:
            record.scoring_error = str(error)
            return None, str(error)
        write_scores(work.paths.folder / "scores.json", scores, ids=[sample.id for sample in ready.samples])
    return scores, None


def _given(sample: Sample, prediction: Prediction) -> Given:
    reason = prediction.finish_reason
    return Given(sample.id, sample.references, prediction.text, reason == "length", reason == "error")


def _latency(model: AudioLM | None, work: _Work, outcome: Outcome, redact: Redactor, pool: Pool | None) -> Latency:
    """Measure latency, after everything else and for a run.json that is complete without it."""
    record, run = work.record, work.config.run
    if record.scored_again is not None:
        # Measured when the model was there. That a signal ended it is told, but no longer leaves the run open.
        record.latency = {name: fact for name, fact in (record.latency or {}).items() if name != "interrupted"}
        return Latency.of(record.latency)
    if pool is not None:
        latency = Latency(reason=LATENCY_ELSEWHERE)
        record.latency = latency.facts()
        return latency
    texts = {prediction.index: prediction.text for prediction in outcome.predictions if prediction.error is None}
    with record.timed("latency"):
        latency = latency_of_run(
            model,
            work.ready.samples,
            texts,
            most=run.latency_clips,
            predict_seconds=record.seconds.get("predict", 0.0),
        )
    if latency.reason is not None:
        latency = replace(latency, reason=redact(latency.reason))
    record.latency = latency.facts()
    if latency.device_batch1 is not None and record.peak_memory_bytes is not None:
        record.peak_memory_bytes["device_batch1"] = latency.device_batch1
    return latency
