"""The loop: gradients, accumulation, epochs, validation, log and checkpoints, with a model easy to reason about."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salmonn.checkpoint import read_weights
from salmonn.config import RunConfig, from_mapping
from salmonn.dataset import Sample
from salmonn.encoded_source import CachedEncoded, LiveEncoded
from salmonn.errors import SalmonnError
from salmonn.model import SALMONN, LossOutput
from salmonn.prompts import PromptBook
from salmonn.run_folder import RunFolder
from salmonn.speech_encoder import Encoded
from salmonn.trainer import Split, Trainer, TrainingResult, Validation, build_trainer

BOOK = PromptBook({"asr": ("<SpeechHere> a", "<SpeechHere> b")})
CPU = torch.device("cpu")
CONFIG = {"model": {"llama_path": "x"}, "run": {"seed": 1}}


class FakeModel(nn.Module):
    """Learns to say the letters of a target from a clip's mean: one linear layer, one loss term for each letter."""

    sampling_rate = 16_000

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(2, 26)
        self.dropout = nn.Dropout(0.0)
        self.modes: list[bool] = []
        self.prompts: list[str] = []
        self.truncated = 0

    def encode(self, waves: Sequence[NDArray[np.float32]]) -> Encoded:
        means = torch.tensor([[float(wave.mean()), 1.0] for wave in waves])
        lengths = torch.tensor([1 + i % 2 for i in range(len(waves))])
        return Encoded(means[:, None, :], torch.ones(len(waves), 2, 3), lengths)

    def embed(self, encoded: Encoded) -> Tensor:
        return encoded.whisper.float()

    def loss(self, speech: Tensor, prompts: Sequence[str], targets: Sequence[str]) -> LossOutput:
        self.modes.append(self.training)
        self.prompts += prompts
        rows = [i for i, text in enumerate(targets) for _ in text]
        wanted = torch.tensor([ord(letter) - ord("a") for text in targets for letter in text])
        logits = self.linear(speech[:, 0])[rows]
        correct = int((logits.argmax(-1) == wanted).sum())
        return LossOutput(functional.cross_entropy(logits, wanted), correct, len(rows), self.truncated)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())

    def trained_state_dict(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.named_parameters()}


class Source:
    """Clips whose mean is their index, already encoded."""

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[tuple[list[int], Encoded]]:
        for indices in batches:
            whisper = torch.tensor([[[float(index), 1.0]] for index in indices])
            yield list(indices), Encoded(whisper, torch.zeros(len(indices), 0, 0), torch.zeros(len(indices)))


def split_of(texts: Sequence[str]) -> Split:
    return Split([Sample(Path("x"), text, "asr", "") for text in texts], BOOK, Source())


def settings(**changes: Any) -> RunConfig:
    optims = {"max_epoch": 2, "warmup_steps": 2, "init_lr": 0.1, "min_lr": 0.01} | changes.pop("optims", {})
    return RunConfig.model_validate(
        {"batch_size_train": 2, "batch_size_eval": 2, "iters_per_epoch": 4, "log_freq": 2, "optims": optims} | changes
    )


def trainer_of(
    model: FakeModel,
    run: RunConfig,
    *,
    valid: Split | None = None,
    folder: Path | None = None,
    texts: Sequence[str] = (),
) -> Trainer:
    return Trainer(
        model,
        train=split_of(texts or ["a", "bb", "ccc", "dddd", "a", "b"]),
        valid=valid,
        run=run,
        multi_prompt=True,
        device=CPU,
        folder=RunFolder(folder) if folder else None,
        config=CONFIG,
    )


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    return [record for line in lines if (record := json.loads(line))["event"] == event]


def test_training_learns() -> None:
    model = FakeModel()
    run = settings(iters_per_epoch=60, optims={"max_epoch": 1, "init_lr": 0.5, "weight_decay": 0.0})
    result = trainer_of(model, run, texts=["a", "b", "c"], valid=split_of(["a", "b", "c"])).run()
    assert result.steps == 60
    assert result.best is not None
    assert result.best.accuracy == 1.0


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    def weights(seed: int) -> Tensor:
        model = FakeModel()
        trainer_of(model, settings(seed=seed)).run()
        return model.linear.weight.detach().clone()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_accumulated_batches_equal_one_large_batch() -> None:
    """Batches of unequal token counts: the mean is over the group's tokens, not over its batches' means."""
    texts = ["a", "bb", "ccc", "dddd"]
    results = []
    for batch_size, accumulate, steps in ((4, 1, 1), (2, 2, 2), (1, 4, 4)):
        model = FakeModel()
        run = settings(
            batch_size_train=batch_size,
            accum_grad_iters=accumulate,
            iters_per_epoch=steps,
            optims={"max_epoch": 1, "warmup_steps": 0, "init_lr": 0.1, "min_lr": 0.1},
        )
        trainer = trainer_of(model, run, texts=texts)
        trainer.run()
        state = trainer.optimizer.state[model.linear.weight]
        results.append((model.linear.weight.detach(), state["exp_avg"]))
    for weight, momentum in results[1:]:
        torch.testing.assert_close(momentum, results[0][1])
        torch.testing.assert_close(weight, results[0][0])


