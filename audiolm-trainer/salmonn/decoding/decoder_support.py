"""Which language models the decoder can run: those whose layers all attend to everything that a mask lets them see.

A sliding window that no prompt with its answer fills is no limit, and is taken for none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from salmonn.decoding.attention import shared_attention
from salmonn.decoding.kv_cache import SlotCache
from salmonn.errors import ConfigError

_INSTEAD = "set generate.engine: transformers"
_ALWAYS_ALLOWED = 1e-3
"""How far a tried step may be from the same tokens in one row, relative to the largest logit, whatever the model."""
_TIMES_ITS_NOISE = 4
"""How many times further it may be than the model is from itself: rounding strikes here and there."""
FULL, SLIDING = "full_attention", "sliding_attention"
_MOST_TRIED = 16
"""A window that is not wider is not tried."""
_NOISE_ROWS = (8, 8)
"""Rows and tokens of each that a model's own noise is measured on."""
_MOST_ALLOWED = 0.25
"""Beyond it a wrong mask could pass for noise."""


def without_adapter(llm: Any) -> Any:
    """The language model itself: adapters are inside it, and peft's wrapper only hands arguments on."""
    return llm.get_base_model() if hasattr(llm, "get_base_model") else llm


def check_supported(llm: PreTrainedModel, *, new_tokens: int = 0) -> None:
    """Check that the decoder's cache and mask give a model's own logits, by its configuration and by a try.

    Args:
        llm: a causal language model of transformers, without a wrapper.
        new_tokens: of the longest answer.

    Raises:
        ConfigError: they do not.
    """
    config: Any = llm.config.get_text_config()
    name = type(llm).__name__
    check_architecture(llm.config, name, new_tokens=new_tokens)
    if config._attn_implementation not in ("sdpa", "eager"):
        raise ConfigError(
            f"the decoder needs attention of type sdpa or eager, {name} has {config._attn_implementation}: {_INSTEAD}"
        )
    try:
        with _without_dropout(llm):
            difference = tried_difference(llm)
            # Where weights, activations or the dtype are coarse, nearly equal values round apart.
            noise = own_noise(llm) if not difference <= _ALWAYS_ALLOWED else 0.0
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise ConfigError(f"the decoder cannot run {name} ({error}): {_INSTEAD}") from error
    if not difference <= min(max(_ALWAYS_ALLOWED, _TIMES_ITS_NOISE * noise), _MOST_ALLOWED):
        raise ConfigError(
            f"the decoder's logits for {name} differ from its own by {difference:.1e} of the largest, which its own "
            f"differ by {noise:.1e} between batches: {_INSTEAD}"
        )


def attention_window(sizes: PreTrainedConfig) -> int | None:
    """Tokens that the layers with a sliding window see of a sequence, None where every layer sees all."""
    config: Any = sizes.get_text_config()
    window = getattr(config, "sliding_window", None)
    slides = SLIDING in (getattr(config, "layer_types", None) or ()) or getattr(config, "use_sliding_window", True)
    return int(window) if window and slides else None


def check_architecture(sizes: PreTrainedConfig, name: str, *, new_tokens: int = 0) -> None:
    """Check what a language model's configuration alone says, before there is a model.

    Args:
        sizes: its configuration.
        name: what to call it.
        new_tokens: of the longest answer, before which there is a prompt of a length that is not known yet.

    Raises:
        ConfigError: the decoder cannot run such a model.
    """
    if sizes.is_encoder_decoder:
        raise ConfigError(f"the decoder is for decoder-only language models, {name} has an encoder: {_INSTEAD}")
    config: Any = sizes.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or [FULL]) - {FULL}
    window = attention_window(sizes)
    narrow = window is not None and window <= max(_MOST_TRIED, new_tokens)
    if kinds - {SLIDING} or (kinds and window is None) or narrow:
        found = ", ".join([*sorted(kinds), *([f"a sliding window of {window} tokens"] if window else [])])
        raise ConfigError(f"the decoder cannot run layers of {name} that do not attend to all ({found}): {_INSTEAD}")


@contextmanager
def _without_dropout(llm: PreTrainedModel) -> Iterator[None]:
    """Put a model that may be in training into evaluation mode, and every part of it back into its own."""
    training = [module for module in llm.modules() if module.training]
    llm.train(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def tried_difference(llm: PreTrainedModel) -> float:
    """Decode two steps of two beams that change places; compare with the same tokens in plain rows.

    Returns:
        The largest difference of the logits relative to the largest logit; NaN if one is NaN.
    """
    model: Any = llm
    weights = model.get_input_embeddings().weight
    device = weights.device
    # Both second tokens descend from the second beam.
    rows = torch.tensor([[1, 2, 3, 5, 6], [1, 2, 3, 5, 7]], device=device) % weights.shape[0]
    prompt, first, second = rows[:1, :3], torch.stack([rows[:1, 4], rows[:1, 3]], dim=1), rows[:, 4][None]
    plain = model(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False).logits[:, -1]
    layers = model.config.get_text_config().num_hidden_layers
    cache = SlotCache(layers=layers, slots=1, num_beams=2, max_steps=2, device=device, dtype=model.dtype)
    cache.reserve(prompt=3, steps=2)
    cache.open_prompts(0, number=1, longest=3, padding=None)
    model(input_ids=prompt, past_key_values=cache.states, use_cache=True)
    _tried_step(model, cache, first, step=0)
    cache.follow(slice(0, 1), torch.tensor([[1, 1]], device=device))
    ours = _tried_step(model, cache, second, step=1)[0]
    return float((ours - plain).float().abs().max() / plain.float().abs().max().clamp(min=1e-6))


@torch.no_grad()
def own_noise(llm: PreTrainedModel) -> float:
    """Compute the same tokens as transformers may: alone and together, in another order, step by step.

    Returns:
        The largest difference of the logits relative to the largest logit; NaN if one is NaN.
    """
    model: Any = llm
    weights = model.get_input_embeddings().weight
    rows, length = _NOISE_ROWS
    ids = torch.arange(1, rows * length + 1, device=weights.device).reshape(rows, length) % weights.shape[0]
    together = model(input_ids=ids, use_cache=False).logits
    alone = torch.cat([model(input_ids=row[None], use_cache=False).logits for row in ids])
    order = torch.arange(rows - 1, -1, -1, device=weights.device)
    turned = model(input_ids=ids[order], use_cache=False).logits[order]
    first = model(input_ids=ids[:, :-2], use_cache=True)
    steps = [first.logits]
    for place in (length - 2, length - 1):
        output = model(input_ids=ids[:, place : place + 1], past_key_values=first.past_key_values, use_cache=True)
        steps.append(output.logits)
    ways = (alone, turned, torch.cat(steps, dim=1))
    largest = together.float().abs().max().clamp(min=1e-6)
    return float(torch.stack([(way - together).float().abs().max() for way in ways]).max() / largest)


def _tried_step(model: Any, cache: SlotCache, tokens: Tensor, *, step: int) -> Tensor:
    """Logits [1, 2, V] of one step after a prompt of three tokens."""
    places = torch.tensor([step], device=tokens.device)
    mask = cache.open_step(places, cache.shape(rows=1, prompt=3, steps=step + 1))
    positions = torch.full_like(tokens, 3 + step)
    with shared_attention(model.config):
        output = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache.states,
            use_cache=True,
        )
    logits: Tensor = output.logits
    return logits
