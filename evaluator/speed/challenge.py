"""The challenge's protocol in one process: what its memory and latency figures mean, and the same measured properly.

In: a loaded model that offers its stages. Out: a ChallengeFigures. The original's protocol, as far as a program other
than the original can follow it (docs/efficiency.md lists every difference):

    one clip of 10 s of noise, alone, greedy; 10 iterations to warm up, 100 that count
    TTFT      from before the encoders to the logits of the first token; features are ready before the clock starts
    TPOT      one further forward pass of the language model
    memory    the peak of allocated memory since the process began, loading included, mean over the iterations

The original waits for the device before and after an iteration, never inside, so that a GPU's work may be counted in
the wrong half. The figures "waited" are the same iteration with features inside and the device waited for.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evaluator.machine import process_peak_memory
from evaluator.model import AudioLM, Request
from evaluator.provider.probe import ModelProbe, Setting, Stage
from evaluator.speed.stopwatch import Clock

NOISE_SECONDS = 10.0
WARM_UP_ITERATIONS = 10
ITERATIONS = 100
COMPONENT_ITERATIONS = 20

PROTOCOL: Mapping[str, str | int | list[str]] = {
    "name": "challenge",
    "clip": "10 s of standard normal noise at 16 kHz, alone, the ASR prompt, greedy",
    "warm_up_iterations": WARM_UP_ITERATIONS,
    "iterations": ITERATIONS,
    "challenge_ttft": "encoders, Q-Former, projection, prompt, a forward pass over it; no wait inside",
    "challenge_tpot": "one further forward pass with the cache",
    "challenge_memory": "mean over the iterations of the peak since the process began, loading included",
    "waited": "the same iteration with features inside, the device waited for before, between and after",
    "component": f"each stage, the device waited for before and after, median of {COMPONENT_ITERATIONS} iterations",
    "left_out": [
        "features (log-mel, filter bank) of the challenge's figures",
        "beams",
        "all further tokens of an answer",
        "reading audio",
        "the tokenizer's text",
    ],
}


@dataclass(frozen=True, slots=True)
class ComponentCost:
    """What one component takes for the clip.

    Attributes:
        seconds: median, the device waited for.
        weights_bytes: of the weights that it alone reads.
        activations_bytes: at most allocated beside what was there before; None where the model does not count them.
    """

    seconds: float
    weights_bytes: int
    activations_bytes: int | None


@dataclass(frozen=True, slots=True)
class ChallengeFigures:
    """What one process measured: means over the iterations, in seconds and bytes.

    Attributes:
        ttft: the challenge's time to first token.
        tpot: its time per output token.
        waited_ttft: with features inside and the device waited for.
        waited_tpot: likewise.
        device_memory: mean of the accelerator's peak since the process began; None without an accelerator.
        process_memory: the process's largest resident size; None where the system does not say.
        components: name -> its cost, in their order.
        settings: what the model says the figures hold for.
    """

    ttft: float
    tpot: float
    waited_ttft: float
    waited_tpot: float
    device_memory: float | None
    process_memory: int | None
    components: dict[str, ComponentCost]
    settings: dict[str, Setting]


def measure_challenge(
    model: AudioLM,
    request: Request,
    *,
    clock: Clock = time.perf_counter,
    tick: Callable[[], None] = lambda: None,
    warm_up: int = WARM_UP_ITERATIONS,
    iterations: int = ITERATIONS,
) -> ChallengeFigures:
    """Measure a model by the challenge's protocol.

    Args:
        model: a loaded model whose probe offers `stages`.
        request: the clip.
        clock: gives seconds.
        tick: called after every iteration.
        warm_up: iterations that do not count.
        iterations: that count, at least 1.

    Raises:
        ContractError: the model offers no stages.
    """
    probe = ModelProbe.of(model)
    stages = probe.stages(request)
    times: list[tuple[float, float]] = []
    peaks: list[int | None] = []
    for _ in range(warm_up + iterations):
        times.append(_as_the_original(probe, stages, clock))
        peaks.append(probe.peak_memory())
        tick()
    process = process_peak_memory()
    waited = []
    for _ in range(warm_up + iterations):
        waited.append(_waited(probe, stages, clock))
        tick()
    known = [peak for peak in peaks[warm_up:] if peak is not None]
    return ChallengeFigures(
        *_means(times[warm_up:]),
        *_means(waited[warm_up:]),
        device_memory=statistics.mean(known) if known else None,
        process_memory=process,
        components=_components(probe, stages, clock),
        settings=probe.settings(),
    )


def _as_the_original(probe: ModelProbe, stages: Sequence[Stage], clock: Clock) -> tuple[float, float]:
    features, *middle, step = stages
    features.run()
    probe.synchronize()
    begin = clock()
    for stage in middle:
        stage.run()
    first = clock()
    step.run()
    end = clock()
    probe.synchronize()
    return first - begin, end - first


def _waited(probe: ModelProbe, stages: Sequence[Stage], clock: Clock) -> tuple[float, float]:
    probe.synchronize()
    begin = clock()
    for stage in stages[:-1]:
        stage.run()
    probe.synchronize()
    first = clock()
    stages[-1].run()
    probe.synchronize()
    return first - begin, clock() - first


def _means(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return statistics.mean(first for first, _ in times), statistics.mean(step for _, step in times)


def _components(probe: ModelProbe, stages: Sequence[Stage], clock: Clock) -> dict[str, ComponentCost]:
    """Time of each stage, then its memory: counting memory may slow it down."""
    seconds: dict[str, list[float]] = {stage.name: [] for stage in stages}
    for _ in range(COMPONENT_ITERATIONS):
        for stage in stages:
            probe.synchronize()
            begin = clock()
            stage.run()
            probe.synchronize()
            seconds[stage.name].append(clock() - begin)
    return {
        stage.name: ComponentCost(
            statistics.median(seconds[stage.name]), stage.weights_bytes, probe.activations(stage.run)
        )
        for stage in stages
    }
