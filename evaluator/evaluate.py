"""One run from a config to a CSV and its scores: preflight, load, predict, write, score, report.

In: a model package, a validated config and a mode. Out:
`<output_dir>/{submission,valid}_results/<time>_<mode>.csv` and beside it a folder of the same name with
predictions.jsonl, run.json and, in valid modes, scores.json. Whatever fails, what was reached before stays on
disk, and run.json says where it ended. A run that was interrupted can go on; several processes can share one run
(evaluator/run/rendezvous.py), of which the first does all of this and the others `take_part`.
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
from evaluator.errors import AudioLMError, JournalError
from evaluator.files import sha256
from evaluator.machine import machine, versions
from evaluator.model import AudioLM, ModelProvider
from evaluator.preflight import Preflight, preflight
from evaluator.provider.control import Controlled
from evaluator.provider.loading import load_model, name_of
from evaluator.provider.questions import check_parts, found_fingerprints
from evaluator.redaction import Redactor
from evaluator.report.summary import write_scores
from evaluator.run.clip_record import require_same_clips, write_clips
from evaluator.run.folder import (
    RunPaths,
    answered,
    find_run,
    identity_of,
    make_run_paths,
    merge,
    next_attempt,
    results_folder,
)
from evaluator.run.journal import Journal, Prediction
from evaluator.run.latency import UNDER_WAY, Latency
from evaluator.run.launch import SINGLE, Launch
from evaluator.run.record import (
    Counts,
    EvaluationResult,
    PeakMemory,
    RunRecord,
)
from evaluator.run.rendezvous import announce_shares, await_share, join, report_done, wait_for_others
from evaluator.run.row_shares import balance
from evaluator.run.timing import speed_of
from evaluator.run.worker import Attempt, WorkerReport, answer_share, peak_memory
from evaluator.run_end import count, failures_of, recorded, write_ended
from evaluator.scoring.result import Scores
from evaluator.scoring.scored_set import score_set
from evaluator.speed.latency_pass import latency_of_run
from evaluator.submission.submission import MAX_TEXT, write_submission
from evaluator.tasks import Mode, is_scored
from evaluator.wording import named

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


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be run: all rows, those that are still to be asked, and how and where this is recorded."""

    config: Config
    mode: Mode
    ready: Preflight
    left: tuple[Sample, ...]
    record: RunRecord
    paths: RunPaths


def evaluate(
    provider: ModelProvider,
    config: Config,
    mode: Mode,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    resume: str | None = None,
    launch: Launch = SINGLE,
    limit: int | None = None,
) -> EvaluationResult:
    """Run one mode, alone or as the first of several processes.

    Args:
        provider: the model package: a module or object with `load_model`.
        config: the validated config.
        mode: what to run.
        progress: told (samples done, samples of this process in all) after each sample.
        resume: the folder of an interrupted run to go on with, or "auto" for the latest that fits, if there is one.
        launch: the place of this process, which is process 0.
        limit: so many of the first rows only, for a try; None: all.

    Returns:
        EvaluationResult: counts, scores, times and paths.

    Raises:
        AudioLMError: with a sentence for the user and an exit code; see evaluator/errors.py.
    """
    record = RunRecord()
    redact = Redactor()
    redact.add(config.secret)
    work, model = _begin(provider, config, mode, record, resume=resume, limit=limit)
    paths, ready = work.paths, work.ready
    with recorded(record, paths, redact, ready.samples):
        outcome = _predict(model, work, Attempt(paths, next_attempt(paths), launch), progress)
        texts = [prediction.text for prediction in outcome.predictions]
        notices = _write_csv(work, texts)
        scores, scoring_error = _score(work, outcome.predictions)
        # What run.json says should the process not live to say better.
        if record.latency is None:
            record.latency = UNDER_WAY.facts()
        record_error = write_ended(record, paths)
    latency = _latency(model, work, outcome, redact)
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
    provider: ModelProvider, config: Config, mode: Mode, record: RunRecord, *, resume: str | None, limit: int | None
) -> tuple[_Work, AudioLM | None]:
    """Check everything, find or make the run's folder, and load the model if a row is left to ask."""
    with record.timed("preflight"):
        ready = preflight(provider, config, mode, limit=limit, loads=resume is None)
        identity = _note_inputs(record, provider, config, mode, ready)
        parent = results_folder(Path(config.run.output_dir), mode)
        paths = find_run(resume, parent, identity) if resume is not None else None
        left = _left(ready, paths)
        # A run that is whole is scored anew where its model is not.
        check_parts(provider, config, needed=resume is not None and bool(left))
        if paths is not None:
            answered_rows = {sample.index for sample in ready.samples} - {sample.index for sample in left}
            require_same_clips(paths.parts, ready.samples, ready.digests, answered_rows)
    for notice in ready.notices:
        logger.warning("%s", notice)
    if paths is not None:
        logger.info("Going on with %s: %d of %d row(s) are left.", paths.folder, len(left), len(ready.samples))
    model = None
    if left:
        logger.info("Loading the model.")
        with record.timed("load_model"):
            model = load_model(provider, config)
        told = len(ready.notices)
        ready = ready.heard_by(model)
        for notice in ready.notices[told:]:
            logger.warning("%s", notice)
    if paths is None:
        paths = make_run_paths(
            Path(config.run.output_dir), mode, datetime.fromisoformat(record.started), limit=record.limit
        )
    elif not left and (earlier := RunRecord.read(paths.record)) is not None:
        record.keep(earlier)
    if left:
        write_clips(paths.parts, ready.digests)
    return _Work(config, mode, ready, left, record, paths), model