def test_what_is_left_at_the_end_of_an_epoch_is_used_there() -> None:
    run = settings(accum_grad_iters=3, iters_per_epoch=4, optims={"max_epoch": 2})
    model = FakeModel()
    trainer = trainer_of(model, run)
    trainer.run()
    # 3 + 1 batches an epoch: two optimizer steps each
    assert int(trainer.optimizer.state[model.linear.weight]["step"]) == 4
    assert model.linear.weight.grad is None


def test_gradients_are_clipped_to_the_norm() -> None:
    def momentum(limit: float) -> float:
        model = FakeModel()
        run = settings(iters_per_epoch=1, max_grad_norm=limit, optims={"max_epoch": 1})
        trainer = trainer_of(model, run)
        trainer.run()
        state = trainer.optimizer.state
        return math.sqrt(sum(float(state[p]["exp_avg"].norm()) ** 2 for p in model.parameters())) / 0.1

    free = momentum(0.0)
    assert free > 0.5
    assert momentum(0.01) == pytest.approx(0.01, rel=1e-3)
    assert momentum(100.0) == pytest.approx(free)


def test_rates_follow_the_global_step(tmp_path: Path) -> None:
    run = settings(iters_per_epoch=3, log_freq=1, optims={"max_epoch": 3, "warmup_steps": 5, "warmup_start_lr": 0.0})
    trainer_of(FakeModel(), run, folder=tmp_path).run()
    steps = records(tmp_path, "step")
    assert [record["step"] for record in steps] == list(range(9))
    assert [record["lr"] for record in steps[:5]] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])
    assert steps[5]["lr"] == pytest.approx(0.01 + 0.09 * 0.5 * (1 + math.cos(math.pi * 5 / 9)))


def test_an_epoch_is_a_number_of_batches_or_one_pass() -> None:
    assert trainer_of(FakeModel(), settings(iters_per_epoch=7)).epoch_steps == 7
    assert trainer_of(FakeModel(), settings(epoch_based=True)).epoch_steps == 3


def test_validation_is_exact_without_dropout_and_with_first_wordings(tmp_path: Path) -> None:
    model = FakeModel()
    valid = split_of(["a", "bb", "abc"])
    run = settings(iters_per_epoch=1, optims={"max_epoch": 1, "warmup_steps": 2, "warmup_start_lr": 0.0})
    trainer_of(model, run, valid=valid, folder=tmp_path).run()
    assert model.modes == [True, False, False]
    assert model.prompts[-3:] == ["<SpeechHere> a"] * 3
    [record] = records(tmp_path, "valid")
    # The first rate is 0: these are the numbers of the untrained model over all six letters at once.
    encoded = torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]], [[2.0, 1.0]]])
    whole = FakeModel().loss(encoded, [""] * 3, ["a", "bb", "abc"])
    assert record["loss"] == pytest.approx(float(whole.loss.detach()))
    assert record["accuracy"] == whole.correct / 6
    assert record["tokens"] == 6


@pytest.mark.parametrize(
    ("new", "old", "better"),
    [
        (Validation(loss=9.0, accuracy=0.0, tokens=1), None, True),
        (Validation(loss=2.0, accuracy=0.5, tokens=1), Validation(loss=1.0, accuracy=0.4, tokens=1), True),
        (Validation(loss=1.0, accuracy=0.4, tokens=1), Validation(loss=2.0, accuracy=0.5, tokens=1), False),
        (Validation(loss=1.0, accuracy=0.5, tokens=1), Validation(loss=2.0, accuracy=0.5, tokens=1), True),
        (Validation(loss=2.0, accuracy=0.5, tokens=1), Validation(loss=2.0, accuracy=0.5, tokens=1), False),
    ],
)
def test_the_best_is_the_first_then_by_accuracy_then_by_loss(
    new: Validation, old: Validation | None, *, better: bool
) -> None:
    assert new.is_better_than(old) is better


def test_log_and_checkpoints(tmp_path: Path) -> None:
    model = FakeModel()
    model.truncated = 1
    result = trainer_of(model, settings(), valid=split_of(["a", "b"]), folder=tmp_path).run()
    assert isinstance(result, TrainingResult)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_0.pth", "checkpoint_1.pth", "checkpoint_best.pth", "log.txt"]
    data = read_weights(tmp_path / "checkpoint_1.pth")
    assert set(data) == {"model", "optimizer", "config", "scaler", "epoch"}
    assert (data["epoch"], data["config"], data["scaler"]) == (1, CONFIG, None)
    assert torch.equal(data["model"]["linear.weight"], model.linear.weight)
    assert read_weights(tmp_path / "checkpoint_best.pth")["epoch"] == result.best_epoch
    assert records(tmp_path, "config") == [{"event": "config", **CONFIG}]
    trains = records(tmp_path, "train")
    assert [record["step"] for record in trains] == [3, 7]
    assert trains[1]["train_loss"] == result.train_loss
    assert trains[1]["truncated"] == 4
    assert 0 < trains[1]["train_lr"] < 0.1


