"""Time and memory of each component for one clip: `python benchmarks/components.py [--full] [--device cuda]`.

A random model and 10 s of noise. `--full` has the sizes of Whisper-large-v2, BEATs and Llama-3.2-3B, in bfloat16 on a
GPU. For a model of yours: `python evaluate_salmonn.py --efficiency --protocol challenge` (docs/efficiency.md).
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from device_clock import clocked, environment, require
from random_salmonn import FULL, MINI, PROMPTS, QUICK, build_answering_model

from salmonn.audio.loading import SAMPLING_RATE
from salmonn.inference.stages import ClipStages, peak_activations

SECONDS = 10
WARM_UPS, ITERATIONS = 3, 20


def main() -> None:
    """Measure and print a row for each component."""
    options = parse_options()
    device = torch.device(options.device)
    require(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = QUICK if options.quick else FULL if options.full else MINI
    model = build_answering_model(shape, device=device, dtype=dtype)
    noise = np.random.default_rng(0).standard_normal(SECONDS * SAMPLING_RATE).astype(np.float32)
    stages = ClipStages(model, noise, PROMPTS["asr"]).stages()
    seconds: dict[str, list[float]] = {stage.name: [] for stage in stages}
    for _ in range(WARM_UPS + ITERATIONS):
        for stage in stages:
            seconds[stage.name].append(clocked(device, stage.run)[1].wall)
    print(", ".join(f"{name} {value}" for name, value in environment(device).items()))
    print("| component | ms | weights, bytes | activations, bytes |\n| --- | --- | --- | --- |")
    record = {}
    for stage in stages:
        median = statistics.median(seconds[stage.name][WARM_UPS:])
        activations = peak_activations(stage.run, device)
        print(f"| {stage.name} | {1000 * median:.2f} | {stage.weights_bytes:,} | {activations:,} |")
        record[stage.name] = [median, stage.weights_bytes, activations]
    if options.json:
        options.json.write_text(json.dumps(record | {"environment": environment(device)}, indent=1), encoding="utf-8")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a tiny model")
    size.add_argument("--full", action="store_true", help="Whisper-large-v2, BEATs and Llama-3.2-3B in size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
