"""One run from a config to a CSV and its scores: preflight, load, predict, write, score, report.

In: a model package, a validated config and a mode. Out:
`<output_dir>/{submission,valid}_results/<time>_<mode>.csv` and beside it a folder of the same name with
predictions.jsonl, run.json and, in valid modes, scores.json. Whatever fails, what was reached before stays on
disk, and run.json says where it ended. A run that was interrupted can go on; several processes can share one run
(evaluator/workers/rendezvous.py), of which the first does all of this and the others `take_part`.
"""

import logging
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from itertools import compress
from pathlib import Path

from evaluator.config.config import Config
from evaluator.diagnosis.answers import Given, spooled
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
from evaluator.report.write import write_beside
from evaluator.run.answers import Answers, Predictions
from evaluator.run.clip_record import require_same_clips, write_clips
from evaluator.run.folder import (
    RunPaths,
    find_run,
    make_run_paths,
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
from evaluator.speed.clips import spread_places
from evaluator.speed.latency_pass import latency_of_run
from evaluator.submission.submission import MAX_TEXT, write_submission
from evaluator.tasks import Mode, is_scored
from evaluator.wording import named
from evaluator.workers.answering import Progress, Rows, answer_by_workers, answer_here
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

    predictions: Predictions
    counts: Counts
    audio_seconds: float
    peak_memory: PeakMemory


@dataclass(slots=True)
class _Work:
    """What is to be run: all rows, places of those that are still to be asked, how and where this is recorded."""

    config: Config
    mode: Mode
    ready: Preflight
    left: Sequence[int]
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
    progress: Progress = lambda done, total, failed: None,
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
        progress: told (samples done, samples to be done in all, samples that failed) after each, or now and then.
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
        notices = _write_csv(work, outcome.predictions)
        scores, scoring_error = _score(work, outcome.predictions)
        # What run.json says should the process not live to say better.
        if record.latency is None:
            record.latency = UNDER_WAY.facts()
        record_error = write_ended(record, paths)
    latency = _latency(model, work, outcome, redact, pool)
    record_error = write_ended(record, paths) or record_error
    report = write_beside(paths.folder, len(ready.samples)) if scores is not None and config.run.report else None
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
        report=report,
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
        paths = find_run(resume, parent, identity, record.config) if resume is not None else None
        answers = Answers(paths, ready.samples) if paths is not None else None
        left = array("q", (at for at in range(len(ready.samples)) if answers is None or not answers.is_answered(at)))
        # A run that is whole is scored anew where its model is not.
        check_parts(provider, config, needed=resume is not None and bool(left))
        if paths is not None and answers is not None:
            require_same_clips(paths.parts, ready.samples, ready.digests, answers.is_answered)
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


def _predict(model: AudioLM | None, work: _Work, attempt: Attempt, progress: Progress, pool: Pool | None) -> Outcome:
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
    answers = Answers(attempt.paths, samples)
    predictions = answers.merge()
    if answers.twice.rows:
        record.answered_twice = asdict(answers.twice)
        logger.warning("%d row(s) were answered twice, %d differently.", answers.twice.rows, answers.twice.differing)
    record.failures = [asdict(failure) for failure in failures_of(predictions)]
    if record.scored_again is not None:
        return _kept(predictions, work)
    counts = count(predictions, cut=work.ready.cut)
    asked = bytearray(len(samples))
    for place in work.left:
        asked[place] = 1
    outcome = Outcome(predictions, counts, sum(each.audio_seconds for each in done), peak_memory(done))
    record.counts = asdict(counts)
    record.heard_seconds = work.ready.limit
    record.attempt = attempt.number
    record.rows_of_earlier_attempts = len(samples) - len(work.left)
    record.processes = [asdict(each) for each in done]
    record.audio_seconds = round(outcome.audio_seconds, 3)
    record.peak_memory_bytes = asdict(outcome.peak_memory)
    record.speed = asdict(speed_of(compress(predictions, asked), record.seconds.get("predict", 0.0)))
    return outcome


def _kept(predictions: Predictions, work: _Work) -> Outcome:
    """The outcome of a run that was whole before: what it measured, and what its model heard, is in its record."""
    record = work.record
    memory, heard = record.peak_memory_bytes or {}, record.counts or {}
    counts = count(predictions, cut=heard.get("cut", work.ready.cut))
    record.counts = asdict(counts)
    record.heard_seconds = work.ready.limit if record.heard_seconds is None else record.heard_seconds
    peaks = PeakMemory(**{name.name: memory.get(name.name) for name in fields(PeakMemory)})
    return Outcome(predictions, counts, record.audio_seconds or 0.0, peaks)


def _write_csv(work: _Work, predictions: Sequence[Prediction]) -> tuple[str, ...]:
    """Write the CSV; returns the writer's warnings."""
    record, paths = work.record, work.paths
    with record.timed("write_csv"):
        report = write_submission(
            paths.csv,
            ((prediction.id, prediction.text) for prediction in predictions),
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


def _score(work: _Work, predictions: Predictions) -> tuple[Scores | None, str | None]:
    """Score in valid modes; a failure is a reason, because the CSV and the predictions outlive it."""
    record, ready = work.record, work.ready
    if not is_scored(work.mode):
        return None, None
    logger.info("Scoring.")
    samples, texts = ready.samples, predictions.texts
    with record.timed("score"):
        try:
            scoring = work.config.scoring
            scores = score_set(ready.task, samples.references, texts, scoring, ready.units, samples.choices)
            pairs = zip(samples.references, predictions, strict=True)
            given = (Given.of(told.id, references, told.text, told.finish_reason) for references, told in pairs)
            scores = diagnosed(scores, spooled(given))
        except AudioLMError as error:
            record.scoring_error = str(error)
            return None, str(error)
        write_scores(work.paths.folder / "scores.json", scores, ids=samples.ids)
    return scores, None


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
    answered = array("q", (place for place, each in enumerate(outcome.predictions) if each.error is None))
    chosen = [answered[place] for place in spread_places(len(answered), run.latency_clips)]
    with record.timed("latency"):
        latency = latency_of_run(
            model,
            [work.ready.samples[place] for place in chosen],
            {outcome.predictions[place].index: outcome.predictions[place].text for place in chosen},
            most=run.latency_clips,
            predict_seconds=record.seconds.get("predict", 0.0),
        )
    if latency.reason is not None:
        latency = replace(latency, reason=redact(latency.reason))
    record.latency = latency.facts()
    if latency.device_batch1 is not None and record.peak_memory_bytes is not None:
        record.peak_memory_bytes["device_batch1"] = latency.device_batch1
    return latency
