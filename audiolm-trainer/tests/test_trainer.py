"""The loop with a model easy to reason about: gradients, accumulation, epochs, validation, checkpoints, resume."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salmonn.config.config import from_mapping
from salmonn.config.schema import RunConfig
from salmonn.data.batch_order import build_batch_order
from salmonn.data.dataset import Sample, Samples
from salmonn.data.unreadable import UnreadableClips
from salmonn.errors import AudioError, CheckpointError, SalmonnError
from salmonn.model.predicted import LossOutput
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import Encoded
from salmonn.prompts import PromptBook
from salmonn.training.data_split import Split
from salmonn.training.encoded import EncodedBatch
from salmonn.training.micro_batches import MicroBatches
from salmonn.training.processes import Engine
from salmonn.training.run import build_trainer, open_sets, trainer_settings
from salmonn.training.run_folder import RunFolder
from salmonn.training.stop_request import StopRequest
from salmonn.training.tracking import Tracking
from salmonn.training.trainer import Trainer, TrainingResult
from salmonn.training.validation import Validation, is_better
from salmonn.weights.checkpoint import read_weights

BOOK = PromptBook({"asr": ("<SpeechHere> a", "<SpeechHere> b")})
CPU = torch.device("cpu")
TrainerOf = Callable[..., Trainer]
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
        means = torch.tensor([[[float(wave.mean()), 1.0]] for wave in waves])
        return Encoded(means, torch.zeros(len(waves), 0, 0), torch.zeros(len(waves)))

    def forward(self, encoded: Encoded, prompts: Sequence[str], targets: Sequence[str]) -> LossOutput:
        self.modes.append(self.training)
        self.prompts += prompts
        rows = [i for i, text in enumerate(targets) for _ in text]
        wanted = torch.tensor([ord(letter) - ord("a") for text in targets for letter in text])
        logits = self.linear(self.dropout(encoded.whisper[:, 0].float()))[rows]
        correct = (logits.argmax(-1) == wanted).sum()
        loss_sum = functional.cross_entropy(logits, wanted, reduction="sum")
        return LossOutput(loss_sum, correct, len(rows), self.truncated)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())

    def trained_state_dict(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.named_parameters()}


class Source:
    """Clips whose mean is their index, already encoded; those named cannot be read."""

    def __init__(self, unreadable: Iterable[int] = ()) -> None:
        self.bad = set(unreadable)
        self.clips = UnreadableClips(1000)

    def stream(self, batches: Iterable[Sequence[int]]) -> Iterator[EncodedBatch]:
        for indices in batches:
            for index in self.bad & set(indices):
                self.clips.add(str(index), "broken")
            good = [index for index in indices if index not in self.bad]
            whisper = torch.tensor([[[float(index), 1.0]] for index in good])
            encoded = Encoded(whisper, torch.zeros(len(good), 0, 0), torch.zeros(len(good)))
            yield EncodedBatch(good, encoded if good else None)


def split_of(texts: Sequence[str], source: Source | None = None) -> Split:
    samples = Samples.of(Sample(Path(f"{number}.wav"), text, "asr", "") for number, text in enumerate(texts))
    return Split(samples, BOOK, source or Source())


def settings(**changes: Any) -> RunConfig:
    optims = {"max_epoch": 2, "warmup_steps": 2, "init_lr": 0.1, "min_lr": 0.01} | changes.pop("optims", {})
    return RunConfig.model_validate(
        {"batch_size_train": 2, "batch_size_eval": 2, "iters_per_epoch": 4, "log_freq": 2, "optims": optims} | changes
    )


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.start(CPU, precision=torch.float32)


@pytest.fixture
def trainer_of(engine: Engine) -> TrainerOf:
    def build(
        model: FakeModel,
        run: RunConfig,
        *,
        valid: Split | None = None,
        folder: Path | None = None,
        texts: Sequence[str] = ("a", "bb", "ccc", "dddd", "a", "b"),
        source: Source | None = None,
    ) -> Trainer:
        train = split_of(texts, source)
        saved = RunFolder(folder) if folder else None
        order = build_batch_order(
            train.samples,
            batch_size=run.batch_size_train * run.world_size,
            seed=run.seed,
            drop_last=run.drop_last,
            bucket_by_length=False,
            task_weights={},
        )
        batches = MicroBatches(train, order, engine, at_once=run.batch_size_train, seed=run.seed, multi_prompt=True)
        return Trainer(
            cast("SALMONN", model),
            engine=engine,
            batches=batches,
            validation=Validation(valid, None, run.batch_size_eval, run.best_metric) if valid else None,
            settings=trainer_settings(run, order),
            unreadable=train.source.clips if source else UnreadableClips(10),
            tracking=Tracking(saved),
            folder=saved,
            config=CONFIG,
        )

    return build


TIMES = ("clips_per_second", "memory_gb", "seconds")


def dropping_model() -> FakeModel:
    model = FakeModel()
    model.dropout.p = 0.5
    return model


def build_order(count: int, run: RunConfig) -> Any:
    return build_batch_order(
        split_of(["a"] * count).samples,
        batch_size=run.batch_size_train,
        seed=run.seed,
        drop_last=True,
        bucket_by_length=False,
        task_weights={},
    )


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    return [record for line in lines if (record := json.loads(line))["event"] == event]


def test_training_learns(trainer_of: TrainerOf) -> None:
    model = FakeModel()
    run = settings(iters_per_epoch=60, optims={"max_epoch": 1, "init_lr": 0.5, "weight_decay": 0.0})
    result = trainer_of(model, run, texts=["a", "b", "c"], valid=split_of(["a", "b", "c"])).run()
    assert result.steps == 60
    assert result.best is not None
    assert result.best["accuracy"] == 1.0


def test_the_same_seed_gives_the_same_run_and_another_another(trainer_of: TrainerOf) -> None:
    def weights(seed: int) -> Tensor:
        model = FakeModel()
        trainer_of(model, settings(seed=seed)).run()
        return model.linear.weight.detach().clone()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_accumulated_batches_equal_one_large_batch(trainer_of: TrainerOf) -> None:
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


def test_what_is_left_at_the_end_of_an_epoch_is_used_there(trainer_of: TrainerOf) -> None:
    run = settings(accum_grad_iters=3, iters_per_epoch=4, optims={"max_epoch": 2})
    model = FakeModel()
    trainer = trainer_of(model, run)
    trainer.run()
    # 3 + 1 batches an epoch: two optimizer steps each
    assert int(trainer.optimizer.state[model.linear.weight]["step"]) == 4
    assert model.linear.weight.grad is None


def test_gradients_are_clipped_to_the_norm(trainer_of: TrainerOf) -> None:
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


def test_rates_follow_the_global_step(trainer_of: TrainerOf, tmp_path: Path) -> None:
    run = settings(iters_per_epoch=3, log_freq=1, optims={"max_epoch": 3, "warmup_steps": 5, "warmup_start_lr": 0.0})
    trainer_of(FakeModel(), run, folder=tmp_path).run()
    steps = records(tmp_path, "step")
    assert [record["step"] for record in steps] == list(range(1, 10))
    assert [record["lr"] for record in steps[:5]] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])
    assert steps[5]["lr"] == pytest.approx(0.01 + 0.09 * 0.5 * (1 + math.cos(math.pi * 5 / 9)))


def test_an_epoch_is_a_number_of_batches_or_one_pass(trainer_of: TrainerOf) -> None:
    assert trainer_of(FakeModel(), settings(iters_per_epoch=7)).settings.epoch_steps == 7
    assert trainer_of(FakeModel(), settings(epoch_based=True)).settings.epoch_steps == 3
    uneven = settings(epoch_based=True, batch_size_train=4, drop_last=False)
    assert trainer_of(FakeModel(), uneven).settings.epoch_steps == 2


def test_validation_is_exact_without_dropout_and_with_first_wordings(trainer_of: TrainerOf, tmp_path: Path) -> None:
    model = FakeModel()
    valid = split_of(["a", "bb", "abc"])
    run = settings(iters_per_epoch=1, optims={"max_epoch": 1, "warmup_steps": 2, "warmup_start_lr": 0.0})
    trainer_of(model, run, valid=valid, folder=tmp_path).run()
    assert model.modes == [True, False, False]
    assert model.prompts[-3:] == ["<SpeechHere> a"] * 3
    [record] = records(tmp_path, "valid")
    # The first rate is 0: these are the numbers of the untrained model over all six letters at once.
    encoded = torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]], [[2.0, 1.0]]])
    whole = FakeModel()(Encoded(encoded, torch.zeros(3, 0, 0), torch.zeros(3)), [""] * 3, ["a", "bb", "abc"])
    assert record["loss"] == pytest.approx(float(whole.loss.detach()))
    assert record["accuracy"] == int(whole.correct) / 6
    assert record["tokens"] == 6


@pytest.mark.parametrize(
    ("metric", "new", "old", "better"),
    [
        ("accuracy", {"accuracy": 0.0, "loss": 9.0}, {}, True),
        ("accuracy", {"accuracy": 0.5, "loss": 2.0}, {"accuracy": 0.4, "loss": 1.0}, True),
        ("accuracy", {"accuracy": 0.4, "loss": 1.0}, {"accuracy": 0.5, "loss": 2.0}, False),
        ("accuracy", {"accuracy": 0.5, "loss": 1.0}, {"accuracy": 0.5, "loss": 2.0}, True),
        ("accuracy", {"accuracy": 0.5, "loss": 2.0}, {"accuracy": 0.5, "loss": 2.0}, False),
        ("loss", {"loss": 1.0}, {"loss": 2.0}, True),
        ("wer", {"wer": 0.2, "loss": 2.0}, {"wer": 0.1, "loss": 3.0}, False),
        ("wer", {"wer": 0.1, "loss": 2.0}, {"wer": 0.2, "loss": 1.0}, True),
        ("chrf", {"chrf": 50.0, "loss": 2.0}, {"chrf": 40.0, "loss": 1.0}, True),
        ("wer", {"loss": 2.0}, {}, False),
    ],
)
def test_the_best_is_the_first_then_by_the_metric_then_by_loss(
    metric: str, new: dict[str, float], old: dict[str, float], *, better: bool
) -> None:
    assert is_better(metric, new, old) is better


@pytest.mark.parametrize("metric", ["accuracy", "loss", "wer", "chrf"])
def test_a_validation_without_a_number_is_never_the_best_and_never_in_the_way(metric: str) -> None:
    nothing = {"loss": float("nan"), "accuracy": float("nan"), "wer": float("nan"), "chrf": float("nan")}
    some = {"loss": 1.0, "accuracy": 0.5, "wer": 0.5, "chrf": 20.0}
    assert not is_better(metric, nothing, {})
    assert not is_better(metric, nothing, some)
    assert is_better(metric, some, nothing)
    assert is_better(metric, some, {})


def test_a_run_that_reads_no_clip_at_its_end_is_not_one_with_nothing_left_to_do(trainer_of: TrainerOf) -> None:
    trainer = trainer_of(FakeModel(), settings(), source=Source(unreadable=range(6)))
    result = trainer.run()
    assert (result.steps, result.made) == (8, 8)
    assert isnan(result.train_loss)
    again = trainer.run()
    assert (again.steps, again.made) == (8, 0)


def test_log_and_checkpoints(trainer_of: TrainerOf, tmp_path: Path) -> None:
    model = FakeModel()
    model.truncated = 1
    result = trainer_of(model, settings(), valid=split_of(["a", "b"]), folder=tmp_path).run()
    assert isinstance(result, TrainingResult)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_0.pth", "checkpoint_1.pth", "checkpoint_best.pth", "log.txt", "metrics.jsonl"]
    data = read_weights(tmp_path / "checkpoint_1.pth")
    assert set(data) == {
        *("model", "optimizer", "config", "scaler", "epoch", "step", "progress", "random", "samples", "files", "tasks"),
    }
    assert (data["epoch"], data["step"], data["config"], data["scaler"]) == (1, 8, CONFIG, None)
    assert torch.equal(data["model"]["linear.weight"], model.linear.weight)
    assert read_weights(tmp_path / "checkpoint_best.pth")["step"] == result.best_step
    assert records(tmp_path, "config") == [{"event": "config", **CONFIG}]
    trains = records(tmp_path, "train")
    assert [record["step"] for record in trains] == [4, 8]
    assert trains[1]["loss"] == result.train_loss
    assert (trains[1]["truncated"], trains[1]["clips"]) == (4, 8)
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in metrics] == [2, 4, 4, 4, 6, 8, 8, 8]
    assert metrics[-1]["valid/accuracy"] == records(tmp_path, "valid")[-1]["accuracy"]


def test_without_a_validation_set_there_is_no_best(trainer_of: TrainerOf, tmp_path: Path) -> None:
    result = trainer_of(FakeModel(), settings(), folder=tmp_path).run()
    assert (result.best, result.best_step) == (None, None)
    assert not (tmp_path / "checkpoint_best.pth").exists()


def test_a_loss_that_is_no_number_stops_with_advice(trainer_of: TrainerOf) -> None:
    model = FakeModel()
    with torch.no_grad():
        model.linear.bias.fill_(float("nan"))
    with pytest.raises(SalmonnError, match=r"the loss became nan up to step 2: lower run\.optims\.init_lr"):
        trainer_of(model, settings()).run()


def test_run_folders_never_collide(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4)
    names = [RunFolder.create(tmp_path / "out", now).path.name for _ in range(3)]
    assert names == ["2026-01-02_03-04-00", "2026-01-02_03-04-00-2", "2026-01-02_03-04-00-3"]


def test_a_large_step_is_computed_in_parts_that_change_nothing(trainer_of: TrainerOf) -> None:
    """Two processes' worth of samples in one: the same mean over all tokens, two forward passes."""
    weights, passes = [], []
    for batch_size, world_size in ((4, 1), (2, 2), (1, 4)):
        model = FakeModel()
        run = settings(batch_size_train=batch_size, world_size=world_size, optims={"max_epoch": 1})
        trainer_of(model, run, texts=["a", "bb", "ccc", "dddd"]).run()
        weights.append(model.linear.weight.detach())
        passes.append(len(model.modes))
    assert passes == [4, 8, 16]
    for weight in weights[1:]:
        torch.testing.assert_close(weight, weights[0])