def take_part(provider: ModelProvider, config: Config, mode: Mode, *, launch: Launch, limit: int | None = None) -> None:
    """Answer the rows that process 0 deals to this process, into a journal of its own.

    Args:
        provider: the model package.
        config: the validated config.
        mode: what is run.
        launch: the place of this process, which is not process 0.
        limit: as process 0 has it.

    Raises:
        AudioLMError: as `evaluate`; also if process 0 does not turn up or runs something else.
    """
    record = RunRecord()
    with record.timed("preflight"):
        ready = preflight(provider, config, mode, limit=limit)
        identity = _note_inputs(record, provider, config, mode, ready)
    with record.timed("load_model"):
        model = load_model(provider, config)
    attempt, rows = await_share(results_folder(Path(config.run.output_dir), mode), launch, identity)
    share = [ready.samples[row] for row in rows]
    with Journal(attempt.journal(launch.rank)) as journal:
        join(attempt, locked=journal.locked)
        with record.timed("predict"):
            done = answer_share(model, config, share, journal, launch=launch)
        journal.sync()
        # While the journal is still locked: a journal without lock and mark is that of a dead process.
        report_done(attempt, done)


def _note_inputs(
    record: RunRecord, provider: ModelProvider, config: Config, mode: Mode, ready: Preflight
) -> dict[str, str]:
    """Note what the run is made of: config, annotation, checkpoint; returns it as hashes."""
    checkpoint = config.model.get("ckpt")
    record.mode = mode
    record.model = name_of(provider)
    record.config_file = str(config.path)
    record.config = config.public()
    record.annotation = _fingerprint(ready.annotation)
    record.checkpoint = _fingerprint(Path(checkpoint)) if isinstance(checkpoint, str) and checkpoint else None
    record.control = provider.control if isinstance(provider, Controlled) else None
    record.model_files = found_fingerprints(provider, config)
    record.notices = list(ready.notices)
    record.machine = machine()
    record.limit = None if ready.all_rows is None else len(ready.samples)
    record.identity = identity_of(record, versions())
    return record.identity


def _left(ready: Preflight, paths: RunPaths | None) -> tuple[Sample, ...]:
    """The rows that are still to be asked. A clip that could not be read is tried again: it has no answer."""
    found = answered(paths, ready.samples) if paths is not None else {}
    done = {index for index, prediction in found.items() if prediction.finish_reason != "error"}
    return tuple(sample for sample in ready.samples if sample.index not in done)


def _fingerprint(path: Path) -> dict[str, str | None]:
    """A file's path and hash; None for what is no readable file, of which whoever needs it will tell more."""
    try:
        return {"path": str(path), "sha256": sha256(path) if path.is_file() else None}
    except OSError:
        return {"path": str(path), "sha256": None}


def _predict(model: AudioLM | None, work: _Work, attempt: Attempt, progress: Callable[[int, int], None]) -> Outcome:
    """Ask the model for the rows that are left, journal in hand, and gather what the other processes have answered."""
    record, samples, launch = work.record, work.ready.samples, attempt.launch
    shares = _shares(work, launch.world_size)
    done: list[WorkerReport] = []
    if work.left or launch.world_size > 1:
        _make_parts(attempt.journal(0).parent)
        with Journal(attempt.journal(0)) as journal:
            if launch.world_size > 1:
                with record.timed("meet"):
                    announce_shares(
                        attempt, [[sample.index for sample in share] for share in shares], record.identity or {}
                    )
            with record.timed("predict"):
                _log_start(work, shares)
                own = answer_share(model, work.config, shares[0], journal, launch=launch, progress=progress)
                done = [own, *wait_for_others(attempt)]
    predictions = merge(attempt.paths, samples)
    record.failures = [asdict(failure) for failure in failures_of(predictions)]
    if record.scored_again is not None:
        return _kept(predictions, work)
    counts = count(predictions, cut=work.ready.cut)
    asked = {sample.index for sample in work.left}
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


def _make_parts(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise JournalError(f"Cannot make the folder {folder}: {error.strerror}.") from error


def _kept(predictions: Sequence[Prediction], work: _Work) -> Outcome:
    """The outcome of a run that was whole before: what it measured, and what its model heard, is in its record."""
    record = work.record
    memory, heard = record.peak_memory_bytes or {}, record.counts or {}
    counts = count(predictions, cut=heard.get("cut", work.ready.cut))
    record.counts = asdict(counts)
    record.heard_seconds = work.ready.limit if record.heard_seconds is None else record.heard_seconds
    peaks = PeakMemory(**{name.name: memory.get(name.name) for name in fields(PeakMemory)})
    return Outcome(tuple(predictions), counts, record.audio_seconds or 0.0, peaks)


def _shares(work: _Work, processes: int) -> list[list[Sample]]:
    seconds = dict(zip((sample.index for sample in work.ready.samples), work.ready.seconds, strict=True))
    dealt = balance([seconds[sample.index] for sample in work.left], processes)
    return [[work.left[place] for place in share] for share in dealt]


def _log_start(work: _Work, shares: Sequence[Sequence[Sample]]) -> None:
    among = f", {len(shares[0])} here, the others in {len(shares) - 1} more process(es)" if len(shares) > 1 else ""
    logger.info("Predicting %d row(s) of %s%s", len(work.left), work.ready.annotation, among)


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


def _latency(model: AudioLM | None, work: _Work, outcome: Outcome, redact: Redactor) -> Latency:
    """Measure latency, after everything else and for a run.json that is complete without it."""
    record, run = work.record, work.config.run
    if record.scored_again is not None:
        # Measured when the model was there. That a signal ended it is told, but no longer leaves the run open.
        record.latency = {name: fact for name, fact in (record.latency or {}).items() if name != "interrupted"}
        return Latency.of(record.latency)
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
