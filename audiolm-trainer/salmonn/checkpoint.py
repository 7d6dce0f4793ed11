"""Weights files: reading them safely, the released key names as one visible table, strict and reported loading.

The trained part of a SALMONN lies in a `.pth` dict whose "model" entry uses the original's key names; both the released
`salmonn_v1.pth` and the original trainer's `checkpoint_*.pth` are such files. Nothing loads non-strictly: keys that are
missing, unexpected or misshapen are an error that names them, except for the entries that IGNORED lists.
"""

import logging
import os
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salmonn.errors import CheckpointError

logger = logging.getLogger(__name__)

# Released name (a prefix) -> ours. The first matching row counts.
KEY_TABLE: tuple[tuple[str, str], ...] = (
    ("speech_query_tokens", "speech_encoder.query_tokens"),
    ("ln_speech.", "speech_encoder.ln_speech."),
    ("ln_audio.", "speech_encoder.ln_audio."),
    ("speech_llama_proj.", "speech_encoder.projection."),
    ("speech_Qformer.bert.embeddings.LayerNorm.", "speech_encoder.qformer.layernorm."),
    ("speech_Qformer.bert.", "speech_encoder.qformer."),
    ("llama_model.", "llm."),
)
# Inside the Q-Former BERT's attention is called `self`, transformers' Blip2QFormerModel calls it `attention`.
RELEASED_ATTENTION, OUR_ATTENTION = "attention.self.", "attention.attention."

# Entries that files carry although they are not trained; each is safe to pass over for the reason given.
IGNORED: tuple[tuple[str, str], ...] = (
    (r"speech_Qformer\.bert\.embeddings\.position_ids", "a constant, 0..511"),
    (
        r"beats\.encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight",
        "alias of the frozen BEATs table",
    ),
    (r"llama_model\..*lm_head\.weight", "alias of the frozen token embedding, with the added [PAD] row"),
    (r"llama_model\..*rotary_emb\.inv_freq", "a constant of transformers 4.28"),
)

BEATS_KEY_TABLE: tuple[tuple[str, str], ...] = (
    ("encoder.layers.0.self_attn.relative_attention_bias.", "encoder.relative_attention_bias."),
    ("encoder.pos_conv.0.", "encoder.pos_conv."),
)
BEATS_IGNORED: tuple[tuple[str, str], ...] = (
    (r"predictor\..*", "the AudioSet classifier of fine-tuned files"),
    (r"encoder\.layers\.[1-9]\d*\.self_attn\.relative_attention_bias\.weight", "alias of layer 0's table"),
)


def our_name(released: str) -> str:
    """Translate one released key: "speech_llama_proj.bias" -> "speech_encoder.projection.bias".

    LoRA keys are accepted with and without the adapter's name ("lora_A.default.weight", "lora_A.weight").
    """
    name = _replace_prefix(released, KEY_TABLE)
    if name.startswith("speech_encoder.qformer."):
        name = name.replace(RELEASED_ATTENTION, OUR_ATTENTION)
    return re.sub(r"\.lora_([AB])\.weight$", r".lora_\1.default.weight", name)


def released_name(ours: str) -> str:
    """Translate one of our trained names back: the inverse of `our_name`."""
    name = _replace_prefix(ours, tuple((own, released) for released, own in KEY_TABLE))
    if name.startswith("speech_Qformer."):
        name = name.replace(OUR_ATTENTION, RELEASED_ATTENTION)
    return name


