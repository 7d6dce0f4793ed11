"""How large a SALMONN is and how much it multiplies for one clip.

Parameters and multiply-accumulate operations (MACs) are told by part. They are counted while the parts run, from the
shapes of their matrix products, convolutions and attention: one MAC is one multiplication with its addition, two FLOPs.
Norms, activations, softmax and features' Fourier transforms are left out, as is usual.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from salmonn.decoding.decoder_support import without_adapter
from salmonn.model.salmonn import SALMONN
from salmonn.quantization.layers import count_numbers, quantised_layers

FLOPS_PER_MAC = 2


@torch.no_grad()
def model_figures(model: SALMONN, audio: NDArray[np.float32], prompt: str) -> dict[str, float]:
    """Count what one clip takes.

    Args:
        model: a whole model.
        audio: float32 [N] at the model's sampling rate.
        prompt: filled text with the audio slot once.

    Returns:
        parameters_total: every number of the model, adapters included, shared ones once.
        parameters_trained: what a checkpoint holds (Q-Former, norms, projection, adapters).
        parameters_merged: those of a merged adapter, where there is one: counted as trained, not in the total.
        macs_encoders: Whisper and BEATs, for the clip; Whisper always computes its whole window, BEATs the clip.
        macs_bridge: windows, Q-Former and projection, for the clip.
        macs_prompt: the language model over the prompt, once, with the scores of one next token.
        macs_token: the language model for one more token of one beam, the prompt behind it.
        prompt_tokens: tokens of that prompt, audio included.
    """
    macs: dict[str, float] = {}
    with _counted(macs, "macs_encoders", model):
        encoded = model.encode([audio])
    with _counted(macs, "macs_bridge", model):
        speech = model.embed(encoded)[0]
    embeds = model.wrap(speech, prompt)
    llm = without_adapter(model.llm)
    with _counted(macs, "macs_prompt", model):
        first = llm(inputs_embeds=embeds[None], use_cache=True, logits_to_keep=1)
    token = first.logits[:, -1:].argmax(dim=-1)
    with _counted(macs, "macs_token", model):
        llm(input_ids=token, past_key_values=first.past_key_values, use_cache=True, logits_to_keep=1)
    return {
        "parameters_total": count_numbers(model.parameters()),
        "parameters_trained": model.count_trained(),
        **({"parameters_merged": model.merged_numbers} if model.merged_numbers else {}),
        **macs,
        "prompt_tokens": embeds.shape[0],
    }


@contextmanager
def _counted(macs: dict[str, float], name: str, model: SALMONN) -> Iterator[None]:
    """Count the MACs of the block. Attention takes plain products there: the CPU's fused kernel is not counted.

    The counter does not know the kernels of quantised layers: these count as the products that they stand for.
    """
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        _whole_layers(model, counter) as missed,
    ):
        yield
    macs[name] = (counter.get_total_flops() + sum(missed)) // FLOPS_PER_MAC


@contextmanager
def _whole_layers(model: SALMONN, counter: FlopCounterMode) -> Iterator[list[int]]:
    """Collect the FLOPs of quantised layers that a counter misses."""
    missed: list[int] = []
    before: list[int] = []

    def begin(*_: Any) -> None:
        before.append(counter.get_total_flops())

    def end(layer: Any, inputs: Any, _: Any) -> None:
        found = counter.get_total_flops() - before.pop()
        missed.append(FLOPS_PER_MAC * inputs[0].numel() * layer.out_features - found)

    hooks = [hook for _, layer in quantised_layers(model)
             for hook in (layer.register_forward_pre_hook(begin), layer.register_forward_hook(end))]  # fmt: skip
    try:
        yield missed
    finally:
        for hook in hooks:
            hook.remove()
