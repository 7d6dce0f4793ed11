"""Weights files: reading them safely, the released key names as one visible table, strict and reported loading.

The trained part of a SALMONN lies in a `.pth` dict whose "model" entry uses the original's key names; both the released
`salmonn_v1.pth` and the original trainer's `checkpoint_*.pth` are such files. It may also lie in a `.safetensors` file
with the same names, or in an exported folder (`export/export.py`). Nothing loads non-strictly: keys that are missing,
unexpected or misshapen are an error that names them, except for the entries that IGNORED lists.
"""

import errno
import json
import logging
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from salmonn.device import dtype_name
from salmonn.errors import CheckpointError
from salmonn.weights.atomic_write import whole_file
from salmonn.weights.exported_folder import ADAPTER_FILE, BRIDGE_FILE

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

_HEAD = (r"llama_model\..*lm_head\.weight", "alias of the frozen token embedding, with the added [PAD] row")
# Entries that files carry although they are not trained; each is safe to pass over for the reason given.
IGNORED: tuple[tuple[str, str], ...] = (
    (r"speech_Qformer\.bert\.embeddings\.position_ids", "a constant, 0..511"),
    (
        r"beats\.encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight",
        "alias of the frozen BEATs table",
    ),
    _HEAD,
    (r"llama_model\..*rotary_emb\.inv_freq", "a constant of transformers 4.28"),
)

LLM_PREFIX = "llama_model."
# First byte of a pickle of protocol 2 or later: how files of before 2020 begin.
PICKLE = b"\x80"
# Entry of a .safetensors file's metadata that says how the others are to be read.
LAYOUT_KEY, LAYOUT = "salmonn_layout", "1"
# The other entries, as JSON: what a checkpoint says of its training, and a BEATs file's sizes.
NOTES = ("config", "epoch", "step", "tasks", "cfg")
# Names that share another name's tensor, which the format cannot hold twice: {"alias": "name"}.
ALIASES = "aliases"

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
    """Read a weights file, memory-mapped, on the CPU: a `.pth`/`.pt` dict with `weights_only=True`, or `.safetensors`.

    Returns:
        The dict of the file. Of `.safetensors` the tensors are the entry "model", with what its notes hold beside it.

    Raises:
        CheckpointError: the file is missing, empty, truncated, a git-lfs pointer, not a weights file, or holds more
            than tensors and plain values.
    """
    head = _check_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch says of a file's age or pickle is no help to its user
            # Only zip files can be mapped; files of before 2020 are read.
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK") or None)
    except Exception as error:  # the pickle of a damaged file can fail in any of its steps
        raise CheckpointError(f"weights file {str(path)!r} {_why_unreadable(head, error)}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"weights file {str(path)!r} holds a {type(data).__name__}, not a dict")
    return data


def _why_unreadable(head: bytes, error: Exception) -> str:
    """Say in our words what is wrong with a file that `torch.load` cannot read, and what to do.

    PyTorch's own words speak of its insides and send people to its developers.
    """
    # A damaged file may send the reader to before its start: EINVAL.
    disk = isinstance(error, OSError) and error.errno != errno.EINVAL
    if disk or isinstance(error, MemoryError) or "unable to mmap" in str(error):
        return f"cannot be read: {str(error) or 'not enough memory'}"
    asked = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    plain = "is not a plain weights file, of tensors, numbers and strings only"
    if asked:
        return f"{plain}: it asks for {asked[1]}; save its state_dict alone"
    if head[8:9] == b"{":
        return f"{plain}: it looks like safetensors; give it the ending .safetensors"
    if head.startswith((b"PK", PICKLE)):
        return "is damaged or truncated, or was not written by torch.save: copy or download it again"
    return f"{plain}: it begins with {head[:8]!r}; name a file that torch.save wrote, or download it again"


def _check_file(path: Path) -> bytes:
    """Refuse what is not there or cannot be weights; return the first bytes."""
    if not path.is_file():
        raise CheckpointError(f"weights file {str(path)!r} does not exist")
    if path.stat().st_size == 0:
        raise CheckpointError(f"weights file {str(path)!r} is empty: download it again")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"weights file {str(path)!r} cannot be read: {error.strerror}") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"weights file {str(path)!r} is a git-lfs pointer: run git lfs pull")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise CheckpointError(f"weights file {str(path)!r} is a web page, not weights: download it again")
    return head


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the trained part of a SALMONN in any of its forms.

    Args:
        path: a `.pth` file; a `.safetensors` file with the released names; an exported folder, or the file
            `adapter_model.safetensors` in it, which stands for the adapter and the bridge beside it.

    Returns:
        "model": released names (as the file spells them) -> tensors, and the file's further entries.

    Raises:
        CheckpointError: a file is missing, damaged or holds no trained part.
    """
    file = path
    if path.is_dir():
        adapter = path / ADAPTER_FILE
        file = adapter if adapter.is_file() else path / BRIDGE_FILE
    if file.name == ADAPTER_FILE:
        adapted = read_weights(file)["model"]
        data = read_weights(file.with_name(BRIDGE_FILE))
        data["model"] |= {f"{LLM_PREFIX}{name}": tensor for name, tensor in adapted.items()}
        return data
    data = read_weights(file)
    if not isinstance(data.get("model"), dict):
        raise CheckpointError(f"{str(file)!r} has no 'model' entry; found the entries {sorted(map(str, data))[:10]}")
    check_tensors(data["model"], file)
    return data


def check_tensors(entry: Mapping[Any, Any], path: Path) -> None:
    """Make sure that an entry of a weights file holds nothing but named tensors.

    Raises:
        CheckpointError: naming what is none.
    """
    wrong = [str(key) for key, value in entry.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if wrong:
        raise CheckpointError(f"{str(path)!r} holds entries that are no named tensors:{_listing(wrong)}")


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Map tensors as the entry "model"; the notes too, where this package wrote the file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            data: dict[str, Any] = {"model": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
            notes: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"weights file {str(path)!r} is damaged or truncated, or is no safetensors: copy or download it again "
            f"({error})"
        ) from error
    layout = notes.get(LAYOUT_KEY, LAYOUT)
    if layout != LAYOUT:
        raise CheckpointError(f"{str(path)!r} has layout {layout!r}, this version reads {LAYOUT!r}: update salmonn")
    if LAYOUT_KEY in notes:
        try:
            data |= {key: json.loads(text) for key, text in notes.items() if key in NOTES}
            aliases: dict[str, str] = json.loads(notes.get(ALIASES, "{}"))
            data["model"] |= {alias: data["model"][name] for alias, name in aliases.items()}
        except json.JSONDecodeError as error:
            raise CheckpointError(f"weights file {str(path)!r} is damaged: its notes are not JSON: {error}") from error
        except (AttributeError, KeyError, TypeError) as error:
            raise CheckpointError(f"weights file {str(path)!r} is damaged: its aliases name no tensors") from error
    return data


def is_own_weight(name: str, *, prefix: str = LLM_PREFIX) -> bool:
    """Whether a name is of one of the language model's own weights, and not of an adapter beside them."""
    return name.startswith(prefix) and ".lora_" not in name


