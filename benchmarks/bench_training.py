"""Clips a second of a training step: `python benchmarks/bench_training.py [--quick] [--device cuda]`.

One process, one random model, one made-up set. A run of an arm is one pass over the set: encoders, loss, backward pass,
optimizer step. The arms:

    original    the original's way (`original_step.py`): the set's own order, padded prompts, logits at all positions,
                AdamW's plain loop
    new         `salmonn`: batches of similar length, encoders without graph, logits where targets are, fused AdamW
    kept        the same with the encoders' outputs kept from an earlier pass, as `run.cache_features` does (reading
                them from a disk is not in it)

The arms run in turn, forwards then backwards, in every repeat. First the losses of both ways are compared on a batch
of one task, where padding cannot matter. On a shared machine CPU time is the one to compare. With `--device cuda` the
model has the full size, in bfloat16, and the batch size that is fastest is looked for as well.
"""

import argparse
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import NamedTuple

import torch
from device_clock import peak, require, reset_peak
from original_step import original_loss
from random_salmonn import FULL, QUICK, Shape, build_random_model
from random_training import TrainingSet, draw_training_set
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from salmonn.data.batch_order import build_batch_order
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import Encoded
from salmonn.training.optim import build_optimizer

TOLERANCE = 1e-4
BFLOAT16_TOLERANCE = 2e-2
RATES = {"init_lr": 3e-5, "weight_decay": 0.05, "beta2": 0.999}


class Run(NamedTuple):
    """One pass of one arm: wall and CPU seconds, peak bytes of memory, percent of the GPU's time (None on a CPU)."""

    wall: float
    cpu: float
    memory: int
    utilisation: float | None


class Arm(NamedTuple):
    """A way to train: batches of a pass, and what one step does with one of them."""

    batches: list[list[int]]
    step: Callable[[list[int]], None]


