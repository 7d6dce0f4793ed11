"""Peak anonymous memory of loading a language model, as a multiple of its weights: `python benchmarks/load_memory.py`.

Writes a random Llama of about 0.2 billion numbers to a temporary folder in float16, as `.safetensors` and as
`pytorch_model.bin`, then loads it through `salmonn.model.components` in a fresh process for each dtype (Linux only); at
last with an adapter on every linear layer that is merged. A ratio near 1 means that no second copy is made.
"""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn.model import components
from salmonn.model.lora_merge import merge_adapter

SIZES = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 14, "num_attention_heads": 16}
DTYPES = ("float16", "bfloat16", "float32")
NOTHING, PLAIN, MERGED = "nothing", "plain", "merged"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    """Measure each dtype in a process of its own, against a process that only imports."""
    with tempfile.TemporaryDirectory() as folder:
        mapped, old = Path(folder, "safetensors"), Path(folder, "bin")
        llm = LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=8000)).half()
        llm.save_pretrained(mapped)
        llm.config.save_pretrained(old)
        torch.save(llm.state_dict(), old / "pytorch_model.bin")
        baseline = measure(NOTHING, "float16", mapped)[0]
        for kind, source in ((PLAIN, mapped), (PLAIN, old), (MERGED, mapped)):
            for dtype in DTYPES:
                peak, weights = measure(kind, dtype, source)
                size = f"{weights / 1e6:.0f} MB of weights, peak {(peak - baseline) / 1e6:.0f} MB"
                print(f"{kind}, {source.name}, {dtype}: {size}, x {(peak - baseline) / weights:.2f}")


def measure(kind: str, dtype: str, folder: Path) -> tuple[int, int]:
    """Peak anonymous bytes of a process that loads the model, and the bytes of its weights."""
    command = [sys.executable, __file__, kind, dtype, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, weights = done.stdout.split()[-2:]
    return int(peak), int(weights)


def anonymous_bytes() -> int:
    """Memory of this process that is no mapped file: pages of a weights file can be dropped again at any time."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def load(kind: str, dtype: str, folder: str) -> None:
    """Load in this process and print the peak of anonymous memory, sampled every 2 ms, and the weights' bytes."""
    peak, weights, done = 0, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    if kind != NOTHING:
        llm = components.load_llm(folder, device=torch.device("cpu"), dtype=getattr(torch, dtype), token=None)
        if kind == MERGED:
            llm = components.add_lora(llm, LoraConfig(r=8, lora_alpha=32, target_modules=LINEAR, task_type="CAUSAL_LM"))
            llm = merge_adapter(llm).llm
        weights = sum(p.nbytes for p in llm.parameters())
    done.set()
    watcher.join()
    print(max(peak, anonymous_bytes()), weights)


if __name__ == "__main__":
    load(*sys.argv[1:]) if len(sys.argv) == 4 else main()
