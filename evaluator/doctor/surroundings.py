"""What a run finds on this machine: Python and its packages, Java, SPICE's files, memory, GPUs.

In: nothing but the machine and the settings that name a place. Out: findings. The parts are those that runs use
themselves; nothing is looked for in another way here.
"""

import platform
import subprocess
from collections.abc import Callable, Iterator

from evaluator.cpu_threads import available_cpus
from evaluator.doctor.finding import Finding
from evaluator.errors import ConfigError, MetricUnavailableError
from evaluator.extras import EXTRAS, check_installed
from evaluator.machine import free_memory, machine, versions

GIB = 2**30
_GPU_FIELDS = "name,memory.total,memory.free,driver_version"
_GPU_SECONDS = 20.0


def installation() -> Iterator[Finding]:
    """Look at Python, this package, and each optional part of the installation."""
    known = versions()
    texts = [f"{known['python']} on {platform.system()} {platform.machine()}"]
    texts += [f"{name} {known[name]}" for name in ("audiolm-evaluator", "torch", "transformers") if name in known]
    yield Finding("ok", "Python", ", ".join(texts))
    for extra in EXTRAS:
        try:
            check_installed(extra)
        except ConfigError as error:
            missing = "; ".join(problem.message for problem in error.problems)
            yield Finding("note", f"extra {extra}", f"{missing}: pip install 'audiolm-evaluator[{extra}]'")
        else:
            yield Finding("ok", f"extra {extra}", "installed")


def caption_files(java_path: str = "", cache_path: str = "") -> Iterator[Finding]:
    """Look for what SPICE, SPIDEr and METEOR need beyond Python packages; without it these are unavailable.

    Args:
        java_path: scoring.java_path.
        cache_path: scoring.cache_path.
    """
    from evaluator.scoring.java import find_java
    from evaluator.scoring.spice_files import find_spice_files

    try:
        java = find_java(java_path)
        yield Finding("ok", "Java", f"{java.version}, by {java.source}: {java.executable}")
    except MetricUnavailableError as error:
        yield Finding("note", "Java", f"{error.message}; {error.fix}")
    try:
        files = find_spice_files(cache_path)
        yield Finding("ok", "SPICE's files", f"by {files.source}: {files.corenlp.parent}")
    except MetricUnavailableError as error:
        yield Finding("note", "SPICE's files", f"{error.message}; {error.fix}")


def resources(num_gpus: Callable[[], int] | None) -> Iterator[Finding]:
    """Look at processor, memory and GPUs.

    Args:
        num_gpus: counts the GPUs that the model's library sees; None: it is not asked.
    """
    described = machine()
    yield Finding("ok", "processor", f"{described['processor']}, {available_cpus()} cores for this process")
    free = free_memory()
    if free is not None:
        yield Finding("ok", "memory", f"{free / GIB:.1f} GiB free")
    driver = gpus()
    seen = num_gpus() if num_gpus is not None else None
    if driver and seen == 0:
        text = "PyTorch sees none of these: its build is for CPUs, or CUDA_VISIBLE_DEVICES hides them"
        yield Finding("note", "GPU", text, tuple(driver))
    elif driver:
        yield Finding("ok", "GPU", driver[0], tuple(driver[1:]))
    else:
        text = "none that nvidia-smi knows: runs take the CPU" if not seen else f"{seen}, as PyTorch says"
        yield Finding("ok" if seen else "note", "GPU", text)


def gpus() -> list[str]:
    """NVIDIA GPUs as their driver describes them, a line each; empty where there is no driver."""
    command = ["nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GPU_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    described = []
    for line in done.stdout.splitlines():
        name, total, free, version = (part.strip() for part in line.split(","))
        described.append(f"{name}, {free} of {total} free, driver {version}")
    return described
