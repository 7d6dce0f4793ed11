"""Why a checkpoint does not fit a configuration: the settings that are others than when it was trained.

The shapes of a file are compared with those of the configured parts, by released name; each cause is a (dotted key,
sentence). A difference that no setting explains is left to a list of names.
"""

import re
from collections.abc import Iterator, Mapping

from salmonn.config.schema import ModelConfig
from salmonn.weights.checkpoint import holds_language_model, is_own_weight

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_LORA_A = re.compile(r"llama_model\.(?P<place>.*)\.(?P<module>[^.]+)\.lora_A\.(?:default\.)?weight")
_LLM_LAYER = re.compile(r"llama_model\..*?\.layers\.(\d+)\.")
_EMBEDDING = "embed_tokens.weight"
_INNER = "speech_Qformer.bert.encoder.layer.0.intermediate_query.dense.bias"


def causes_of_misfit(held: Shapes, needed: Shapes, parts: ModelConfig) -> list[tuple[str, str]]:
    """Name the settings that give other names or shapes than the file has.

    Args:
        held: released name -> shape, of the file.
        needed: the same of the configured model.
        parts: section `model`.
    """
    if not held.keys() & needed.keys():
        return []
    return [
        *_adapter(held, needed, parts),
        *_language_model(held, needed),
        *_qformer(held, needed),
        *_encoders(held, needed),
    ]


def whole_beside_quantised(form: str) -> str:
    """What is told of a checkpoint with the language model's own weights where those are held in fewer bits."""
    return (
        f"holds the language model's own weights, which do not fit into weights that are {form}: "
        "python -m salmonn export --format merged makes a folder of them for model.llama_path"
    )


def _adapter(held: Shapes, needed: Shapes, parts: ModelConfig) -> Iterator[tuple[str, str]]:
    ranks, modules = _adapted(held)
    if not modules and _adapted(needed)[1]:
        yield "model.lora", "is True, and the file has no adapter"
    elif modules and not parts.lora:
        yield "model.lora", f"is False, and the file has an adapter of rank {_listed(ranks)} on {_listed(modules)}"
    elif modules:
        if ranks != {parts.lora_rank}:
            yield "model.lora_rank", f"is {parts.lora_rank}, and the file has rank {_listed(ranks)}"
        if modules != _adapted(needed)[1]:
            wanted = ", ".join(parts.lora_target_modules)
            yield "model.lora_target_modules", f"are {wanted}, and the file has adapters on {_listed(modules)}"


def _adapted(shapes: Shapes) -> tuple[set[int], set[str]]:
    """Ranks and module names of an adapter's tensors."""
    found = [(match["module"], shape) for name, shape in shapes.items() if (match := _LORA_A.fullmatch(name))]
    return {shape[0] for _, shape in found if shape}, {module for module, _ in found}


def _language_model(held: Shapes, needed: Shapes) -> Iterator[tuple[str, str]]:
    widths = [shapes["speech_llama_proj.bias"][0] for shapes in (needed, held) if shapes.get("speech_llama_proj.bias")]
    if len(widths) == 2 and widths[0] != widths[1]:
        yield "model.llama_path", f"has width {widths[0]}, and the file was trained with a model of width {widths[1]}"
        return
    layers = [len({m["place"] for name in shapes if (m := _LORA_A.fullmatch(name)) and m["module"] in common})
              for shapes in (needed, held) for common in [_adapted(needed)[1] & _adapted(held)[1]]]  # fmt: skip
    if all(layers) and layers[0] != layers[1]:
        yield "model.llama_path", f"has {layers[0]} places for adapters of these modules, and the file has {layers[1]}"
    if holds_language_model(held) and holds_language_model(needed):
        for what, count in (("layers", _layers_of), ("tokens", _tokens_of)):
            own, theirs = count(needed), count(held)
            if own != theirs:
                yield "model.llama_path", f"has {own} {what}, and the file's language model has {theirs}"


def _layers_of(shapes: Shapes) -> int:
    """Layers of a language model whose own weights are among the shapes."""
    return len({match[1] for name in shapes if is_own_weight(name) and (match := _LLM_LAYER.match(name))})


def _tokens_of(shapes: Shapes) -> int:
    """Rows of its embedding."""
    return sum(shape[0] for name, shape in shapes.items() if name.endswith(_EMBEDDING) and shape)


def _qformer(held: Shapes, needed: Shapes) -> Iterator[tuple[str, str]]:
    name = "speech_query_tokens"
    own, theirs = needed.get(name), held.get(name)
    if own is not None and theirs is not None and len(theirs) == len(own):
        if own[1] != theirs[1]:
            yield "model.num_speech_query_token", f"is {own[1]}, and the file has {theirs[1]}"
        if own[2] != theirs[2]:
            yield "model.qformer_path", f"gives a Q-Former of hidden size {own[2]}, and the file has one of {theirs[2]}"
            return
    inner = [shapes[_INNER][0] for shapes in (needed, held) if shapes.get(_INNER)]
    if len(inner) == 2 and inner[0] != inner[1]:
        yield (
            "model.qformer_path",
            f"gives a Q-Former of intermediate size {inner[0]}, and the file has one of {inner[1]}",
        )


def _encoders(held: Shapes, needed: Shapes) -> Iterator[tuple[str, str]]:
    for key, name, what in (
        ("model.whisper_path", "ln_speech.weight", "Whisper"),
        ("model.beats_path", "ln_audio.weight", "BEATs"),
    ):
        own, theirs = needed.get(name), held.get(name)
        if own == theirs:
            continue
        if own is None and theirs is not None:
            yield key, f'is "", and the file was trained with {what} of width {theirs[0]}'
        elif theirs is None and own is not None:
            yield key, f"names {what}, and the file was trained without it"
        elif own is not None and theirs is not None:
            yield key, f"has width {own[0]}, and the file was trained with {what} of width {theirs[0]}"


def _listed(values: set[int] | set[str]) -> str:
    return ", ".join(str(value) for value in sorted(values))