def main() -> None:
    """Compare the losses, measure all arms and print a row for each."""
    options = parse_options()
    device = torch.device(options.device)
    require(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = choose_shape(options)
    clips, repeats = (4, 1) if options.quick else (options.clips, options.repeats)
    batch_size = 2 if options.quick else options.batch_size
    data = draw_training_set(clips)
    model = build_random_model(shape, device=device, dtype=dtype)
    describe(model, data, shape, batch_size)
    compare_losses(model, data, device)
    arms = build_arms(model, data, batch_size, device)
    report(measure({name: arms[name] for name in options.arms.split(",")}, repeats, device), clips)
    if device.type == "cuda":
        for name in ("original", "new"):
            find_best_batch(name, model, device, clips)
    print(f"load average {os.getloadavg()[0]:.1f}")


def parse_options() -> argparse.Namespace:
    """Read the command line; every width and depth is an option."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, 4 clips, one repeat")
    parser.add_argument("--device", default="cpu", help="cuda: full size, bfloat16")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", default="original,new,kept")
    for field in fields(Shape):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, help=f"default {field.default}")
    return parser.parse_args()


def choose_shape(options: argparse.Namespace) -> Shape:
    """The shape for the device, with what the command line changes."""
    shape = QUICK if options.quick else FULL if options.device.startswith("cuda") else Shape()
    changes = {field.name: getattr(options, field.name) for field in fields(Shape)}
    return replace(shape, **{name: value for name, value in changes.items() if value is not None})


def describe(model: SALMONN, data: TrainingSet, shape: Shape, batch_size: int) -> None:
    """Say what is measured on what."""
    seconds = [wave.size / 16000 for wave in data.waves]
    tokens = [len(sample.text.split()) + 1 for sample in data.samples]
    print(shape)
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {len(seconds)} clips in batches of "
        f"{batch_size}, {statistics.mean(seconds):.1f} s and {statistics.mean(tokens):.1f} target tokens on average, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}"
    )


def compare_losses(model: SALMONN, data: TrainingSet, device: torch.device) -> None:
    """Make sure that both ways compute the same loss; dropout is off here.

    Raises:
        SystemExit: they do not.
    """
    indices = [index for index, sample in enumerate(data.samples) if sample.task == "asr"][:4]
    waves, prompts, targets = data.batch(indices)
    model.eval()
    with torch.no_grad(), autocast(device):
        theirs = float(original_loss(model, waves, prompts, targets))
        ours = float(model(model.encode(waves), prompts, targets).loss)
    model.train()
    print(f"loss of one batch: original {theirs:.6f}, new {ours:.6f}, difference {abs(theirs - ours):.1e}")
    if abs(theirs - ours) > (TOLERANCE if device.type == "cpu" else BFLOAT16_TOLERANCE):
        raise SystemExit("the arms do not compute the same loss: their times cannot be compared")


def build_arms(model: SALMONN, data: TrainingSet, batch_size: int, device: torch.device) -> dict[str, Arm]:
    """Give every arm its batches, its optimizer and its step, on one model."""
    places = range(len(data.waves))
    in_order = [list(places[start : start + batch_size]) for start in places[::batch_size]]
    order = build_batch_order(
        data.samples, batch_size=batch_size, seed=0, drop_last=False, bucket_by_length=True, task_weights={}
    )
    bucketed = list(order.indices(0, order.batches_per_pass))
    parameters = model.trainable_parameters()
    plain, fused = plain_optimizer(parameters), build_optimizer(parameters, **RATES)
    kept: dict[tuple[int, ...], Encoded] = {}

    def original(indices: list[int]) -> None:
        with autocast(device):
            loss = original_loss(model, *data.batch(indices))
        update(loss, plain)

    def new(indices: list[int]) -> None:
        waves, prompts, targets = data.batch(indices)
        encoded = model.encode(waves)
        with autocast(device):
            loss = model(encoded, prompts, targets).loss
        update(loss, fused)

    def with_kept(indices: list[int]) -> None:
        waves, prompts, targets = data.batch(indices)
        encoded = kept.get(tuple(indices)) or kept.setdefault(tuple(indices), model.encode(waves))
        with autocast(device):
            loss = model(encoded, prompts, targets).loss
        update(loss, fused)

    return {"original": Arm(in_order, original), "new": Arm(bucketed, new), "kept": Arm(bucketed, with_kept)}


def plain_optimizer(parameters: dict[str, nn.Parameter]) -> Optimizer:
    """AdamW in the original's two groups and with PyTorch's defaults."""
    grouped = build_optimizer(parameters, **RATES).param_groups
    groups = [{"params": group["params"], "weight_decay": group["weight_decay"]} for group in grouped]
    return AdamW(groups, lr=RATES["init_lr"], betas=(0.9, RATES["beta2"]))


def update(loss: Tensor, optimizer: Optimizer) -> None:
    """Backward pass and optimizer step."""
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision on a GPU, none on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def measure(arms: dict[str, Arm], repeats: int, device: torch.device) -> dict[str, list[Run]]:
    """Run every arm in turn, forwards and backwards, after a step of each to warm up.

    What `kept` keeps is all there before its first measured pass.
    """
    for name, arm in arms.items():
        run_pass(arm if name == "kept" else arm._replace(batches=arm.batches[:1]), device)
    runs: dict[str, list[Run]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name in [*arms, *reversed(arms)]:
            runs[name].append(run_pass(arms[name], device))
    return runs


def run_pass(arm: Arm, device: torch.device) -> Run:
    """Train one pass with one arm."""
    reset_peak(device)
    with watched_utilisation(device) as seen:
        wall, cpu = time.perf_counter(), time.process_time()
        for indices in arm.batches:
            arm.step(indices)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Run(wall, cpu, peak(device), statistics.mean(seen) if seen else None)


@contextmanager
def watched_utilisation(device: torch.device) -> Iterator[list[float]]:
    """Ask nvidia-smi twice a second how busy the GPU is, while the block runs."""
    seen: list[float] = []
    if device.type != "cuda":
        yield seen
        return
    done = threading.Event()
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--id={device.index or 0}"]

    def watch() -> None:
        while not done.wait(0.5):
            answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
            if answer.isdigit():
                seen.append(float(answer))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def report(runs: dict[str, list[Run]], clips: int) -> None:
    """Print medians and ranges, and how many times as fast as the original each arm is."""
    print("| arm | clips/s, CPU time | clips/s, wall time | times the original, CPU time | wall time | peak memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, done in runs.items():
        cpu, wall = ([clips / getattr(run, kind) for run in done] for kind in ("cpu", "wall"))
        gains = [
            [getattr(base, kind) / getattr(run, kind) for base, run in zip(runs["original"], done, strict=True)]
            for kind in ("cpu", "wall")
        ]
        busy = [run.utilisation for run in done if run.utilisation is not None]
        print(
            f"| {name} | {spread(cpu)} | {spread(wall)} | {spread(gains[0])} | {spread(gains[1])} "
            f"| {max(run.memory for run in done) / 1e9:.2f} GB |"
            + (f" GPU busy {statistics.median(busy):.0f} %" if busy else "")
        )


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def find_best_batch(name: str, model: SALMONN, device: torch.device, clips: int) -> None:
    """Double the batch of an arm until memory ends, and print the fastest size."""
    speeds: dict[int, float] = {}
    size = 8
    while size <= 512:
        data = draw_training_set(max(clips, 2 * size))
        arm = build_arms(model, data, size, device)[name]
        try:
            run_pass(arm, device)
            speeds[size] = len(data.waves) / run_pass(arm, device).wall
        except torch.OutOfMemoryError:
            break
        print(f"{name}, batch {size}: {speeds[size]:.2f} clips/s, {peak(device) / 1e9:.1f} GB")
        size *= 2
    best = max(speeds, key=lambda tried: speeds[tried])
    print(f"{name}: fastest with batches of {best}, {speeds[best]:.2f} clips/s")


if __name__ == "__main__":
    main()