def test_an_unreadable_clip_is_left_out_named_and_counted(trainer_of: TrainerOf) -> None:
    model, without = FakeModel(), FakeModel()
    run = settings(batch_size_train=4, iters_per_epoch=1, optims={"max_epoch": 1})
    result = trainer_of(model, run, texts=["a", "bb", "ccc", "dddd"], source=Source({2})).run()
    assert result.unreadable == ("2",)
    # What is learned is what the three others alone teach, weighted by their tokens.
    source = Source()
    batch = [index for indices in build_order(4, run).indices(0, 1) for index in indices if index != 2]
    [(_, encoded)] = source.stream([batch])
    output = without(encoded, [""] * 3, [["a", "bb", "ccc", "dddd"][index] for index in batch])
    output.loss.backward()
    trainer = trainer_of(FakeModel(), run, texts=["a", "bb", "ccc", "dddd"], source=Source({2}))
    trainer.run()
    momentum = trainer.optimizer.state[trainer.parameters["linear.weight"]]["exp_avg"]
    torch.testing.assert_close(momentum, 0.1 * without.linear.weight.grad)


def test_a_step_of_which_nothing_can_be_read_teaches_nothing(trainer_of: TrainerOf) -> None:
    model = FakeModel()
    before = model.linear.weight.detach().clone()
    result = trainer_of(model, settings(), source=Source(range(6))).run()
    assert torch.equal(model.linear.weight, before)
    assert math.isnan(result.train_loss)


