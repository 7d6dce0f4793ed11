"""The layers of a language model and of Whisper's encoder, as lists that can be shortened."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import nn

from salmonn.decoding.decoder_support import without_adapter
from salmonn.errors import ConfigError
from salmonn.model.salmonn import SALMONN

Part = Literal["llm", "whisper"]


def holder_of(model: SALMONN, part: Part) -> Any:
    """The module whose `layers` are a part's layers.

    Raises:
        ConfigError: the language model has no list of that name.
    """
    if part == "whisper":
        return model.speech_encoder.whisper
    return decoder_of(without_adapter(model.llm))


def decoder_of(llm: Any) -> Any:
    """The module of a language model whose `layers` are its layers.

    Raises:
        ConfigError: it has no list of that name.
    """
    decoder: nn.Module = llm.get_decoder()
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList):
        raise ConfigError(f"the layers of a {type(llm).__name__} cannot be dropped: it has no list called layers")
    return decoder


@contextmanager
def only(holder: Any, kept: Sequence[int]) -> Iterator[None]:
    """Run a part with some of its layers inside the block; nothing is cached there."""
    whole = holder.layers
    holder.layers = nn.ModuleList(whole[place] for place in kept)
    try:
        yield
    finally:
        holder.layers = whole


def keep(model: Any, holder: Any, kept: Sequence[int]) -> None:
    """Drop all layers but some, for good, and let the configuration say so.

    Args:
        model: a model of transformers.
        holder: the module in it that has the layers.
        kept: their places, ascending.
    """
    before = len(holder.layers)
    holder.layers = nn.ModuleList(holder.layers[place] for place in kept)
    for place, layer in enumerate(holder.layers):
        # What a cache knows the layer by.
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    sizes = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    for name in ("num_hidden_layers", "encoder_layers"):
        if getattr(sizes, name, None) == before:
            setattr(sizes, name, len(kept))
    # Models whose layers differ list what each of them is.
    kinds = getattr(sizes, "layer_types", None)
    if isinstance(kinds, list) and len(kinds) == before:
        sizes.layer_types = [kinds[place] for place in kept]
