"""Peak anonymous memory of loading a language model, as a multiple of its weights: `python benchmarks/load_memory.py`.

Writes a random Llama of about 0.2 billion numbers to a temporary folder in float16, then loads it through
`salmonn.components` in a fresh process for each dtype (Linux only). A ratio near 1 means that no second copy is made.
"""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn import components

SIZES = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 14, "num_attention_heads": 16}


def main() -> None:
    """Measure each dtype in a process of its own, against a process that only imports."""
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=8000)).half().save_pretrained(folder)
        baseline = measure("none", folder)
        for name in ("float16", "bfloat16", "float32"):
            peak, weights = measure(name, folder)
            loading = peak - baseline[0]
            print(f"{name}: {weights / 1e6:.0f} MB of weights, peak {loading / 1e6:.0f} MB, x {loading / weights:.2f}")


def measure(dtype: str, folder: str) -> tuple[int, int]:
    """Peak resident bytes of a process that loads the model, and the bytes of its weights."""
    done = subprocess.run([sys.executable, __file__, dtype, folder], capture_output=True, text=True, check=True)
    peak, weights = done.stdout.split()[-2:]
    return int(peak), int(weights)


def anonymous_bytes() -> int:
    """Memory of this process that is no mapped file: pages of a weights file can be dropped again at any time."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def load(dtype: str, folder: str) -> None:
    """Load in this process and print the peak of anonymous memory, sampled every 2 ms, and the weights' bytes."""
    peak, weights, done = 0, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    if dtype != "none":
        llm = components.load_llm(folder, device=torch.device("cpu"), dtype=getattr(torch, dtype), token=None)
        weights = sum(p.numel() * p.element_size() for p in llm.parameters())
    done.set()
    watcher.join()
    print(max(peak, anonymous_bytes()), weights)


if __name__ == "__main__":
    load(*sys.argv[1:]) if len(sys.argv) == 3 else main()
