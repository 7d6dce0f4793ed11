"""Choose how many threads PyTorch computes with on a CPU, and how long an idle one waits, before it is imported.

OpenMP's threads wait for each other in a loop that keeps its core busy. Beside other work that takes the cores away
from the very threads that are waited for, and a run takes many times as long. Its number of threads is that of the
host's cores, whatever share of them a container may use. Both are read from the environment when PyTorch is imported.

The evaluator and the trainer stand alone, so each has this file; a test holds the two copies byte-identical.
"""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

SPIN_COUNT = 1000
"""Rounds of waiting before a thread sleeps (libgomp's own: 300,000). docs/performance.md has the measurements."""

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def prepare_cpu_threads(environment: MutableMapping[str, str] | None = None) -> None:
    """Set OMP_NUM_THREADS and GOMP_SPINCOUNT where the user has set neither; call it before PyTorch is imported.

    Args:
        environment: Changed in place; None is the process's own. Of LOCAL_WORLD_SIZE processes each gets its share.
    """
    environment = os.environ if environment is None else environment
    processes = environment.get("LOCAL_WORLD_SIZE", "1")
    share = available_cpus() // max(1, int(processes) if processes.isdecimal() else 1)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, share)))
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


def available_cpus() -> int:
    """Count the CPUs that this process may use: its affinity and its container's quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """CPUs per control group, this process's own and those around it; version 1 states one for a container."""
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    own = next((line.removeprefix("0::").strip("/") for line in groups if line.startswith("0::")), "")
    for folder in (_CGROUP_ROOT / own, *(_CGROUP_ROOT / own).parents):
        if folder.is_relative_to(_CGROUP_ROOT):
            yield from _quota(_words(folder / "cpu.max"))
    legacy = _CGROUP_ROOT / "cpu"
    yield from _quota(_words(legacy / "cpu.cfs_quota_us") + _words(legacy / "cpu.cfs_period_us"))


def _quota(words: list[str]) -> Iterator[float]:
    """The CPUs of "QUOTA PERIOD" in microseconds; "max" and -1 state none."""
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]) > 0:
        yield int(words[0]) / int(words[1])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