def test_without_a_validation_set_there_is_no_best(tmp_path: Path) -> None:
    result = trainer_of(FakeModel(), settings(), folder=tmp_path).run()
    assert (result.best, result.best_epoch) == (None, None)
    assert not (tmp_path / "checkpoint_best.pth").exists()


def test_a_loss_that_is_no_number_stops_with_advice() -> None:
    model = FakeModel()
    with torch.no_grad():
        model.linear.bias.fill_(float("nan"))
    with pytest.raises(SalmonnError, match=r"the loss became nan up to step 1: lower run\.optims\.init_lr"):
        trainer_of(model, settings()).run()


def test_run_folders_never_collide(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4)
    names = [RunFolder.create(tmp_path / "out", now).path.name for _ in range(3)]
    assert names == ["202601020304", "202601020304-2", "202601020304-3"]


@pytest.fixture
def clips(tmp_path: Path) -> list[Sample]:
    for number in range(5):
        level = np.full(16_000, 0.1 * number, dtype=np.float32)
        soundfile.write(tmp_path / f"{number}.wav", level, 16_000)
    return [Sample(tmp_path / f"{number}.wav", "a", "asr", "") for number in range(5)]


def test_cached_audio_is_the_live_audio_in_any_order(clips: list[Sample]) -> None:
    live = LiveEncoded(FakeModel(), clips, workers=0)
    cached = CachedEncoded.fill(live, num_samples=5, batch_size=2)
    [(indices, got)] = cached.stream([[3, 0, 4]])
    assert indices == [3, 0, 4]
    assert got.whisper.dtype == torch.float16
    assert [round(float(row[0, 0]), 2) for row in got.whisper] == [0.3, 0.0, 0.4]
    # lengths alternate inside the batches that filled the cache: 1, 2 | 1, 2 | 1
    assert got.beats_tokens.tolist() == [2, 1, 1]
    assert got.beats.shape == (3, 2, 3)
    assert got.beats.sum(dim=(1, 2)).tolist() == [6, 3, 3]


@pytest.fixture
def reference_trainer(
    reference: Path, reference_sections: Mapping[str, Any], build: Any, tmp_path: Path
) -> Callable[..., tuple[Trainer, SALMONN]]:
    """Build a trainer around the reference model and its two shortest clips."""
    rows = [{"path": "clip00.wav", "text": "one two"}, {"path": "clip02.wav", "text": "three", "task": "audiocaption"}]
    (tmp_path / "train.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")

    def builder(*, valid: bool, **run: Any) -> tuple[Trainer, SALMONN]:
        path = str(tmp_path / "train.json")
        datasets = {"prefix": "wavs", "train_ann_path": path, "valid_ann_path": path if valid else ""}
        optims = {"max_epoch": 1, "warmup_steps": 0, "init_lr": 1e-2}
        section = {"batch_size_train": 2, "batch_size_eval": 2, "num_workers": 0, "optims": optims} | run
        mapping = {"model": reference_sections["model"], "datasets": datasets, "run": section}
        config = from_mapping(mapping, reference, purpose="train")
        model: SALMONN = build(train=True)
        return build_trainer(config, model, device=CPU, folder=None), model

    return builder


def test_cached_features_give_the_losses_of_live_ones(reference_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train = SALMONN.train
    monkeypatch.setattr(SALMONN, "train", lambda self, mode=True: train(self, False))  # no dropout
    losses = []
    for cache in (False, True):
        trainer, _ = reference_trainer(valid=True, iters_per_epoch=1, cache_features=cache)
        result = trainer.run()
        losses.append((result.train_loss, result.best.loss))
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)


def test_frozen_parts_of_the_real_model_neither_move_nor_leave_evaluation_mode(reference_trainer: Any) -> None:
    trainer, model = reference_trainer(valid=False, iters_per_epoch=2)
    trained = trainer.parameters
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.run()
    assert not any(part.training for part in model.speech_encoder.frozen_modules())
    moved = {id(p) for name, p in model.named_parameters() if not torch.equal(p.detach(), before[name])}
    assert moved <= {id(p) for p in trained.values()}
    # With one query its self-attention has one place to look at: query and key get gradients of exactly zero, and
    # what is not decayed does not move at all.
    unmoved = {name for name, p in trained.items() if id(p) not in moved}
    assert unmoved == {
        f"speech_Qformer.bert.encoder.layer.{layer}.attention.self.{part}.bias"
        for layer in (0, 1)
        for part in ("query", "key")
    }