def test_too_many_unreadable_clips_stop_the_run(trainer_of: TrainerOf) -> None:
    source = Source(range(6))
    source.clips = UnreadableClips(2)
    with pytest.raises(AudioError, match="broken"):
        trainer_of(FakeModel(), settings(), source=source).run()


def settings_to_resume(**changes: Any) -> RunConfig:
    return settings(accum_grad_iters=2, iters_per_epoch=6, save_every=2, keep_last=100, **changes)


@pytest.mark.parametrize("step", [2, 4, 6, 8, 10])
def test_a_run_resumed_from_any_checkpoint_ends_bit_equal(trainer_of: TrainerOf, tmp_path: Path, step: int) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
    texts = ["a", "bb", "ccc", "dddd", "a", "b", "c"]
    valid = split_of(["a", "bb", "d"])
    model = dropping_model()
    expected = trainer_of(model, settings_to_resume(), valid=valid, folder=whole, texts=texts).run()
    name = {6: "0", 12: "1"}.get(step, f"step_{step}")
    data = read_weights(whole / f"checkpoint_{name}.pth")
    again = dropping_model()
    trainer = trainer_of(again, settings_to_resume(), valid=valid, folder=resumed, texts=texts)
    again.load_state_dict(data["model"])
    trainer.restore(data)
    result = trainer.run()
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert (result.best, result.best_step, result.steps) == (expected.best, expected.best_step, expected.steps)
    assert result.train_loss == expected.train_loss
    first, second = (
        [{k: v for k, v in r.items() if k not in TIMES} for r in records(folder, event) if r["step"] > step]
        for folder in (whole, resumed)
        for event in ("step",)
    )
    assert first == second
    final = [read_weights(folder / "checkpoint_1.pth") for folder in (whole, resumed)]
    for key, entries in final[0]["optimizer"].items():
        assert all(torch.equal(value, final[1]["optimizer"][key][name]) for name, value in entries.items())