def _replace_prefix(name: str, table: Iterable[tuple[str, str]]) -> str:
    for old, new in table:
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def read_weights(path: Path) -> dict[str, Any]:
    """Read a `.pth`/`.pt` dict with `weights_only=True`, memory-mapped, on the CPU.

    Raises:
        CheckpointError: the file is missing, empty, truncated, a git-lfs pointer, not a weights file, or holds more
            than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"weights file {str(path)!r} does not exist")
    if path.stat().st_size == 0:
        raise CheckpointError(f"weights file {str(path)!r} is empty: download it again")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"weights file {str(path)!r} is a git-lfs pointer: run git lfs pull")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise CheckpointError(f"weights file {str(path)!r} is a web page, not weights: download it again")
    try:
        # Only zip files can be mapped; files of before 2020 are read.
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK") or None)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"weights file {str(path)!r} is not a plain weights file (tensors, numbers and strings only): {error}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"weights file {str(path)!r} is damaged or truncated: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"weights file {str(path)!r} holds a {type(data).__name__}, not a dict")
    return data


def load_checkpoint(path: Path, trained: Mapping[str, Tensor]) -> None:
    """Copy the trained part of a SALMONN from a file into the model.

    Args:
        path: the file; its "model" entry holds the released names.
        trained: our names -> the parameters that the file must hold, all of them and no other.

    Raises:
        CheckpointError: naming every key that is missing, unexpected or of another shape.
    """
    data = read_weights(path)
    if not isinstance(data.get("model"), dict):
        raise CheckpointError(f"{str(path)!r} has no 'model' entry; found the entries {sorted(map(str, data))[:10]}")
    state = {our_name(key): value for key, value in data["model"].items() if not _matches(key, IGNORED)}
    copy_strictly(state, trained, source=str(path), rename=released_name)
    report("SALMONN (trained part)", str(path), trained.values())


def copy_strictly(
    state: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    *,
    source: str,
    rename: Callable[[str], str] = str,
) -> None:
    """Copy `state` into `target`; any difference of names or shapes is an error that lists it.

    Args:
        state: name -> tensor read from a file.
        target: name -> parameter or buffer to fill, in place.
        source: the file, for the message.
        rename: our name -> the name the file uses, for the message.

    Raises:
        CheckpointError: naming every key that is missing, unexpected or of another shape.
    """
    missing = [rename(name) for name in target if name not in state]
    unexpected = [rename(name) for name in state if name not in target]
    misshapen = [
        f"{rename(name)}: {list(state[name].shape)} in the file, {list(target[name].shape)} in the model"
        for name in target
        if name in state and state[name].shape != target[name].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    lines = [f"  {what} ({len(names)}):{_listing(names)}" for what, names in found.items() if names]
    if lines:
        nothing = " No key matches: is this the right file?" if len(missing) == len(target) else ""
        raise CheckpointError("\n".join([f"{source!r} does not fit the model.{nothing}", *lines]))
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(state[name])


def load_beats_weights(path: Path, state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Copy the "model" entry of a BEATs file into the encoder, strictly, with the names of BEATS_KEY_TABLE."""
    kept = {
        _replace_prefix(key, BEATS_KEY_TABLE): value for key, value in state.items() if not _matches(key, BEATS_IGNORED)
    }
    copy_strictly(kept, module.state_dict(), source=str(path))


def save_checkpoint(path: Path, trained: Mapping[str, Tensor], **extra: Any) -> None:
    """Write the trained part in the released layout, atomically.

    Args:
        path: the file to write; an existing one is replaced only when the new one is complete.
        trained: released names -> tensors.
        extra: further entries, plain values and tensors only ("epoch", "config" without secrets).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            torch.save({"model": {key: value.detach().cpu() for key, value in trained.items()}, **extra}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def report(what: str, source: str, tensors: Iterable[Tensor]) -> None:
    """Log what was loaded from where, its dtype and size."""
    counted = list(tensors)
    numbers = sum(tensor.numel() for tensor in counted)
    size = sum(tensor.numel() * tensor.element_size() for tensor in counted)
    dtypes = "/".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in counted}))
    logger.info("loaded %s from %s: %s numbers, %s, %.1f MB", what, source, f"{numbers:,}", dtypes, size / 1e6)


def _matches(key: str, patterns: Iterable[tuple[str, str]]) -> bool:
    return any(re.fullmatch(pattern, key) for pattern, _ in patterns)


def _listing(names: list[str], shown: int = 12) -> str:
    """Name the first keys, a line each, and count the rest."""
    more = [f"and {len(names) - shown} more"] if len(names) > shown else []
    return "".join(f"\n    {name}" for name in [*names[:shown], *more])
