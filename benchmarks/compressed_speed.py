"""How fast compressed nano models answer one clip: `python benchmarks/compressed_speed.py compress_nano_results`.

After `make compress-nano`. All models are in one process and answer the same 24 clips of data/sample, one after the
other, in turn and backwards in every second of six rounds, on one thread; each row is CPU time and the ratio to the
model as shipped, median and range over the rounds.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from salmonn.audio.loading import load_audio
from salmonn.config.config import load_config
from salmonn.inference.inference import SalmonnLM, load_language_model

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data" / "sample"
CLIPS, ROUNDS = 24, 6
MERGED, GREEDY = "model.merge_lora=True", "generate.num_beams=1"


class Clip(NamedTuple):
    """A request, by shape."""

    index: int  # type: ignore[assignment]
    audio: NDArray[np.float32]
    task: str = "asr"
    question: str = ""


def main() -> None:
    """Load every model, clock them in turn, print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="what make compress-nano wrote")
    results = parser.parse_args().results.absolute()
    torch.set_num_threads(1)
    rows = json.loads((SAMPLE / "asr.json").read_text(encoding="utf-8"))["annotation"][:CLIPS]
    clips = [Clip(index, load_audio(SAMPLE / row["path"])) for index, row in enumerate(rows)]
    models = {name: load(options) for name, options in variants(results).items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(ROUNDS):
        for name in models if number % 2 == 0 else reversed(models):
            begin = time.process_time()
            for clip in clips:
                list(models[name].generate([clip]))
            seconds[name].append(time.process_time() - begin)
    first = seconds[next(iter(models))]
    print("| model | CPU ms a clip | times as fast |\n| --- | --- | --- |")
    for name, own in seconds.items():
        ratios = [before / after for before, after in zip(first, own, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"| {name} | {1000 * statistics.median(own) / CLIPS:.1f} | {spread} |")


def variants(results: Path) -> dict[str, list[str]]:
    """Name of a model -> its settings."""
    taught, cut = (
        [
            f"model.ckpt={json.dumps(str(results / name / 'healed.pth'))}",
            f"model.llama_path={json.dumps(str(results / name / 'llm'))}",
        ]
        for name in ("llm_taught", "llm_context")
    )
    context = [f"model.ckpt={json.dumps(str(results / 'context' / 'healed.pth'))}", "model.context_seconds=7.0"]
    cut = [*cut, "model.context_seconds=7.0"]
    return {
        "as shipped": [],
        "adapter merged": [MERGED],
        "greedy": [GREEDY],
        "LLM 3 -> 2, healed with teacher": taught,
        "hears 7 s, healed": context,
        "LLM 3 -> 2, hears 7 s, healed": cut,
        "the same, merged": [*cut, MERGED],
        "the same, merged, greedy": [*cut, MERGED, GREEDY],
    }


def load(options: list[str]) -> SalmonnLM:
    """Load a model to answer on the CPU."""
    return load_language_model(load_config(ROOT / "configs" / "salmonn_eval_config.yaml", options), "cpu")


if __name__ == "__main__":
    main()