def test_resuming_another_set_is_refused(trainer_of: TrainerOf, tmp_path: Path) -> None:
    trainer_of(FakeModel(), settings(), folder=tmp_path).run()
    data = read_weights(tmp_path / "checkpoint_0.pth")
    with pytest.raises(CheckpointError, match="the training set is not the one"):
        trainer_of(FakeModel(), settings()).restore({**data, "samples": "others"})
    with pytest.raises(CheckpointError, match="other parts"):
        trainer_of(FakeModel(), settings()).restore({**data, "optimizer": {}})


def test_a_request_to_stop_saves_at_the_next_optimizer_step(trainer_of: TrainerOf, tmp_path: Path) -> None:
    request = StopRequest()
    request.note(15)
    trainer = trainer_of(FakeModel(), settings(accum_grad_iters=2), folder=tmp_path)
    result = trainer.run(request)
    assert (result.steps, result.stopped_by) == (2, 15)
    assert read_weights(tmp_path / "checkpoint_step_2.pth")["step"] == 2


def test_the_last_checkpoints_and_the_best_are_kept(trainer_of: TrainerOf, tmp_path: Path) -> None:
    run = settings(iters_per_epoch=1, keep_last=2, best_metric="loss", optims={"max_epoch": 6, "init_lr": 1e-9})
    # The first validation is the best: later ones are worse, with a rate that does nothing they are equal.
    trainer_of(FakeModel(), run, valid=split_of(["a"]), folder=tmp_path).run()
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["checkpoint_4.pth", "checkpoint_5.pth", "checkpoint_best.pth"]