def holds_language_model(names: Iterable[str]) -> bool:
    """Whether a checkpoint, by its released names, holds the language model's own weights: they were trained."""
    return any(is_own_weight(name) and not _matches(name, IGNORED) for name in names)


def trained_part(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what a file carries although it is not trained; released names -> tensors, in the one spelling."""
    # Beside the language model's other weights its head is what was trained.
    ignored = [row for row in IGNORED if row is not _HEAD] if holds_language_model(model) else IGNORED
    return {released_name(our_name(key)): value for key, value in model.items() if not _matches(key, ignored)}


def fill_from_checkpoint(model: Mapping[str, Tensor], trained: Mapping[str, Tensor], *, source: str) -> None:
    """Copy the trained part of a SALMONN from a checkpoint's tensors into the model.

    Args:
        model: the entry "model" of what `read_checkpoint` reads.
        trained: our names -> the parameters that the file must hold, all of them and no other.
        source: the file, for messages.

    Raises:
        CheckpointError: naming every key that is missing, unexpected or of another shape.
    """
    state = {our_name(key): value for key, value in trained_part(model).items()}
    copy_strictly(state, trained, source=source, rename=released_name)
    report("SALMONN (trained part)", source, trained.values())


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
    check_fit(state, target, source=source, rename=rename)
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(state[name])


def check_fit(
    state: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    *,
    source: str,
    rename: Callable[[str], str] = str,
) -> None:
    """Compare names and shapes without copying; arguments as those of `copy_strictly`.

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


def beats_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the encoder's weights of the "model" entry of a BEATs file, under our names."""
    return {
        _replace_prefix(key, BEATS_KEY_TABLE): value for key, value in state.items() if not _matches(key, BEATS_IGNORED)
    }


def assign_beats_weights(
    path: Path, state: Mapping[str, Tensor], module: nn.Module, *, device: torch.device, dtype: torch.dtype
) -> None:
    """Make the "model" entry of a BEATs file the encoder's weights, strictly, with the names of BEATS_KEY_TABLE.

    A tensor that has the device and the dtype already becomes the weight as it is, mapped from its file.
    """
    kept = beats_state(state)
    check_fit(kept, module.state_dict(), source=str(path))
    placed = {name: tensor.to(device=device, dtype=dtype).contiguous() for name, tensor in kept.items()}
    module.load_state_dict(placed, assign=True)


def save_checkpoint(path: Path, trained: Mapping[str, Tensor], **extra: Any) -> None:
    """Write the trained part in the released layout, all or nothing.

    Args:
        path: the file to write; an existing one is replaced only when the new one is complete.
        trained: released names -> tensors.
        extra: further entries, plain values and tensors only ("epoch", "config" without secrets).

    Raises:
        CheckpointError: the file cannot be written, for example because the disk is full; the old one is unharmed.
    """
    data = {"model": {key: value.detach().cpu() for key, value in trained.items()}, **extra}
    with whole_file(path, size=_bytes_of(data)) as unfinished, unfinished.open("wb") as file:
        torch.save(data, file)


def _bytes_of(value: object) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(_bytes_of(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes_of(item) for item in value)
    return 0


def report(what: str, source: str, tensors: Iterable[Tensor]) -> None:
    """Log what was loaded from where, its dtype and size."""
    counted = list(tensors)
    numbers = sum(tensor.numel() for tensor in counted)
    size = sum(tensor.nbytes for tensor in counted)
    dtypes = "/".join(sorted({dtype_name(tensor.dtype) for tensor in counted}))
    logger.info("loaded %s from %s: %s numbers, %s, %.1f MB", what, source, f"{numbers:,}", dtypes, size / 1e6)


def _matches(key: str, patterns: Iterable[tuple[str, str]]) -> bool:
    return any(re.fullmatch(pattern, key) for pattern, _ in patterns)


def _listing(names: list[str], shown: int = 12) -> str:
    """Name the first keys, a line each, and count the rest."""
    more = [f"and {len(names) - shown} more"] if len(names) > shown else []
    return "".join(f"\n    {name}" for name in [*names[:shown], *more])
