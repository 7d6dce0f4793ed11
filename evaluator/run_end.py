"""How a run ends, on disk and for the user: run.json at the start and at every end, its counts, what is left to do.

In: a run's record and paths, and the block that does the work. Out: a run.json that says "running" until the block is
over; after a run that did not finish, sentences about what the run has and how to go on.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evaluator.annotation.annotation import Samples
from evaluator.errors import AudioLMError, ResultError, RunStoppedError
from evaluator.redaction import Redactor
from evaluator.run.answers import Answers
from evaluator.run.folder import RunPaths, missing_rows
from evaluator.run.journal import Prediction
from evaluator.run.record import Counts, Failure, RunRecord
from evaluator.submission.text import clean_text, is_blank

logger = logging.getLogger(__name__)


@contextmanager
def recorded(record: RunRecord, paths: RunPaths, redact: Redactor, samples: Samples) -> Iterator[None]:
    """Write run.json at the start and however the block ends, and say what a run that did not end well has left."""
    record.write(paths.record, status="running", reason=None)
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, RunStoppedError) or not isinstance(error, Exception)
        reason = redact(f"{type(error).__name__}: {error}".removesuffix(": "))
        logger.error("The run did not finish. What it has is in %s", paths.folder)
        _say_what_is_missing(record, paths, samples)
        try:
            record.write(paths.record, status="interrupted" if interrupted else "failed", reason=reason)
        except ResultError as unwritten:
            logger.error("%s", unwritten)
        raise


def write_ended(record: RunRecord, paths: RunPaths) -> str | None:
    """Write run.json of a run whose predictions are complete; what keeps it from that, for its results are there."""
    failed = record.scoring_error
    try:
        record.write(paths.record, status="failed" if failed else "finished", reason=failed)
    except ResultError as error:
        logger.error("%s The CSV and the scores are complete.", error)
        return str(error)
    return None


def _say_what_is_missing(record: RunRecord, paths: RunPaths, samples: Samples) -> None:
    try:
        answers = Answers(paths, samples)
        missing, failed = answers.missing(), answers.failed()
        record.missing = missing
    except AudioLMError as error:
        logger.error("%s", error)
        return
    told = missing_rows(missing, len(samples)) if missing else ""
    if failed:
        told = f"{told}; {failed} more failed" if missing else f"{failed} of {len(samples)} rows failed"
    told = told or "Every row has its answer"
    if record.control is not None:
        logger.error("%s. A control run is not gone on with: begin it anew.", told)
        return
    logger.error("%s. To go on with what is left, give the same command with --resume %s", told, paths.folder)


def count(predictions: Sequence[Prediction], *, cut: int) -> Counts:
    """Count rows by what became of them; `cut` is known from the audio headers."""
    kinds = Counter(map(_kind, predictions))
    return Counts(
        rows=len(predictions),
        failed=kinds["error"],
        empty=kinds["empty"] + kinds["empty and cut off"],
        cut=cut,
        hit_max_length=kinds["length"] + kinds["empty and cut off"],
        refused=kinds["refusal"],
    )


def _kind(prediction: Prediction) -> str:
    if prediction.finish_reason in ("error", "refusal") or not is_blank(clean_text(prediction.text)):
        return prediction.finish_reason
    return "empty and cut off" if prediction.finish_reason == "length" else "empty"


def failures_of(predictions: Sequence[Prediction]) -> tuple[Failure, ...]:
    """The rows without an answer."""
    return tuple(Failure(p.id, p.error) for p in predictions if p.error is not None)
