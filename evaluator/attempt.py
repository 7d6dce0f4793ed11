"""One launch's work on a run: the files of its processes, what each is asked, and what it says when it is done.

In: the paths of a run, a number, the place of a process. Out: paths; a Done for each process.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.annotation import Sample
from evaluator.config import Config
from evaluator.journal import Journal, Prediction
from evaluator.launch import Launch
from evaluator.model import AudioLM
from evaluator.predict import predict
from evaluator.run_folder import RunPaths
from evaluator.run_record import PeakMemory, process_peak_memory


@dataclass(frozen=True, slots=True)
class Attempt:
    """One launch's work on a run, as one of its processes sees it.

    Attributes:
        paths: the run's.
        number: 1 for the launch that started the run, 2 for the first that goes on with it.
        launch: the place of this process.
    """

    paths: RunPaths
    number: int
    launch: Launch

    def journal(self, rank: int) -> Path:
        """The journal of a process; alone in a new folder it writes the run's own."""
        if self.number == 1 and self.launch.world_size == 1:
            return self.paths.predictions
        return self.paths.parts / f"{self.number}-{rank}.jsonl"

    def mark(self, rank: int, name: str) -> Path:
        """A small file that says how far a process is: "joined", "done"."""
        return self.paths.parts / f"{self.number}-{rank}.{name}.json"

    @property
    def plan(self) -> Path:
        """Who is asked what."""
        return self.paths.parts / f"{self.number}.plan.json"


@dataclass(frozen=True, slots=True)
class Done:
    """What a process says when it has finished: rows it predicted, its seconds, its peaks of memory in bytes."""

    rank: int
    rows: int
    audio_seconds: float
    seconds: float
    process_memory: int | None
    device_memory: int | None


def ask(
    model: AudioLM | None,
    config: Config,
    share: Sequence[Sample],
    journal: Journal,
    *,
    launch: Launch,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Done:
    """Ask the model for the rows of this process.

    Args:
        model: a loaded model; None where no row is left to ask, so that none was loaded.
        config: the validated config.
        share: the rows.
        journal: gets the predictions.
        launch: the place of this process.
        progress: told (rows done, rows of this process) after each row.

    Returns:
        Done: what to say of this process.

    Raises:
        AudioLMError: as `predict`.
    """
    begin = time.perf_counter()
    predictions: list[Prediction] = []
    if model is not None and share:
        predictions = predict(
            model,
            share,
            journal=journal,
            on_audio_error=config.run.on_audio_error,
            workers=config.run.num_workers,
            progress=lambda done: progress(done, len(share)),
        )
    return Done(
        rank=launch.rank,
        rows=len(share),
        audio_seconds=sum(prediction.audio_seconds for prediction in predictions),
        seconds=round(time.perf_counter() - begin, 3),
        process_memory=process_peak_memory(),
        device_memory=_device_peak_memory(model),
    )


def peak_memory(done: Sequence[Done]) -> PeakMemory:
    """The peaks of the process that held most; a run that asked nothing has its own."""
    process = [each.process_memory for each in done if each.process_memory is not None]
    device = [each.device_memory for each in done if each.device_memory is not None]
    return PeakMemory(max(process, default=process_peak_memory()), max(device, default=None))


def _device_peak_memory(model: AudioLM | None) -> int | None:
    """The accelerator's peak in bytes, if the model knows it: its optional `peak_memory()`."""
    ask: Any = getattr(model, "peak_memory", None)
    found = ask() if ask is not None else None
    return int(found) if found is not None else None
