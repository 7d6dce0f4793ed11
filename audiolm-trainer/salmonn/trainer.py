"""The training loop: batches -> loss -> AdamW step, a validation and a checkpoint after every epoch.

In go a model, its training set, its validation set if any, and the section `run`; out comes a
`TrainingResult` and, where a run folder is given, log.txt and the checkpoints. One process, CPU or GPU.
Steps are counted over the whole run, in batches; the order of the data and the prompts follow from the
seed and that count.
"""

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from salmonn.config import Config, RunConfig
from salmonn.dataset import Batch, Sample, ShuffledBatches, collate, in_order, read_annotation
from salmonn.encoded_source import CachedEncoded, EncodedSource, LiveEncoded
from salmonn.errors import SalmonnError
from salmonn.model import SALMONN, LossOutput
from salmonn.optim import build_optimizer, learning_rate, set_learning_rate
from salmonn.prompts import PromptBook, train_prompts
from salmonn.run_folder import RunFolder
from salmonn.speech_encoder import Encoded

logger = logging.getLogger(__name__)


class TrainableModel(Protocol):
    """What the loop needs of a model; `salmonn.model.SALMONN` has it."""

    def embed(self, encoded: Encoded) -> Tensor:
        """Encoded clips -> audio tokens [B, W x Q, H]."""
        ...

    def loss(self, speech: Tensor, prompts: Sequence[str], targets: Sequence[str]) -> LossOutput:
        """Mean cross-entropy over the batch's target tokens, and counts."""
        ...

    def train(self, mode: bool = True) -> "TrainableModel":
        """Switch the trained parts to training mode or out of it; frozen parts never change."""
        ...

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Released name -> trained parameter."""
        ...

    def trained_state_dict(self) -> dict[str, Tensor]:
        """Released name -> tensor of everything a checkpoint holds."""
        ...


@dataclass(frozen=True, slots=True)
class Split:
    """One set: its samples, the wordings they are asked with, and where their encoded audio comes from."""

    samples: Sequence[Sample]
    book: PromptBook
    source: EncodedSource


@dataclass(frozen=True, slots=True)
class Validation:
    """Teacher-forced result over a whole set.

    Attributes:
        loss: mean cross-entropy over all target tokens.
        accuracy: share of target tokens predicted right, 0 to 1.
        tokens: target tokens.
    """

    loss: float
    accuracy: float
    tokens: int

    def is_better_than(self, other: "Validation | None") -> bool:
        """Whether this is the best so far: the first is; then higher accuracy, and of equals lower loss."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a run ended: batches done, the last epoch's mean loss, the best epoch and its validation."""

    steps: int
    train_loss: float
    best_epoch: int | None = None
    best: Validation | None = None


