"""What a training run amounts to: steps, samples, passes over the data, parameters, memory, reading time.

Plain numbers, from a configuration, the number of training samples and what is known of their texts, and the lines of
the dry run's last part. Sizes come from the parts' own configurations or from the table of known models.
"""

from dataclasses import dataclass
from math import ceil

import torch

from salmonn.config.schema import Config
from salmonn.data.batch_order import count_batches
from salmonn.decoding.decoder_support import without_adapter
from salmonn.device import choose_dtype, dtype_name
from salmonn.errors import CheckpointError
from salmonn.model.meta import build_meta_model
from salmonn.model.salmonn import SALMONN
from salmonn.planning.data_report import ReadingRate
from salmonn.planning.memory_estimate import (
    BatchPlan,
    MemoryEstimate,
    ParameterCounts,
    count_parameters,
    estimate_memory,
)
from salmonn.quantization.kinds import KINDS, NO_KIND
from salmonn.quantization.layers import linear_layers


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How long a run is.

    Attributes:
        step_samples: samples of one step, `batch_size_train` x `world_size`.
        steps: batches of the whole run.
        updates: optimizer steps; a group that an epoch's end cuts short is one too.
        samples_seen: over the whole run.
        passes: the same as passes over the training set; None where its size is not known.
    """

    step_samples: int
    steps: int
    updates: int
    samples_seen: int
    passes: float | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters and memory of the configured model, and on what the memory was computed for."""

    counts: ParameterCounts
    memory: MemoryEstimate
    device: str


def plan_run(config: Config, samples: int | None, *, drawn: int | None = None) -> RunPlan:
    """Count steps, updates and samples of a configuration's run.

    Args:
        config: of the run.
        samples: rows of the training set, None for a set of unknown size.
        drawn: rows of a pass where `datasets.task_weights` make it other than the set's.

    Without the size of the set nothing can be counted of a run whose epochs are passes: its steps are 0.
    """
    run = config.run
    samples = samples if drawn is None else drawn
    batch = run.batch_size_train * run.world_size
    if run.epoch_based:
        epoch_steps = count_batches(samples or 0, batch, drop_last=run.drop_last)
    else:
        epoch_steps = run.iters_per_epoch
    steps = epoch_steps * run.optims.max_epoch
    seen = steps * batch
    if run.epoch_based and not run.drop_last:
        seen = (samples or 0) * run.optims.max_epoch
    return RunPlan(
        step_samples=batch,
        steps=steps,
        updates=ceil(epoch_steps / run.accum_grad_iters) * run.optims.max_epoch,
        samples_seen=seen,
        passes=seen / samples if samples else None,
    )


@dataclass(frozen=True, slots=True)
class Longest:
    """The largest batch's measures: text tokens before the target, target tokens, seconds of audio."""

    prompt_tokens: int
    target_tokens: int
    seconds: float


def measure_sizes(config: Config, longest: Longest) -> Sizes | CheckpointError:
    """Compute parameters and memory offline; the error says why where the sizes cannot be known."""
    try:
        model = build_meta_model(config, offline=True)
    except CheckpointError as error:
        return error
    model.llm_in_checkpoint = not config.model.freeze_llm
    counts = count_parameters(
        model,
        freeze_qformer=config.model.freeze_speech_QFormer,
        freeze_projection=config.model.freeze_speech_llama_proj,
    )
    weights, compute, device = _precision(config)
    plan = BatchPlan(
        batch_size=config.run.batch_size_train,
        audio_seconds=longest.seconds,
        prompt_tokens=longest.prompt_tokens,
        target_tokens=longest.target_tokens,
        weights_dtype=weights,
        compute_dtype=compute,
        on_gpu=device != "a CPU",
        saved_bytes=_saved_bytes(config, model, weights),
    )
    return Sizes(counts, estimate_memory(model, counts, plan), f"{device} and {dtype_name(weights)} weights")


def _saved_bytes(config: Config, model: SALMONN, weights: torch.dtype) -> int:
    """Bytes that the layers of quantised parts take less than in the dtype of the others."""
    quantize = config.model.quantize
    if quantize.kind == NO_KIND:
        return 0
    modules = {"llm": without_adapter(model.llm), "whisper": model.speech_encoder.whisper}
    numbers = sum(layer.weight.numel() for part in set(quantize.parts) for _, layer in linear_layers(modules[part]))
    return int(numbers * (weights.itemsize - KINDS[quantize.kind].number_bytes))


def plan_lines(config: Config, plan: RunPlan) -> list[str]:
    """Return what a run amounts to in two lines."""
    run = config.run
    size = f"{run.batch_size_train} x world_size {run.world_size} = {plan.step_samples} samples a step"
    if not plan.steps:
        return [f"{'batches':<12}{size}", f"{'length':<12}known once datasets.train_ann_path exists"]
    passes = "" if plan.passes is None else f", {plan.passes:,.1f} passes over the training set"
    return [
        f"{'batches':<12}{size}, an optimizer step every {run.accum_grad_iters}",
        f"{'length':<12}{run.optims.max_epoch} epochs, {plan.steps:,} steps, {plan.updates:,} optimizer steps",
        f"{'':<12}{plan.samples_seen:,} samples seen{passes}",
    ]


def size_lines(sizes: Sizes | CheckpointError, config: Config, longest: Longest) -> list[str]:
    """Return parameters and memory in three lines, or why they are not known in one."""
    if isinstance(sizes, CheckpointError):
        return [f"{'parameters':<12}cannot be known: {' '.join(str(sizes).split())}"]
    counts = sizes.counts
    text = longest.prompt_tokens + longest.target_tokens
    batch = f"{config.run.batch_size_train} clips of {longest.seconds:.0f} s and {text} text tokens"
    return [
        f"{'parameters':<12}{_millions(counts.trainable)} trained, {_millions(counts.frozen)} frozen",
        f"{'memory':<12}{sizes.memory.line()}",
        f"{'':<12}computed for {sizes.device}, {batch}; not measured",
    ]


def reading_lines(config: Config, plan: RunPlan, rate: ReadingRate) -> list[str]:
    """Return how fast clips are read and how long reading all of the run's takes at least."""
    if not rate.clips:
        return [f"{'reading':<12}no clip could be read"]
    cached = bool(config.run.cache_features) and plan.passes is not None and plan.passes > 1
    reads = plan.samples_seen / plan.passes if cached and plan.passes else plan.samples_seen
    once = " once (run.cache_features)" if cached else ""
    return [
        f"{'reading':<12}{rate.clips_per_second:,.0f} clips/s (one process, run.num_workers {config.run.num_workers}, "
        f"{rate.clips} clips)",
        f"{'':<12}at least {_duration(reads / rate.clips_per_second)} to read {reads:,.0f} clips{once}; "
        "computing is not in it",
    ]


def _precision(config: Config) -> tuple[torch.dtype, torch.dtype, str]:
    """The dtypes of frozen weights and of products, and the device: a GPU with bfloat16 where none is here to ask."""
    run, named = config.run, config.model.dtype
    if run.device == "cpu":
        weights, fast, where = choose_dtype(named, torch.device("cpu")), torch.float32, "a CPU"
    elif torch.cuda.is_available():
        device = torch.device("cuda")
        weights, fast, where = choose_dtype(named, device), choose_dtype("auto", device), "this GPU"
    else:
        fast, where = torch.bfloat16, "a GPU (none is here)"
        weights = torch.bfloat16 if named == "auto" else choose_dtype(named, torch.device("cpu"))
    if not run.amp:
        return weights, weights, where
    return weights, fast if run.precision == "auto" else choose_dtype(run.precision, torch.device("cpu")), where


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
