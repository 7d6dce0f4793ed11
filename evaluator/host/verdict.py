"""One submission judged: what a participant may see of it, and what only the organisers may.

A participant sees whether the file is accepted, which rules of the CSV it breaks, and scores of the public part. They
see nothing else: no text of an exception, no reference, no path.
"""

import csv
import json
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evaluator.annotation.annotation import submission_ids
from evaluator.annotation.file import read_rows
from evaluator.answer_files.file import read_answers
from evaluator.answer_files.scored_file import score_answer_file
from evaluator.config.sections import ScoringConfig
from evaluator.errors import AudioLMError
from evaluator.scoring.result import MetricResult
from evaluator.submission.submission import check_submission
from evaluator.tasks import Task

Status = Literal["scored", "refused", "failed"]
TOLD = "The submission is well-formed and could not be scored. The organisers can see why."


@dataclass(frozen=True, slots=True)
class Reference:
    """The hidden references.

    Attributes:
        path: the annotation.
        task: what is scored.
        public: testset_ids of the part whose scores participants see; None: of all rows.
    """

    path: Path
    task: Task
    public: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a submission.

    Attributes:
        name: of the file.
        status: "scored"; "refused" for a file that breaks the CSV's rules; "failed" where scoring itself failed.
        problems: what the participant may read about it, in sentences.
        public: metrics of the public part.
        private: metrics of the other rows, or of all where there is no split.
        error: why scoring failed; for the organisers.
    """

    name: str
    status: Status
    problems: tuple[str, ...] = ()
    public: tuple[MetricResult, ...] = ()
    private: tuple[MetricResult, ...] = ()
    error: str | None = None
    notices: tuple[str, ...] = field(default=())

    def for_participants(self) -> dict[str, Any]:
        """What a participant may see."""
        return {
            "status": self.status,
            "problems": list(self.problems),
            "scores": {metric.name: metric.value for metric in self.public if metric.value is not None},
        }

    def for_organisers(self) -> dict[str, Any]:
        """Everything."""
        return {
            "submission": self.name,
            **self.for_participants(),
            "error": self.error,
            "public": [metric.facts() for metric in self.public],
            "private": [metric.facts() for metric in self.private],
            "notices": list(self.notices),
        }


def metrics_of(reference: Reference, config: ScoringConfig) -> tuple[str, ...]:
    """The metrics that submissions get, found by scoring one that says the same to every clip.

    Raises:
        AudioLMError: nothing can be scored against these references, whatever is handed in.
    """
    with tempfile.TemporaryDirectory(prefix="audiolm-host-") as folder:
        trial = Path(folder) / "trial.csv"
        with trial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("testset_id", "text"))
            writer.writerows((each, "a") for each in submission_ids(reference.path))
        # The whole set, whose problems name the organisers' own file; a part has the same metrics.
        done = score_answer_file(reference.path, trial, reference.task, config)
        return tuple(metric.name for metric in done.scores.metrics if metric.value is not None)


def judge(submission: Path, reference: Reference, config: ScoringConfig) -> Verdict:
    """Judge one submission; whatever it holds, the result is a Verdict."""
    # A link could lead to the references, whose cells the rules would quote.
    if submission.is_symlink() or not submission.is_file():
        return Verdict(submission.name, "refused", ("The submission is no regular file: hand in a CSV file.",))
    try:
        report = check_submission(submission, annotation=reference.path)
        if not report.valid:
            told = tuple(str(finding).replace(str(submission), submission.name) for finding in report.errors)
            return Verdict(submission.name, "refused", told)
        return _score(submission, reference, config)
    except Exception as error:  # noqa: BLE001 - no submission may end the others', nor tell participants what broke
        kind = "" if isinstance(error, AudioLMError) else f"{type(error).__name__}: "
        return Verdict(submission.name, "failed", (TOLD,), error=f"{kind}{error}")


def _score(submission: Path, reference: Reference, config: ScoringConfig) -> Verdict:
    if reference.public is None:
        done = score_answer_file(reference.path, submission, reference.task, config)
        metrics = done.scores.metrics
        return Verdict(submission.name, "scored", (), metrics, metrics, notices=done.notices)
    rows = [row.value for row in read_rows(reference.path)]
    ids = {str(row["testset_id"]) for row in rows}
    public = _score_part(submission, reference, config, rows, reference.public)
    return Verdict(
        submission.name, "scored", (), public, _score_part(submission, reference, config, rows, ids - reference.public)
    )


def _score_part(
    submission: Path, reference: Reference, config: ScoringConfig, rows: Sequence[Any], part: Collection[str]
) -> tuple[MetricResult, ...]:
    """Score some of the rows, as if there were no others."""
    with tempfile.TemporaryDirectory(prefix="audiolm-host-") as folder:
        annotation, answers = Path(folder) / "reference.json", Path(folder) / "answers.csv"
        kept = [row for row in rows if row["testset_id"] in part]
        annotation.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
        with answers.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("testset_id", "text"))
            writer.writerows((each.id, each.text) for each in read_answers(submission) if each.id in part)
        return score_answer_file(annotation, answers, reference.task, config).scores.metrics
