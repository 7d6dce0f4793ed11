"""The optimizer's groups and the schedule, against the original's numbers."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from salmonn.data.dataset import Sample, collate
from salmonn.model.salmonn import SALMONN
from salmonn.training.optim import build_optimizer, is_decayed, learning_rate, set_learning_rate

SCHEDULE = ("warmup_steps", "warmup_start_lr", "init_lr", "min_lr")


@pytest.fixture(scope="module")
def trained(build: Any) -> SALMONN:
    model: SALMONN = build(train=True)
    return model.train(False)


def names_of(group: dict[str, Any], parameters: dict[str, nn.Parameter]) -> set[str]:
    wanted = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in parameters.items() if id(parameter) in wanted}


def test_groups_are_the_originals(trained: SALMONN, expected: Any) -> None:
    parameters = trained.trainable_parameters()
    optimizer = build_optimizer(parameters, init_lr=3e-5, weight_decay=0.05, beta2=0.999)
    for ours, theirs in zip(optimizer.param_groups, expected["optimizer"]["groups"], strict=True):
        assert names_of(ours, parameters) == set(theirs["params"])
        assert (ours["weight_decay"], list(ours["betas"]), ours["eps"], ours["lr"]) == (
            theirs["weight_decay"],
            theirs["betas"],
            theirs["eps"],
            theirs["lr"],
        )


@pytest.mark.parametrize(
    ("name", "shape", "decayed"),
    [
        ("a.weight", (2, 2), True),
        ("a.weight", (2,), False),
        ("a.bias", (2, 2), False),
        ("ln_speech.weight", (2, 2), False),
        ("speech_query_tokens", (1, 1, 2), True),
    ],
)
def test_decay_is_a_matter_of_shape_and_name(name: str, shape: tuple[int, ...], *, decayed: bool) -> None:
    assert is_decayed(name, nn.Parameter(torch.zeros(shape))) is decayed


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is trainable"):
        build_optimizer({}, init_lr=1e-3, weight_decay=0.0, beta2=0.999)


def rate_at(schedule: dict[str, Any], sample: dict[str, Any]) -> float:
    return learning_rate(
        sample["epoch"] * schedule["iters_per_epoch"] + sample["step"],
        total_steps=schedule["max_epoch"] * schedule["iters_per_epoch"],
        **{key: schedule[key] for key in SCHEDULE},
    )


def test_rates_are_the_originals(expected: Any) -> None:
    compared = 0
    for schedule in expected["learning_rates"]:
        mended = schedule["warmup_steps"] > schedule["iters_per_epoch"]
        for sample in schedule["samples"]:
            # The original starts the third warm-up again with each epoch; what is after the warm-up is right.
            step = sample["epoch"] * schedule["iters_per_epoch"] + sample["step"]
            if mended and sample["epoch"] > 0 and step < schedule["warmup_steps"]:
                continue
            assert rate_at(schedule, sample) == pytest.approx(sample["lr"], abs=1e-12)
            compared += 1
    assert compared == 50


def test_a_warm_up_longer_than_an_epoch_goes_on(expected: Any) -> None:
    schedule = expected["learning_rates"][2]
    rates = [rate_at(schedule, {"epoch": 0, "step": step}) for step in range(schedule["warmup_steps"])]
    differences = [after - before for before, after in pairwise(rates)]
    step = (schedule["init_lr"] - schedule["warmup_start_lr"]) / schedule["warmup_steps"]
    assert differences == pytest.approx([step] * (schedule["warmup_steps"] - 1))


def test_no_warm_up_starts_at_the_top() -> None:
    numbers = {"total_steps": 10, "warmup_steps": 0, "warmup_start_lr": 0.0, "init_lr": 1.0, "min_lr": 0.1}
    assert learning_rate(0, **numbers) == 1.0
    assert learning_rate(10, **numbers) == pytest.approx(0.1)


def test_a_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(
        {"w": nn.Parameter(torch.ones(2, 2)), "b": nn.Parameter(torch.ones(2))},
        init_lr=1.0,
        weight_decay=0.1,
        beta2=0.999,
    )
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_sixteen_steps_follow_the_original(build: Any, reference: Any, expected: Any) -> None:
    from salmonn.audio.loading import load_audio
    from salmonn.prompts import PromptBook

    model: SALMONN = build(train=True).train(False)
    row, wanted = expected["gradients"]["row"], expected["training_steps"]["pad_excluded"]
    book = PromptBook.from_files(reference / "prompts" / "train.json", "USER: {}\nASSISTANT:")
    sample = Sample(reference / "wavs" / row["path"], row["text"], row["task"], row["Q"])
    batch = collate([sample], [0], book, rng=None, multi_prompt=False)
    encoded = model.encode([load_audio(sample.path)])
    parameters = model.trainable_parameters()
    optimizer = build_optimizer(parameters, init_lr=1e-3, weight_decay=0.05, beta2=0.999)
    losses, correct = [], []
    for _ in range(len(wanted["losses"])):
        output = model.loss(model.embed(encoded), batch.prompts, batch.targets)
        optimizer.zero_grad()
        torch.autograd.backward(output.loss)
        optimizer.step()
        losses.append(float(output.loss.detach()))
        correct.append(int(output.correct))
    assert losses == pytest.approx(wanted["losses"], abs=1e-3)
    assert max(abs(a - b) for a, b in zip(correct, wanted["correct"], strict=True)) <= 1
    for name, norm in wanted["norms_after"].items():
        assert float(parameters[name].detach().norm()) == pytest.approx(norm, rel=1e-3), name
