"""One clip after the other, before and after what was done for it: `python benchmarks/one_stream.py`.

The nano model three times in one process: as a model that is being trained answers (peft's wrappers, gradients off), as
it is loaded to answer (adapters called directly, PyTorch's inference mode), and with the adapter merged as well. All
rows of data/sample are answered by each, and the texts compared; 24 clips are clocked, in turn and backwards in every
second round, on one thread. Each row is CPU time, the ratio with its range, and how many texts are those of the first.
"""

import json
import statistics
import time
from pathlib import Path

import torch
from compressed_speed import MERGED, ROOT, Clip, load

from salmonn.audio.loading import load_audio
from salmonn.config.config import load_config
from salmonn.inference.inference import SalmonnLM
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import answer_prompts

SAMPLE = ROOT / "data" / "sample"
CONFIG = ROOT / "configs" / "salmonn_eval_config.yaml"
CLOCKED, ROUNDS = 24, 9


def main() -> None:
    """Answer, clock, print."""
    torch.set_num_threads(1)
    clips = sample_clips()
    models = {"before": in_training(), "now": load([]), "now, adapter merged": load([MERGED])}
    texts = {name: answer(lm, clips) for name, lm in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(ROUNDS):
        for name in models if number % 2 == 0 else reversed(models):
            begin = time.process_time()
            answer(models[name], clips[:CLOCKED])
            seconds[name].append(time.process_time() - begin)
    print("| model | CPU ms a clip | times as fast | same texts |\n| --- | --- | --- | --- |")
    for name, own in seconds.items():
        ratios = [before / after for before, after in zip(seconds["before"], own, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        same = sum(one == other for one, other in zip(texts[name], texts["before"], strict=True))
        print(f"| {name} | {1000 * statistics.median(own) / CLOCKED:.1f} | {spread} | {same} of {len(clips)} |")


def sample_clips() -> list[Clip]:
    """Read all rows of data/sample."""
    rows = []
    for name in ("asr", "aac"):
        rows += json.loads((SAMPLE / f"{name}.json").read_text(encoding="utf-8"))["annotation"]
    return [Clip(place, load_audio(SAMPLE / row["path"]), row["task"]) for place, row in enumerate(rows)]


def in_training() -> SalmonnLM:
    """Load the model as training has it while it validates."""
    config = load_config(Path(CONFIG))
    model = SALMONN.from_config(config, device=torch.device("cpu"), dtype=torch.float32, train=True).eval()
    return SalmonnLM.from_config(model, config, prompts=answer_prompts(config))


def answer(lm: SalmonnLM, clips: list[Clip]) -> list[str]:
    """Answer clips one by one."""
    return [next(iter(lm.generate([clip]))).text for clip in clips]


if __name__ == "__main__":
    main()