def test_validations_and_checkpoints_in_the_middle_of_an_epoch(trainer_of: TrainerOf, tmp_path: Path) -> None:
    run = settings(iters_per_epoch=5, valid_every=2, save_every=3, keep_last=9, optims={"max_epoch": 1})
    trainer_of(FakeModel(), run, valid=split_of(["a"]), folder=tmp_path).run()
    assert [record["step"] for record in records(tmp_path, "valid")] == [2, 4, 5]
    saved = {path.name for path in tmp_path.glob("*.pth")}
    assert {"checkpoint_0.pth", "checkpoint_best.pth", "checkpoint_step_3.pth"} <= saved


@pytest.fixture
def reference_trainer(
    reference: Path, reference_sections: Mapping[str, Any], build: Any, engine: Engine, tmp_path: Path
) -> Callable[..., tuple[Trainer, SALMONN]]:
    """Build a trainer around the reference model and its two shortest clips."""
    rows = [{"path": "clip00.wav", "text": "one two"}, {"path": "clip02.wav", "text": "three", "task": "audiocaption"}]
    (tmp_path / "train.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")

    def builder(*, valid: bool, **run: Any) -> tuple[Trainer, SALMONN]:
        path = str(tmp_path / "train.json")
        datasets = {"prefix": "wavs", "train_ann_path": path, "valid_ann_path": path if valid else ""}
        optims = {"max_epoch": 1, "warmup_steps": 0, "init_lr": 1e-2}
        section = {"batch_size_train": 2, "batch_size_eval": 2, "num_workers": 0, "optims": optims} | run
        section["output_dir"] = str(tmp_path / "output")
        mapping = {"model": reference_sections["model"], "datasets": datasets, "run": section}
        config = from_mapping(mapping, reference, purpose="train")
        model: SALMONN = build(train=True)
        sets = open_sets(config, engine)
        return build_trainer(config, model, sets, engine=engine, folder=None, tracking=Tracking(None)), model

    return builder


def test_cached_features_give_the_losses_of_live_ones(reference_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train = SALMONN.train
    monkeypatch.setattr(SALMONN, "train", lambda self, mode=True: train(self, False))  # no dropout
    losses = []
    for cache in (False, True):
        trainer, _ = reference_trainer(valid=True, iters_per_epoch=1, cache_features=cache)
        result = trainer.run()
        losses.append((result.train_loss, result.best["loss"]))
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
