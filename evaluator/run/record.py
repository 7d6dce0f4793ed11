"""What one run did, in one value and one file: EvaluationResult and run.json.

In: the stages of evaluator/evaluate.py as they happen, or the run.json of an earlier attempt. Out: counts, seconds for
each stage, speed, memory, versions and file hashes, written to run.json whether the run ended well or not. No secret
goes in.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from evaluator.files import write_json
from evaluator.machine import versions
from evaluator.tasks import Mode

if TYPE_CHECKING:
    from evaluator.run.latency import Latency
    from evaluator.scoring.result import Scores

# What scoring again does not change.
_MEASURED = (
    *("started", "ended", "attempt", "rows_of_earlier_attempts", "processes", "audio_seconds", "peak_memory_bytes"),
    *("speed", "latency", "machine", "versions", "counts", "heard_seconds"),
)
_SCORING_STAGES = frozenset({"write_csv", "score"})
# Written even where they are None; what else is None is not known yet, and has no key.
_ALWAYS = frozenset({"reason", "rtfx", "checkpoint", "limit"})


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a run by what became of them.

    Attributes:
        rows: rows of the annotation, which is rows of the CSV.
        failed: clips that could not be read, or got no answer; their text is the placeholder.
        empty: answers without any text, failed and refused clips not included.
        cut: clips longer than the audio limit, of which the model heard the beginning.
        hit_max_length: answers that the token limit cut off.
        refused: clips for which the model declared that it will not answer.
    """

    rows: int
    failed: int
    empty: int
    cut: int
    hit_max_length: int
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A row without an answer, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """The most memory held until the last answer, in bytes; None where it is not known.

    Attributes:
        process_since_start: the process's largest resident size.
        device_since_start: the accelerator's peak, loading included.
        device_full: the accelerator's peak while predicting.
    """

    process_since_start: int | None
    device_since_start: int | None
    device_full: int | None


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """A finished run.

    Attributes:
        mode: what was run.
        model: the model package's name.
        checkpoint: the checkpoint that the config names, "" for none.
        csv_path: the submission or validation CSV.
        folder: predictions.jsonl, run.json and scores.json.
        counts: rows by what became of them.
        failures: the rows that failed.
        seconds: stage name -> seconds.
        audio_seconds: audio that the model was given, in seconds.
        peak_memory: until the last answer.
        latency: of clips asked alone.
        scores: the scores; None in submission modes, or where scoring failed.
        scoring_error: why scoring failed, or None.
        notices: what the user should know, in sentences.
        all_rows: rows of the annotation where only the first of them were run, or None.
        record_error: why run.json does not say how the run ended, or None.
        heard_seconds: how much of a clip the model hears; longer ones are counted as cut.
        report: the page that shows the run, or None.
    """

    mode: Mode
    model: str
    checkpoint: str
    csv_path: Path
    folder: Path
    counts: Counts
    failures: tuple[Failure, ...]
    seconds: Mapping[str, float]
    audio_seconds: float
    peak_memory: PeakMemory
    latency: "Latency"
    scores: "Scores | None"
    scoring_error: str | None
    notices: tuple[str, ...]
    all_rows: int | None = None
    record_error: str | None = None
    heard_seconds: float = 30.0
    report: Path | None = None

    @property
    def exit_code(self) -> int:
        """0, or 1 if a row has no answer, scoring or run.json failed, or a metric asked for by name has no value."""
        if self.counts.failed or self.scoring_error is not None or self.record_error is not None:
            return 1
        if self.scores is None:
            return 0
        nothing = all(metric.value is None for metric in self.scores.metrics)
        return 1 if nothing or self.scores.missing() else 0

    @property
    def rtfx(self) -> float | None:
        """Seconds of audio answered in one second of predicting; None where no audio was."""
        return rtfx(self.audio_seconds, self.seconds.get("predict", 0.0))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """run.json, whose keys are these fields: filled while the stages run, and written at any moment.

    A field is None, and its key is not in the file, until it is known.
    """

    status: str = "running"
    """"running", "finished", "failed" or "interrupted"."""
    reason: str | None = None
    """What ended the run, where it did not finish."""
    started: str = field(default_factory=_now)
    """ISO 8601 with the offset, to the second."""
    ended: str | None = None
    """When the file was written; of a run that was scored again, when it was measured."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds."""
    rtfx: float | None = None
    """Seconds of audio answered in one second of predicting."""
    versions: dict[str, str] = field(default_factory=dict)
    """Python, the platform and the packages that can change a result."""
    stage: str | None = None
    """The stage that began last; after a failure the one that failed."""
    mode: str | None = None
    """What was run."""
    model: str | None = None
    """The model package's name."""
    config_file: str | None = None
    """The YAML file."""
    config: dict[str, Any] | None = None
    """The whole configuration without secrets."""
    annotation: dict[str, str | None] | None = None
    """The annotation's "path" and "sha256"."""
    checkpoint: dict[str, str | None] | None = None
    """The same of `model.ckpt`, where it names one."""
    model_files: dict[str, str] | None = None
    """Dotted key that names a file of the model -> what is in it, as far as the package can say."""
    notices: list[str] | None = None
    """What the user was told before the model was loaded."""
    machine: dict[str, Any] | None = None
    """Processor, cores, load and threads."""
    process: dict[str, Any] | None = None
    """"pid" and "host" of the process that runs, or ran last."""
    rows: int | None = None
    """How many are run."""
    limit: int | None = None
    """So many of the first rows only."""
    control: str | None = None
    """What the model heard instead of the clips, in a control run."""
    identity: dict[str, str] | None = None
    """What the texts depend on, as hashes; a run goes on only where they are the same."""
    failures: list[dict[str, str]] | None = None
    """The rows without an answer: "id", "reason"."""
    counts: dict[str, int] | None = None
    """`Counts`."""
    heard_seconds: float | None = None
    """How much of a clip the model hears."""
    attempt: int | None = None
    """1 for the launch that started the run, 2 for the first that went on with it."""
    rows_of_earlier_attempts: int | None = None
    """Answers that this attempt found."""
    answered_twice: dict[str, int] | None = None
    """Rows that two workers answered, one of them believed dead: "rows", and "differing" texts among them."""
    processes: list[dict[str, Any]] | None = None
    """The `WorkerReport` of each."""
    audio_seconds: float | None = None
    """What the model was given in this attempt."""
    peak_memory_bytes: dict[str, int | None] | None = None
    """`PeakMemory`, and "device_batch1" of the latency pass."""
    speed: dict[str, float | None] | None = None
    """`AnswerSpeed`."""
    csv: dict[str, str] | None = None
    """The CSV's "path" and "sha256"."""
    csv_warnings: list[str] | None = None
    """What the CSV's writer remarks."""
    scoring_error: str | None = None
    """Why there are no scores."""
    missing: list[str] | None = None
    """Ids of the rows that a failed run has not answered."""
    latency: dict[str, Any] | None = None
    """`Latency.facts`."""
    scored_again: str | None = None
    """When a run that had all its answers was scored again; what it measured before is kept."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "RunRecord":
        """The record that a run.json holds; keys that are unknown or of another kind of value are left out."""
        return cls(**{name: facts[name] for name in facts if isinstance(facts[name], _JSON_KINDS.get(name, ()))})

    @classmethod
    def read(cls, path: Path) -> "RunRecord | None":
        """Read a run.json; None where there is none, or another program wrote it."""
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls.of(facts) if isinstance(facts, dict) else None

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure a stage: its seconds are recorded even if it fails, and a failure names the stage."""
        begin = time.perf_counter()
        self.stage = stage
        try:
            yield
        finally:
            # Scoring again measures nothing anew but the scoring.
            if self.scored_again is None or stage in _SCORING_STAGES or stage not in self.seconds:
                self.seconds[stage] = round(time.perf_counter() - begin, 3)

    def keep(self, earlier: "RunRecord") -> None:
        """Take over what an earlier attempt has measured, because this one asks nothing: it only scores again.

        Args:
            earlier: what run.json said before. Without figures of speed (the attempt ended too early) nothing is kept.
        """
        if earlier.speed is None:
            return
        self.scored_again = self.started
        for name in _MEASURED:
            if getattr(earlier, name) is not None:
                setattr(self, name, getattr(earlier, name))
        if earlier.config is not None and self.config is not None:
            # Speed was measured with the settings of then; only what it is scored with may be another.
            self.config = {**earlier.config, "scoring": self.config.get("scoring")}
        self.seconds.update(earlier.seconds)

    def write(self, path: Path, *, status: str, reason: str | None) -> None:
        """Write run.json.

        Args:
            path: the file.
            status: "running", "finished", "failed" or "interrupted".
            reason: what ended it, where it did not finish.

        Raises:
            ResultError: it cannot be written.
        """
        self.status, self.reason = status, reason
        self.rtfx = rtfx(self.audio_seconds or 0.0, self.seconds.get("predict", 0.0))
        if self.scored_again is None:
            self.ended, self.versions = _now(), versions()
        facts = {each.name: getattr(self, each.name) for each in fields(self)}
        write_json(path, {name: value for name, value in facts.items() if value is not None or name in _ALWAYS})


def _json_kinds(annotation: Any) -> tuple[type, ...]:
    """What json.loads gives for a field: `dict[str, float] | None` -> (dict,), float -> (float, int)."""
    choices = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    kinds = [get_origin(kind) or kind for kind in choices if kind is not NoneType]
    return (*kinds, int) if float in kinds else tuple(kinds)


_JSON_KINDS = {each.name: _json_kinds(each.type) for each in fields(RunRecord)}


def rtfx(audio_seconds: float, predict_seconds: float) -> float | None:
    """Seconds of audio for each second of predicting: (300.0, 20.0) -> 15.0; None where either is nothing."""
    return round(audio_seconds / predict_seconds, 3) if audio_seconds and predict_seconds else None
