"""One launch's work on a run: the files of its processes, what each is asked, and what it says when it is done.

In: the paths of a run, a number, the place of a process. Out: paths; a WorkerReport for each process.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.config.config import Config
from evaluator.machine import process_peak_memory
from evaluator.model import AudioLM
from evaluator.provider.probe import ModelProbe
from evaluator.run.folder import RunPaths
from evaluator.run.journal import Journal
from evaluator.run.predict import predict
from evaluator.run.record import PeakMemory
from evaluator.run.watch import Watch
from evaluator.workers.launch import Launch


@dataclass(frozen=True, slots=True)
class Attempt:
    """One launch's work on a run, as one of its processes sees it.

    Attributes:
        paths: the run's.
        number: 1 for the launch that started the run, 2 for the first that goes on with it.
        launch: the place of this process.
        workers: whether workers answer, and process 0 deals.
    """

    paths: RunPaths
    number: int
    launch: Launch
    workers: bool = False

    def journal(self, rank: int) -> Path:
        """The journal of a process; alone in a new folder it writes the run's own."""
        if self.number == 1 and self.launch.world_size == 1 and not self.workers:
            return self.paths.predictions
        return self.paths.parts / f"{self.number}-{rank}.jsonl"

    def mark(self, rank: int, name: str) -> Path:
        """A small file that says how far a process is: "joined", "done"."""
        return self.paths.parts / f"{self.number}-{rank}.{name}.json"

    def begun(self, rank: int) -> Path:
        """The rows whose clip a process has begun to read."""
        return self.paths.parts / f"{self.number}-{rank}.begun"

    def claim(self, lease: int) -> Path:
        """The file of the process that has taken a lease."""
        return self.paths.parts / f"{self.number}.{lease}.lease"

    @property
    def plan(self) -> Path:
        """Who is asked what."""
        return self.paths.parts / f"{self.number}.plan.json"


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a process says when it has finished.

    Attributes:
        rank: which process, from 0.
        rows: rows it predicted.
        audio_seconds: what its model was given, in seconds.
        seconds: that it needed.
        process_memory: its largest resident size, in bytes; None where the system does not say.
        device_memory: the accelerator's peak since the start, in bytes; None where the model does not know it.
        device_full_memory: the same since predicting began; None also where the model cannot begin its peak anew.
        served: what a server says of the model that it serves, by an attribute of this name; None for all others.
    """

    rank: int
    rows: int
    audio_seconds: float
    seconds: float
    process_memory: int | None
    device_memory: int | None
    device_full_memory: int | None
    served: dict[str, str | int | float | bool] | None = None


def answer_rows(
    model: AudioLM | None,
    config: Config,
    streams: Iterable[Iterable[Sample]],
    journal: Journal,
    *,
    rank: int,
    watch: Watch,
) -> WorkerReport:
    """Ask the model for the rows of this process, which it takes as it goes.

    Args:
        model: a loaded model; None where no row is left to ask, so that none was loaded.
        config: the validated config.
        streams: of rows; those of one are pulled as the model has room, the next one when all of them are answered.
        journal: gets the predictions.
        rank: of this process.
        watch: told of every row, and asked whether to go on.

    Returns:
        WorkerReport: what to say of this process.

    Raises:
        AudioLMError: as `predict`; a RunStoppedError if that was asked for.
    """
    begin = time.perf_counter()
    device = _DevicePeak(model)
    if model is not None:
        with watch.until_last_beat():
            for samples in streams:
                predict(
                    model,
                    watch.gate(samples),
                    journal=journal,
                    on_audio_error=config.run.on_audio_error,
                    workers=config.run.num_workers,
                    watch=watch,
                )
                watch.require_whole()
    return WorkerReport(
        rank=rank,
        rows=watch.rows,
        audio_seconds=watch.audio_seconds,
        seconds=round(time.perf_counter() - begin, 3),
        process_memory=process_peak_memory(),
        device_memory=device.since_start(),
        device_full_memory=device.since_predicting(),
        served=_served(model),
    )


def peak_memory(done: Sequence[WorkerReport]) -> PeakMemory:
    """The peaks of the process that held most; a run that asked nothing has its own."""
    process = [each.process_memory for each in done if each.process_memory is not None]
    return PeakMemory(
        process_since_start=max(process, default=process_peak_memory()),
        device_since_start=_most([each.device_memory for each in done]),
        device_full=_most([each.device_full_memory for each in done]),
    )


class _DevicePeak:
    """The accelerator's peak from here on, if the model can begin it anew, and since the start, if it knows it."""

    def __init__(self, model: AudioLM | None) -> None:
        self._probe = ModelProbe.of(model) if model is not None else None
        self._before: int | None = None
        if self._probe is not None:
            self._before = self._probe.peak_memory()
            self._probe.reset_peak_memory()

    def since_start(self) -> int | None:
        """The peak of loading and predicting, in bytes."""
        return _most([self._before, self._now()])

    def since_predicting(self) -> int | None:
        """The peak since this object was made, in bytes."""
        return self._now() if self._probe is not None and self._probe.offers("reset_peak_memory") else None

    def _now(self) -> int | None:
        return self._probe.peak_memory() if self._probe is not None else None


def _served(model: AudioLM | None) -> dict[str, str | int | float | bool] | None:
    found: object = getattr(model, "served", None)
    if not isinstance(found, Mapping):
        return None
    return {str(name): value for name, value in found.items() if isinstance(value, (str, int, float, bool))}


def _most(sizes: Sequence[int | None]) -> int | None:
    return max((size for size in sizes if size is not None), default=None)