class Trainer:
    """Trains what is trainable in a model.

    Args:
        model: on its device; frozen parts have requires_grad False.
        train: the training set.
        valid: the validation set, None for none.
        run: section `run`.
        multi_prompt: draw a wording for every sample, not for every batch.
        device: the model's.
        folder: where log and checkpoints go; None saves nothing.
        config: what is stored in checkpoints as the configuration, without secrets.

    Raises:
        DatasetError: the training set does not fill one batch.
        ValueError: nothing is trainable.
    """

    def __init__(
        self,
        model: TrainableModel,
        *,
        train: Split,
        valid: Split | None,
        run: RunConfig,
        multi_prompt: bool,
        device: torch.device,
        folder: RunFolder | None,
        config: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.train_split = train
        self.valid_split = valid
        self.run_config = run
        self.multi_prompt = multi_prompt
        self.device = device
        self.folder = folder
        self.config = config
        self.batches = ShuffledBatches(len(train.samples), run.batch_size_train, run.seed)
        self.epoch_steps = self.batches.batches_per_pass if run.epoch_based else run.iters_per_epoch
        self.parameters = model.trainable_parameters()
        optims = run.optims
        self.optimizer = build_optimizer(
            self.parameters, init_lr=optims.init_lr, weight_decay=optims.weight_decay, beta2=optims.beta2
        )
        self.autocast_dtype = _autocast_dtype(device) if run.amp else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.autocast_dtype == torch.float16)

    def run(self) -> TrainingResult:
        """Train all epochs.

        Raises:
            SalmonnError: the loss is no longer a finite number.
            AudioError: a clip cannot be read.
        """
        torch.manual_seed(self.run_config.seed)
        self._log({"event": "config", **self.config})
        result = TrainingResult(steps=0, train_loss=float("nan"))
        for epoch in range(self.run_config.optims.max_epoch):
            loss = self._train_epoch(epoch)
            result = replace(result, steps=(epoch + 1) * self.epoch_steps, train_loss=loss)
            if self.valid_split is not None:
                validation = self._validate(self.valid_split, epoch)
                if validation.is_better_than(result.best):
                    result = replace(result, best_epoch=epoch, best=validation)
                    self._save("best", epoch)
            self._save(str(epoch), epoch)
        return result

    def _train_epoch(self, epoch: int) -> float:
        """Train one epoch and return its mean loss per target token."""
        self.model.train(True)
        meter = _Meter()
        started = time.monotonic()
        first = epoch * self.epoch_steps
        last = first + self.epoch_steps - 1
        group: list[int] = []
        for step, batch, encoded in self._train_batches(first, last + 1):
            output = self._backward(batch, encoded, first_total=group[0] if group else None)
            group.append(output.total)
            meter.add(output)
            # What is left at the end of an epoch is a smaller group, not the next epoch's business.
            if len(group) == self.run_config.accum_grad_iters or step == last:
                self._update(self._rate(step), total=sum(group) / group[0])
                group = []
            if (step + 1) % self.run_config.log_freq == 0 or step == last:
                self._log({"event": "step", "epoch": epoch, "step": step, "lr": self._rate(step)} | meter.recent(step))
        summary = meter.overall()
        seconds = time.monotonic() - started
        self._log(
            {"event": "train", "epoch": epoch, "step": last, "train_lr": self._rate(last), "seconds": seconds} | summary
        )
        return float(summary["train_loss"])

    def _train_batches(self, start: int, stop: int) -> Iterator[tuple[int, Batch, Encoded]]:
        split = self.train_split
        stream = split.source.stream(self.batches.indices(start, stop))
        for step, (indices, encoded) in enumerate(stream, start):
            rng = random.Random(f"{self.run_config.seed}:{step}")
            yield (
                step,
                collate(split.samples, indices, split.book, rng=rng, multi_prompt=self.multi_prompt),
                encoded,
            )

    def _backward(self, batch: Batch, encoded: Encoded, *, first_total: int | None) -> LossOutput:
        """Add one batch's gradients, weighted by its target tokens relative to the group's first batch."""
        with self._autocast():
            output = self.model.loss(self.model.embed(encoded), batch.prompts, batch.targets)
        weight = output.total / (first_total or output.total)
        torch.autograd.backward(self.scaler.scale(output.loss * weight))
        return output

    def _update(self, rate: float, *, total: float) -> None:
        """Make one optimizer step from the accumulated gradients; `total` is the sum of their weights."""
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if total != 1:
            torch._foreach_div_(gradients, total)
        if self.run_config.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(list(self.parameters.values()), self.run_config.max_grad_norm)
        set_learning_rate(self.optimizer, rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _validate(self, split: Split, epoch: int) -> Validation:
        """Measure loss and token accuracy over every sample of a set once, without dropout."""
        self.model.train(False)
        meter = _Meter()
        order = in_order(len(split.samples), self.run_config.batch_size_eval)
        for indices, encoded in split.source.stream(order):
            batch = collate(split.samples, indices, split.book, rng=None, multi_prompt=False)
            with self._autocast():
                meter.add(self.model.loss(self.model.embed(encoded), batch.prompts, batch.targets))
        result = meter.validation()
        self._log({"event": "valid", "epoch": epoch, "step": (epoch + 1) * self.epoch_steps - 1} | asdict(result))
        return result

    def _rate(self, step: int) -> float:
        optims = self.run_config.optims
        return learning_rate(
            step,
            total_steps=optims.max_epoch * self.epoch_steps,
            warmup_steps=optims.warmup_steps,
            warmup_start_lr=optims.warmup_start_lr,
            init_lr=optims.init_lr,
            min_lr=optims.min_lr,
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def _log(self, record: dict[str, Any]) -> None:
        if record["event"] != "config":
            shown = " ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items())
            logger.info("%s", shown.removeprefix("event "))
        if self.folder is not None:
            self.folder.log(record)

    def _save(self, name: str, epoch: int) -> None:
        if self.folder is None:
            return
        self.folder.save(
            name,
            self.model.trained_state_dict(),
            optimizer=self.optimizer.state_dict(),
            config=dict(self.config),
            scaler=self.scaler.state_dict() if self.scaler.is_enabled() else None,
            epoch=epoch,
        )


def build_trainer(config: Config, model: SALMONN, *, device: torch.device, folder: RunFolder | None) -> Trainer:
    """Read the sets that a configuration names and build its trainer around a model.

    With `run.cache_features` every clip is encoded here.

    Raises:
        PromptError: the prompt file is wrong.
        DatasetError: an annotation is wrong, or too small.
        AudioError: a clip cannot be read.
    """
    book = train_prompts(config)
    paths = (config.datasets.train_ann_path, config.datasets.valid_ann_path)
    sets = [
        read_annotation(Path(path), prefix=config.datasets.prefix, tasks=book.tasks()) if path else [] for path in paths
    ]
    train, valid = (build_split(samples, book, model, config.run) if samples else None for samples in sets)
    assert train is not None
    return Trainer(
        model,
        train=train,
        valid=valid,
        run=config.run,
        multi_prompt=config.model.multi_prompt,
        device=device,
        folder=folder,
        config=config.public(),
    )


def build_split(samples: Sequence[Sample], book: PromptBook, model: SALMONN, run: RunConfig) -> Split:
    """Join samples with the source of their encoded audio that `run.cache_features` chooses."""
    live = LiveEncoded(model, samples, workers=run.num_workers)
    if not run.cache_features:
        return Split(samples, book, live)
    cached = CachedEncoded.fill(live, num_samples=len(samples), batch_size=run.batch_size_eval)
    return Split(samples, book, cached)


class _Meter:
    """Sums losses and counts; reads them back from the device only when somebody looks."""

    def __init__(self) -> None:
        self._loss_sum: Tensor | float = 0.0
        self._tokens = 0
        self._correct = 0
        self._truncated = 0
        self._seen = (0.0, 0)

    def add(self, output: LossOutput) -> None:
        self._loss_sum = self._loss_sum + output.loss.detach().double() * output.total
        self._tokens += output.total
        self._correct += output.correct
        self._truncated += output.truncated

    def recent(self, step: int) -> dict[str, float]:
        """Mean loss since the last call.

        Raises:
            SalmonnError: it is not a finite number.
        """
        now = (float(self._loss_sum), self._tokens)
        loss = (now[0] - self._seen[0]) / max(now[1] - self._seen[1], 1)
        self._seen = now
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise SalmonnError(
                f"the loss became {loss} up to step {step}: lower run.optims.init_lr, set "
                "run.max_grad_norm, or use model.dtype bfloat16 or float32"
            )
        return {"loss": loss}

    def overall(self) -> dict[str, float | int]:
        result = self.validation()
        return {
            "train_loss": result.loss,
            "train_accuracy": result.accuracy,
            "tokens": result.tokens,
            "truncated": self._truncated,
        }

    def validation(self) -> Validation:
        tokens = max(self._tokens, 1)
        return Validation(loss=float(self._loss_sum) / tokens, accuracy=self._correct / tokens, tokens=self._tokens)


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Mixed precision of a device: bfloat16 where the GPU has it, else float16; none on a CPU."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
