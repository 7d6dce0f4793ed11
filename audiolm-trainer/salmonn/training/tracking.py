"""What a run says while it goes on: console lines, log.txt, metrics.jsonl, and trackers chosen by name.

Figures go out from the first process only. TensorBoard writes into the run folder; wandb and mlflow are started through
🤗 Accelerate's trackers and are configured, logged in to or switched offline by their own means, never by this program.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from salmonn.config.config import flatten
from salmonn.errors import ConfigError
from salmonn.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

PROJECT = "salmonn"


class StepClock(NamedTuple):
    """When this process began to train, in seconds of a monotonic clock; the steps done then, and those of the run."""

    started: float
    first: int
    total: int

    def left(self, now: float, step: int) -> str:
        """How long the rest takes if it goes on as so far, validation and saving included: "1 h 20 min", "45 s"."""
        seconds = (now - self.started) / max(step - self.first, 1) * (self.total - step)
        if seconds < 60:
            return f"{seconds:.0f} s"
        minutes = round(seconds / 60)
        return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Tracking:
    """Passes figures on.

    Args:
        folder: the run's folder; None keeps everything on the console.
        trackers: started trackers.
        quiet: say nothing at all; for every process but the first.
    """

    def __init__(
        self, folder: RunFolder | None, trackers: Sequence[GeneralTracker] = (), *, quiet: bool = False
    ) -> None:
        self._folder = folder
        self._trackers = tuple(trackers)
        self._quiet = quiet
        self._clock = StepClock(time.monotonic(), 0, 0)

    def start(self, config: Mapping[str, Any], *, step: int, total: int) -> None:
        """Note the configuration, or where a resumed run goes on.

        Args:
            config: `Config.shareable()`.
            step: steps done.
            total: steps of the whole run.
        """
        self._clock = StepClock(time.monotonic(), step, total)
        if self._quiet or self._folder is None:
            return
        if step:
            self._folder.forget_metrics_after(step)
            self._folder.log({"event": "resume", "step": step})
        else:
            self._folder.log({"event": "config", **config})
        for tracker in self._trackers:
            if isinstance(tracker, TensorBoardTracker):
                tracker.writer.add_text("config", f"```\n{json.dumps(config, indent=1)}\n```", step)
            else:
                tracker.store_init_configuration(_printable(config))

    def note(self, event: str, values: Mapping[str, Any], *, step: int) -> None:
        """Say something once: on the console and in log.txt, and every number of it as a figure `event/name`.

        Args:
            event: "step", "train", "valid", ...
            values: names and what they are.
            step: steps done.
        """
        if self._quiet:
            return
        shown = ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        if event == "step":
            left = self._clock.left(time.monotonic(), step)
            logger.info("step %d of %d, %s left: %s", step, self._clock.total, left, shown)
        else:
            logger.info("%s, after step %d: %s", event, step, shown)
        if self._folder is None:
            return
        self._folder.log({"event": event, "step": step, **values})
        figures = {f"{event}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        self._folder.add_metrics(step, figures)
        for tracker in self._trackers:
            tracker.log(figures, step=step)

    def finish(self) -> None:
        """Let the trackers write what they still hold."""
        for tracker in self._trackers:
            tracker.finish()


def start_trackers(names: Sequence[str], folder: RunFolder, *, run_name: str, step: int) -> list[GeneralTracker]:
    """Start trackers by name.

    Args:
        names: of "tensorboard", "wandb", "mlflow".
        folder: where TensorBoard's files go.
        run_name: what the run is called there.
        step: steps done; TensorBoard drops later ones of an interrupted run.

    Raises:
        ConfigError: TensorBoard cannot write into a folder of this name.
    """
    if "tensorboard" in names and any("\ud800" <= character <= "\udfff" for character in str(folder.path)):
        text = f"tensorboard writes only where all names are UTF-8, and {str(folder.path)!r} is not; use another folder"
        raise ConfigError("run.trackers cannot be used", [("run.output_dir", text)])
    trackers: list[GeneralTracker] = []
    for name in names:
        if name == "tensorboard":
            trackers.append(TensorBoardTracker("tensorboard", folder.path, purge_step=step + 1))
        elif name == "wandb":
            trackers.append(WandBTracker(PROJECT, name=run_name))
        else:
            trackers.append(MLflowTracker(PROJECT, run_name=run_name))
    for tracker in trackers:
        tracker.start()
    return trackers


def _printable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flat keys, lists as texts: what every tracker takes."""
    return {key: str(value) if isinstance(value, list) else value for key, value in flatten(config).items()}
