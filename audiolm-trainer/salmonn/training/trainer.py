"""The training loop: steps -> loss -> AdamW, with validations, checkpoints and exact resume.

A step is one batch of the seeded order, whatever the number of processes: they share its samples. Prompts and order
follow from the seed and the step alone. The gradient of an optimizer step is that of the mean over all target tokens of
its steps, on all processes. What is assembled from a configuration is in `training/run.py`.
"""

import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from salmonn.audio.loading import SAMPLING_RATE
from salmonn.data.unreadable import UnreadableClips, too_many
from salmonn.errors import AudioError, CheckpointError, SalmonnError
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import Encoded
from salmonn.training.micro_batches import MicroBatch, MicroBatches
from salmonn.training.optim import build_optimizer, learning_rate, set_learning_rate
from salmonn.training.processes import Engine, copy_optimizer_state, full_tensor, restore_optimizer_state
from salmonn.training.progress import Progress, Sums
from salmonn.training.random_state import capture_random_state, restore_random_state, seed_everything
from salmonn.training.run_folder import FILES, RunFolder
from salmonn.training.stop_request import StopRequest
from salmonn.training.tracking import Tracking
from salmonn.training.validation import WER_PROTOCOL, Validation, is_better, silent_text


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """How long a run is, how it learns, and what happens after how many steps.

    Attributes:
        seed: of everything random.
        epochs: of the run.
        epoch_steps: steps of an epoch.
        accumulated: steps between updates of the weights.
        max_grad_norm: gradients are clipped to this norm; 0 does not clip.
        init_lr: rate at the end of the warm-up; see `optim.learning_rate`.
        min_lr: rate at the end of the run.
        warmup_steps: steps of the warm-up.
        warmup_start_lr: rate of the first step.
        weight_decay: of matrices.
        beta2: of AdamW.
        log_every: steps between lines of the log.
        valid_every: steps between validations; 0 validates at the end of an epoch only.
        save_every: steps between checkpoints; 0 saves at the end of an epoch only.
        keep_last: checkpoints that are kept besides the best.
    """

    seed: int
    epochs: int
    epoch_steps: int
    accumulated: int
    max_grad_norm: float
    init_lr: float
    min_lr: float
    warmup_steps: int
    warmup_start_lr: float
    weight_decay: float
    beta2: float
    log_every: int
    valid_every: int
    save_every: int
    keep_last: int

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.epoch_steps

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return learning_rate(
            step,
            total_steps=self.steps,
            warmup_steps=self.warmup_steps,
            warmup_start_lr=self.warmup_start_lr,
            init_lr=self.init_lr,
            min_lr=self.min_lr,
        )


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        steps: steps done over the whole run.
        train_loss: mean loss per target token of the last epoch; NaN where none of its clips could be read, or none was
            trained.
        best_step: steps done at the best validation, None without validation.
        best: its figures.
        unreadable: clips that were left out because they cannot be read.
        stopped_by: the signal that ended the run early, None for none.
        made: steps of these that were made since the run was started or gone on with.
    """

    steps: int
    train_loss: float
    best_step: int | None = None
    best: Mapping[str, float] | None = None
    unreadable: tuple[str, ...] = ()
    stopped_by: int | None = None
    made: int = 0


class Trainer:
    """Trains what is trainable in a model.

    Args:
        model: on its device; frozen parts have requires_grad False. Wrapped for the engine's processes here.
        engine: the processes.
        batches: what this process computes of every step.
        validation: how a validation set is measured, None for none.
        settings: how the run trains.
        unreadable: the clips that could not be read, of both sets.
        tracking: where figures go.
        folder: where checkpoints go; None saves nothing.
        config: what is stored in checkpoints as the configuration, without secrets and paths.
        files: what is stored in checkpoints of the files of the run: dotted key -> digest.

    Raises:
        ValueError: nothing is trainable.
    """

    def __init__(
        self,
        model: SALMONN,
        *,
        engine: Engine,
        batches: MicroBatches,
        validation: Validation | None,
        settings: TrainerSettings,
        unreadable: UnreadableClips,
        tracking: Tracking,
        folder: RunFolder | None,
        config: Mapping[str, Any],
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.engine = engine
        self.batches = batches
        self.validation = validation
        self.settings = settings
        self.unreadable = unreadable
        self.tracking = tracking
        self.folder = folder if engine.is_main else None
        self.saves = folder is not None
        self.config = config
        self.files = files or {}
        seed_everything(settings.seed, rank=engine.rank)
        self.silence: Encoded = model.encode([np.zeros(SAMPLING_RATE, dtype=np.float32)])
        self.wrapped = engine.wrap(model)
        self.parameters = model.trainable_parameters()
        self.optimizer = build_optimizer(
            self.parameters, init_lr=settings.init_lr, weight_decay=settings.weight_decay, beta2=settings.beta2
        )
        self.prepared: Any = engine.accelerator.prepare_optimizer(self.optimizer, device_placement=False)
        self.progress = Progress()
        self.epoch_sums, self.recent_sums = Sums(), Sums()
        self._group_tokens = 0
        self._stopped_by: int | None = None
        self._clock = time.monotonic()

    def run(self, stop: StopRequest | None = None) -> TrainingResult:
        """Train from where the progress is to the end, or to the next optimizer step after a request to stop.

        Raises:
            SalmonnError: the loss is no longer a finite number.
            AudioError: more clips than allowed cannot be read.
        """
        request = stop or StopRequest()
        self.tracking.start(self.config, step=self.progress.step, total=self.settings.steps)
        loss, begun = float("nan"), self.progress.step
        while self.progress.step < self.settings.steps and self._stopped_by is None:
            epoch = self.progress.step // self.settings.epoch_steps
            self._train_epoch(epoch, request)
            if self.progress.step % self.settings.epoch_steps == 0:
                loss = self._end_epoch(epoch)
        return self._result(loss, made=self.progress.step - begun)

    def _train_epoch(self, epoch: int, request: StopRequest) -> None:
        """Train to the end of an epoch, or to where somebody asked for an end."""
        self.model.train(True)
        first, stop = epoch * self.settings.epoch_steps, (epoch + 1) * self.settings.epoch_steps
        updated = self.progress.step
        self._clock = time.monotonic()
        for micro in self.batches.stream(self.progress.step, stop):
            done = micro.step + 1
            # What is left at the end of an epoch is a smaller group, not the next epoch's business.
            update = micro.last and ((done - first) % self.settings.accumulated == 0 or done == stop)
            self._backward(micro, synchronise=update)
            if not micro.last:
                continue
            if update:
                self._update(self.settings.rate(micro.step), request)
            self.progress.step = done
            if done % self.settings.log_every == 0 or done == stop:
                self._log_step(epoch, self.settings.rate(micro.step))
            if update and done < stop:
                if self._stopped_by is not None:
                    self._save(f"step_{done}")
                    return
                self._between_updates(updated, done)
                updated = done

    def _between_updates(self, before: int, done: int) -> None:
        """Validate and save where the steps since the last update crossed a multiple of their settings."""
        settings = self.settings
        due = [every > 0 and done // every > before // every for every in (settings.valid_every, settings.save_every)]
        best = due[0] and self._validate()
        if best or due[1]:
            self._save(f"step_{done}", best=best)
        if due[0]:
            self.model.train(True)
            self._clock = time.monotonic()

    def _end_epoch(self, epoch: int) -> float:
        """Log an epoch, validate, save; return the epoch's mean loss."""
        means = self.epoch_sums.means(self.engine)
        self.epoch_sums = Sums()
        self.tracking.note("train", {"epoch": epoch, **asdict(means)}, step=self.progress.step)
        every = self.settings.valid_every
        due = not every or self.progress.step % every == 0 or self.progress.step == self.settings.steps
        best = due and self._validate()
        self._save(str(epoch), best=best)
        return means.loss

    def _backward(self, micro: MicroBatch, *, synchronise: bool) -> None:
        """Add one micro-batch's gradients; silence that counts nothing where this process has no clip to give."""
        with self.engine.synchronised(self.wrapped, now=synchronise):
            if micro.encoded is not None:
                with self.engine.autocast():
                    output = self.wrapped(micro.encoded, micro.prompts, micro.targets)
                self.engine.backward(output.loss_sum)
                self._group_tokens += output.total
                for sums in (self.epoch_sums, self.recent_sums):
                    sums.add(output, len(micro.prompts))
            elif self.engine.world > 1:
                # The others' passes exchange gradients with this process, too.
                with self.engine.autocast():
                    output = self.wrapped(self.silence, *silent_text(self.batches.split.book))
                self.engine.backward(output.loss_sum * 0.0)

    def _update(self, rate: float, request: StopRequest) -> None:
        """Make one optimizer step from the accumulated gradients, and hear whether any process was told to stop."""
        tokens, unreadable, stops = self.engine.sum(
            [self._group_tokens, len(self.unreadable), float(request.signal is not None)]
        )
        if stops:
            self._stopped_by = request.signal or signal.SIGTERM
        self._check_unreadable(int(unreadable))
        self._group_tokens = 0
        # Where nothing of a group could be read there is nothing to learn from.
        if tokens > 0:
            parameters = list(self.parameters.values())
            self.engine.finish_gradients(parameters, total=int(tokens))
            self.engine.clip(self.prepared, parameters, self.settings.max_grad_norm)
            set_learning_rate(self.optimizer, rate)
            self.prepared.step()
        self.prepared.zero_grad()

    def _check_unreadable(self, count: int) -> None:
        limit = self.unreadable.limit
        if self.engine.world > 1 and count > limit:
            names = sorted(set(self.engine.gather(self.unreadable.names)))
            if len(names) > limit:
                raise AudioError(too_many(names, limit))

    def _validate(self) -> bool:
        """Measure the validation set; return whether this is the best so far."""
        if self.validation is None:
            return False
        self.model.train(False)
        started = time.monotonic()
        figures = self.validation.measure(self.model, self.wrapped, self.engine, silence=self.silence)
        best = is_better(self.validation.metric, figures, self.progress.best)
        if best:
            self.progress.best_step, self.progress.best = self.progress.step, figures
        protocol = {"wer_protocol": WER_PROTOCOL} if "wer" in figures else {}
        values = {**figures, **protocol, "best": best, "seconds": time.monotonic() - started}
        self.tracking.note("valid", values, step=self.progress.step)
        return best

    def _log_step(self, epoch: int, rate: float) -> None:
        """Say how the steps since the last time went.

        Raises:
            SalmonnError: their loss is not a finite number.
        """
        means = self.recent_sums.means(self.engine)
        self.recent_sums = Sums()
        if means.tokens and not isfinite(means.loss):
            raise SalmonnError(
                f"the loss became {means.loss} up to step {self.progress.step}: lower run.optims.init_lr, set "
                "run.max_grad_norm, or use run.precision bfloat16 or float32"
            )
        now = time.monotonic()
        values = {
            "epoch": epoch,
            "loss": means.loss,
            "lr": rate,
            "clips_per_second": means.clips / max(now - self._clock, 1e-9),
            "memory_gb": self.engine.peak_memory() / 1e9,
        }
        self._clock = now
        self.tracking.note("step", values, step=self.progress.step)

    def _save(self, name: str, *, best: bool = False) -> None:
        """Write a checkpoint from which a run can go on, and delete those that are no longer kept."""
        if not self.saves:
            return
        entries = self.state()
        trained = {key: full_tensor(value) for key, value in self.model.trained_state_dict().items()}
        if self.folder is not None:
            path = self.folder.save(name, trained, **entries)
            if best:
                self.folder.mark_best(path)
            self.folder.keep(self.settings.keep_last)
        self.engine.wait()

    def state(self) -> dict[str, Any]:
        """Return everything besides the weights that a run needs to go on; all processes must call this."""
        self.progress.epoch_sums = self.epoch_sums.reduce(self.engine)
        self.progress.recent_sums = self.recent_sums.reduce(self.engine)
        self.progress.unreadable = sorted(set(self.engine.gather(self.unreadable.names)))
        scaler = self.engine.accelerator.scaler
        return {
            "optimizer": copy_optimizer_state(self.optimizer, self.parameters),
            "scaler": None if scaler is None else scaler.state_dict(),
            "config": dict(self.config),
            FILES: dict(self.files),
            "epoch": max(self.progress.step - 1, 0) // self.settings.epoch_steps,
            "step": self.progress.step,
            "progress": self.progress.to_plain(),
            "random": self.engine.gather([capture_random_state()]),
            "samples": self.batches.split.samples.fingerprint,
            "tasks": list(self.batches.split.samples.tasks()),
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; the model's weights are restored by the caller.

        Raises:
            CheckpointError: it belongs to another training set or other trained parts.
        """
        if data["samples"] != self.batches.split.samples.fingerprint:
            raise CheckpointError("the training set is not the one that the run to resume was trained on")
        if set(data["optimizer"]) != set(self.parameters):
            raise CheckpointError("the run to resume trained other parts of the model")
        restore_optimizer_state(self.optimizer, self.parameters, data["optimizer"])
        if data["scaler"] is not None and self.engine.accelerator.scaler is not None:
            self.engine.accelerator.scaler.load_state_dict(data["scaler"])
        self.progress = Progress.from_plain(data["progress"])
        self.epoch_sums.restore(self.progress.epoch_sums, self.engine)
        self.recent_sums.restore(self.progress.recent_sums, self.engine)
        for name in self.progress.unreadable if self.engine.is_main else ():
            self.unreadable.add(name, "as before the run was interrupted")
        states = data["random"]
        if self.engine.rank < len(states):
            restore_random_state(states[self.engine.rank])
        else:
            seed_everything(self.settings.seed, step=self.progress.step, rank=self.engine.rank)

    def _result(self, loss: float, *, made: int) -> TrainingResult:
        return TrainingResult(
            steps=self.progress.step,
            train_loss=loss,
            best_step=self.progress.best_step,
            best=self.progress.best or None,
            unreadable=tuple(sorted(set(self.engine.gather(self.unreadable.names)))),
            stopped_by=self._stopped_by,
            made=made,
        )
