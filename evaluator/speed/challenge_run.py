"""The challenge's protocol in several fresh processes, put together: figures and how far to trust them.

In: a model package and a plan. Out: the sections of efficiency.json: what was measured, how, and sentences about a busy
machine, a wide spread, and a memory figure that is not the challenge's.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from evaluator.config.config import Config
from evaluator.errors import ConfigError
from evaluator.machine import busy_seconds, empty_process_memory, machine_cores, own_seconds
from evaluator.model import ModelProvider
from evaluator.run.timing import Spread
from evaluator.speed.challenge import (
    ITERATIONS,
    NOISE_SECONDS,
    PROTOCOL,
    WARM_UP_ITERATIONS,
    ChallengeFigures,
)
from evaluator.speed.clips import NOISE_SEED
from evaluator.speed.fresh_process import measure_in_fresh_process
from evaluator.tasks import QUESTION, task_of

WIDE = 0.05
"""Range of the processes' figures, in parts of their median, above which they are called no figure yet."""
BUSY = 0.05
"""Part of the machine's cores that others may use before it is called busy."""

Progress = Callable[[int, int], None]


def run_challenge(
    provider: ModelProvider, config: Config, *, known_tasks: dict[str, bool], processes: int, progress: Progress
) -> dict[str, Any]:
    """Measure by the challenge's protocol, each time in a fresh process.

    Args:
        provider: the model package.
        config: the validated config.
        known_tasks: task label -> whether it needs a question.
        processes: how many times, at least 1.
        progress: told (iterations done, iterations to do).

    Returns:
        dict: what is measured and how, for JSON.

    Raises:
        ConfigError: the model knows no label of the ASR task.
        AudioLMError: a process could not measure.
    """
    label = next((name for name in task_of("valid_asr").labels if name in known_tasks), None)
    if label is None:
        raise ConfigError(
            f"The challenge's protocol asks for a transcript; the model knows {', '.join(known_tasks) or 'no task'}."
        )
    task = (label, QUESTION if known_tasks[label] else "")
    each = 2 * (WARM_UP_ITERATIONS + ITERATIONS)
    watch = _Others()
    found = []
    for number in range(processes):
        found.append(
            measure_in_fresh_process(
                provider,
                config,
                task,
                is_first=number == 0,
                progress=partial(_told, progress, number * each, processes * each),
            )
        )
        progress((number + 1) * each, processes * each)
    return _sections(found, label, empty_process_memory(), watch.notes())


def _told(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


class _Others:
    """Watches what other programs take of the machine."""

    def __init__(self) -> None:
        self._begin = (time.perf_counter(), busy_seconds(), own_seconds())

    def notes(self) -> list[str]:
        """A sentence, if they took more than BUSY of it."""
        (begin, busy_before, own_before), busy, own = self._begin, busy_seconds(), own_seconds()
        if busy is None or busy_before is None:
            return ["This system does not say what other programs do: whether the machine was idle is not known."]
        cores = machine_cores()
        others = max((busy - busy_before - (own - own_before)) / max(time.perf_counter() - begin, 1e-9), 0.0)
        if others <= BUSY * cores:
            return []
        return [
            f"The machine was busy: other programs used {others:.1f} of its {cores} cores. Measure when it is idle."
        ]


def _sections(found: Sequence[ChallengeFigures], label: str, empty: int | None, notes: Sequence[str]) -> dict[str, Any]:
    figures = {
        "challenge_ttft_seconds": [one.ttft for one in found],
        "challenge_tpot_seconds": [one.tpot for one in found],
        "challenge_latency_seconds": [one.ttft + one.tpot for one in found],
        "waited_ttft_seconds": [one.waited_ttft for one in found],
        "waited_tpot_seconds": [one.waited_tpot for one in found],
        "waited_latency_seconds": [one.waited_ttft + one.waited_tpot for one in found],
    }
    memory, memory_note, missing = _memory(found, empty)
    if memory:
        figures["challenge_memory_bytes"] = memory
    spreads = {name: Spread.of(values) for name, values in figures.items()}
    return {
        "protocol": {**PROTOCOL, "processes": len(found)},
        "clips": {"source": "noise", "seed": NOISE_SEED, "level": 1.0, "task": label, "seconds": [NOISE_SECONDS]},
        "settings": found[0].settings,
        "figures": {name: asdict(spread) for name, spread in spreads.items()},
        "components": _components(found),
        "missing": missing,
        "notes": [*memory_note, *notes, *_wide(spreads)],
    }


def _memory(found: Sequence[ChallengeFigures], empty: int | None) -> tuple[list[float], list[str], dict[str, str]]:
    """The memory of each process, what to know of it, and why it is missing."""
    on_device = [one.device_memory for one in found if one.device_memory is not None]
    if len(on_device) == len(found):
        return on_device, [], {}
    in_process = [one.process_memory for one in found if one.process_memory is not None]
    if empty is None or len(in_process) < len(found):
        return [], [], {"challenge_memory_bytes": "no accelerator, and this system does not say what a process takes"}
    note = (
        "No GPU: the challenge measures allocated GPU memory, which is not there. challenge_memory_bytes is the "
        f"peak of the whole process above an empty Python ({empty:,} bytes): compare it with figures of CPUs only."
    )
    return [float(peak - empty) for peak in in_process], [note], {}


def _components(found: Sequence[ChallengeFigures]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "seconds": asdict(Spread.of([one.components[name].seconds for one in found])),
            "weights_bytes": cost.weights_bytes,
            "activations_bytes": cost.activations_bytes,
        }
        for name, cost in found[0].components.items()
    }


def _wide(spreads: dict[str, Spread]) -> list[str]:
    """A sentence for the latency that differs too much between processes."""
    if len(next(iter(spreads.values())).rounds) == 1:
        return ["One process measured: how far its figures repeat is not known (--processes 5)."]
    notes = []
    for name in ("challenge_latency_seconds", "waited_latency_seconds"):
        spread = spreads[name]
        share = (spread.highest - spread.lowest) / spread.median
        if share > WIDE:
            notes.append(
                f"{name} differs by {share:.0%} of its median between processes, more than {WIDE:.0%}: it is no figure "
                "to quote yet. Measure on an idle machine, with more --processes."
            )
    return notes
