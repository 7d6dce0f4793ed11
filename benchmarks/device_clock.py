"""Time and memory of a device, and what was measured on: the one place of the benchmarks of answering that asks CUDA.

On a CPU memory is the peak of the whole process, read from /proc (Linux); on a GPU it is what PyTorch allocated.
"""

import gc
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import transformers

T = TypeVar("T")


class Spent(NamedTuple):
    """What one run took: wall and CPU seconds, peak bytes of memory."""

    wall: float
    cpu: float
    memory: int


def clocked(device: torch.device, work: Callable[[], T]) -> tuple[T, Spent]:
    """Do something, the device waited for before and after, its peak of memory begun anew."""
    reset_peak(device)
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    synchronize(device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, Spent(wall, cpu, peak(device))


def require(device: torch.device) -> None:
    """Make sure that the device is there.

    Raises:
        SystemExit: it is not.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU is here that PyTorch can use: nothing was measured")


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> None:
    """Let go of what nobody uses any more, and give memory that PyTorch keeps for later back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def reset_peak(device: torch.device) -> None:
    """Start counting the peak of memory anew (on a CPU: of the whole process, Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak(device: torch.device) -> int:
    """Peak bytes since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def device_name(device: torch.device) -> str:
    """A GPU's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environment(device: torch.device) -> dict[str, str | int]:
    """What the figures hold for."""
    return {
        "device": device_name(device),
        "processor": device_name(torch.device("cpu")),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cuda": str(torch.version.cuda),
        "float32_matmul": torch.get_float32_matmul_precision(),
    }
