"""What can be known to be wrong with quantised parts before weights are read: device, widths, folders of others.

The layers are those of models without weights, so that a width is named by its layer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.config.schema import Config
from salmonn.device import choose_device
from salmonn.errors import CheckpointError, ConfigError
from salmonn.model.meta import llm_sizes, whisper_sizes
from salmonn.preflight.parts import Problem
from salmonn.quantization.folders import folder_method, folder_problem
from salmonn.quantization.kinds import NO_KIND, device_problem, width_problems
from salmonn.quantization.layers import linear_layers

Part = Literal["llm", "whisper"]
PARTS: tuple[tuple[Part, str], ...] = (("llm", "llama_path"), ("whisper", "whisper_path"))
KIND_KEY = "model.quantize.kind"


def quantise_problems(config: Config, device: str, *, offline: bool, answers: bool) -> Iterator[Problem]:
    """Yield what is wrong with each part that is or will be quantised.

    Args:
        config: a configuration whose parts are in order.
        device: "auto", "cpu", "cuda", "cuda:1".
        offline: pass over what only the hub could tell.
        answers: nothing is trained.
    """
    try:
        target = choose_device(device)
    except ConfigError:
        # Reported as a problem of the device.
        return
    kind = config.model.quantize.kind
    if kind != NO_KIND and (text := device_problem(kind, target)):
        yield Problem(KIND_KEY, text)
        return
    for part, key in PARTS:
        path = getattr(config.model, key)
        try:
            sizes = _sizes(part, path, config.token, offline=offline)
        except CheckpointError:
            # Reported as a problem of the part, or passed over offline.
            continue
        yield from _part_problems(config, part, sizes, target)
        if part == "llm" and not answers and not config.model.freeze_llm and (method := folder_method(sizes)):
            text = (
                f"is False, and {Path(path).name} is quantised ({method}): it cannot be trained itself; set it to True"
            )
            yield Problem("model.freeze_llm", text)


def _part_problems(config: Config, part: Part, sizes: PreTrainedConfig, device: torch.device) -> Iterator[Problem]:
    key = f"model.{dict(PARTS)[part]}"
    name = Path(getattr(config.model, dict(PARTS)[part])).name
    kind, method = config.model.quantize.kind_of(part), folder_method(sizes)
    if text := folder_problem(sizes):
        yield Problem(key, f"{name} {text}")
    if method and kind != NO_KIND:
        yield Problem(
            KIND_KEY, f"{name} is quantised already ({method}): take {part} out of model.quantize.parts, or set none"
        )
    elif method and part == "llm" and config.model.merge_lora:
        yield Problem("model.merge_lora", f"an adapter cannot be merged into {name}, which is quantised ({method})")
    elif kind != NO_KIND:
        yield from (Problem(KIND_KEY, text) for text in width_problems(kind, _layers(sizes), device))


def _sizes(part: Part, path: str, token: str | None, *, offline: bool) -> PreTrainedConfig:
    read = llm_sizes if part == "llm" else whisper_sizes
    return read(path, token=token, offline=offline)


def _layers(sizes: PreTrainedConfig) -> list[tuple[str, nn.Linear]]:
    """Names and layers, without values, of what would be quantised."""
    with torch.device("meta"):
        if isinstance(sizes, WhisperConfig):
            return linear_layers(WhisperEncoder(sizes))
        return linear_layers(AutoModelForCausalLM.from_config(sizes))  # type: ignore[no-untyped-call]
