"""Weights files turned into `.safetensors` once, so that they are mapped, not read, and can hold no code.

The source is a `.pth`, `.pt` or `.bin` file that `torch.load` reads with `weights_only=True` (a SALMONN checkpoint, a
BEATs file, a plain dict of tensors), or the folder of a model of transformers with `pytorch_model*.bin`. The tensors
are the same, compared bit by bit before the new file gets its name. A checkpoint keeps its configuration without token
and folders, its epoch and its step; what only training needs (optimizer, random states) is left out. A BEATs file keeps
its `cfg`.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig

from salmonn.config.recorded import recorded_config, recorded_tasks
from salmonn.errors import CheckpointError
from salmonn.weights.atomic_write import whole_file, whole_folder
from salmonn.weights.checkpoint import ALIASES, LAYOUT, LAYOUT_KEY, read_weights

logger = logging.getLogger(__name__)

SUFFIXES = (".pth", ".pt", ".bin")
MAPPED = ".safetensors"
# The names that transformers looks for.
OLD_FILE, OLD_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
NEW_FILE, NEW_INDEX = "model.safetensors", "model.safetensors.index.json"
# The table of the output layer, which is the one of the input in models that tie them.
HEAD = "lm_head.weight"


class Converted(NamedTuple):
    """One file that was written: where, from what, and both sizes in bytes."""

    path: Path
    source: Path
    size: int
    source_size: int


class _Content(NamedTuple):
    """What goes into one file: tensors with memory of their own, and notes."""

    tensors: dict[str, Tensor]
    notes: dict[str, str]

    def size(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def convert(source: Path, *, output: Path | None = None, force: bool = False) -> list[Converted]:
    """Write a weights file, or the weights of a folder, as `.safetensors`.

    Args:
        source: a `.pth`, `.pt` or `.bin` file, or a folder with `pytorch_model*.bin`.
        output: the file, or for a folder the new folder, to write; None for beside the source.
        force: replace what an earlier conversion wrote there.

    Returns:
        What was written; the source stays as it is.

    Raises:
        CheckpointError: the source cannot be converted, the target is there already or cannot be written.
    """
    if source.is_dir():
        return _convert_folder(source, output, force=force)
    if source.suffix == MAPPED:
        raise CheckpointError(f"{str(source)!r} is a {MAPPED} file already: nothing to convert")
    if source.is_file() and source.suffix not in SUFFIXES:
        raise CheckpointError(f"{str(source)!r} ends in none of {', '.join(SUFFIXES)}: it is not taken for weights")
    name = NEW_FILE if source.name == OLD_FILE else source.with_suffix(MAPPED).name
    target = output or source.with_name(name)
    if target.suffix != MAPPED:
        raise CheckpointError(f"{str(target)!r} must end in {MAPPED}: loaders go by the ending")
    _check_free(target, force=force)
    return [_write(_content(source, read_weights(source)), source, target)]


def _check_free(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise CheckpointError(f"{str(target)!r} is a folder: choose another --output")
    if target.exists() and not force:
        raise CheckpointError(f"{str(target)!r} exists: choose another --output, or --force to replace it")


def _content(source: Path, data: Mapping[str, Any]) -> _Content:
    """Tell the kinds of files apart by their entries."""
    if not isinstance(data.get("model"), Mapping):
        return _Content(_owned(_tensors_of(source, data)), {"format": "pt"})
    tensors, aliases = _without_aliases(_tensors_of(source, data["model"]))
    entries: dict[str, Any] = {"cfg": data["cfg"]} if isinstance(data.get("cfg"), Mapping) else _training_notes(data)
    left_out = sorted(str(key) for key in data if key not in (*entries, "model") and data[key] is not None)
    if left_out:
        logger.info("left out, as only training needs it: %s", ", ".join(left_out))
    if aliases:
        entries[ALIASES] = aliases
    try:
        notes = {key: json.dumps(value) for key, value in entries.items()}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{str(source)!r} has settings that cannot be kept as text: {error}") from error
    return _Content(_owned(tensors), {"format": "pt", LAYOUT_KEY: LAYOUT} | notes)


def _training_notes(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its training and may be passed on."""
    counters = {key: data[key] for key in ("epoch", "step") if isinstance(data.get(key), int)}
    recorded = recorded_config(data.get("config"))
    tasks = recorded_tasks(data.get("tasks"))
    return ({"config": recorded} if recorded else {}) | counters | ({"tasks": list(tasks)} if tasks else {})


def _tensors_of(source: Path, entries: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Take the entries as named plain tensors.

    Raises:
        CheckpointError: one is something else.
    """
    odd = [
        f"{name} ({type(value).__name__})"
        for name, value in entries.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
        or value.layout is not torch.strided
        or value.is_quantized
    ]
    if odd or not entries:
        found = f"holds entries that are not plain tensors: {', '.join(odd[:10])}" if odd else "holds no tensors"
        raise CheckpointError(f"{str(source)!r} {found}; it cannot be converted")
    return dict(entries)


def _without_aliases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Leave out names that mean the very tensor of an earlier name; returns tensors, and alias -> name."""
    first: dict[tuple[Any, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            known = first.setdefault(_place(tensor), name)
            if known != name:
                aliases[name] = known
    return {name: tensor for name, tensor in tensors.items() if name not in aliases}, aliases


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor memory of its own, laid out in order: the format knows neither views nor strides."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.nbytes
        plain = whole and storage.data_ptr() not in seen and not tensor.is_conj() and not tensor.is_neg()
        seen.add(storage.data_ptr())
        detached = tensor.detach()
        owned[name] = detached if plain else detached.resolve_conj().resolve_neg().contiguous().clone()
    return owned


def _write(content: _Content, source: Path, target: Path) -> Converted:
    """Write one file all or nothing, and compare it with what was to be written before it gets its name."""
    with whole_file(target, size=content.size()) as unfinished:
        save_file(content.tensors, unfinished, metadata=content.notes)
        _compare(content, unfinished, target)
    return Converted(target, source, target.stat().st_size, source.stat().st_size)


def _compare(content: _Content, written: Path, target: Path) -> None:
    with safe_open(written, framework="pt", device="cpu") as file:
        names: set[str] = set(file.keys())
        for name, tensor in content.tensors.items():
            again = file.get_tensor(name) if name in names else None
            # As bytes, because NaN is not equal to itself.
            if again is None or again.dtype != tensor.dtype or not torch.equal(_as_bytes(again), _as_bytes(tensor)):
                raise CheckpointError(f"{str(target)!r} was not written: {name} came back from the disk changed")


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _convert_folder(source: Path, output: Path | None, *, force: bool) -> list[Converted]:
    """Convert the weights of a folder of transformers: there, or into a new folder with everything else copied."""
    shards = _shards_of(source)
    if output is None:
        for name in [NEW_FILE, NEW_INDEX, *shards.values()]:
            _check_free(source / name, force=force)
        return _write_shards(source, source, shards)
    if output.exists():
        raise CheckpointError(f"{str(output)!r} exists: choose another --output (a folder is never replaced)")
    rest = [file for file in source.iterdir() if file.is_file() and not _is_weights(file)]
    size = sum((source / name).stat().st_size for name in shards)
    with whole_folder(output, size=size) as folder:
        for file in rest:
            shutil.copyfile(file, folder / file.name)
        written = _write_shards(source, folder, shards)
    return [done._replace(path=output / done.path.name) for done in written]


def _is_weights(file: Path) -> bool:
    return file.suffix in (*SUFFIXES, MAPPED, ".h5", ".msgpack") or file.name in (OLD_INDEX, NEW_INDEX)


def _shards_of(folder: Path) -> dict[str, str]:
    """Old file -> new file of a folder's weights.

    Raises:
        CheckpointError: there is nothing to convert, or a file is not there.
    """
    if (folder / OLD_INDEX).is_file():
        names = sorted(set(_weight_map(folder / OLD_INDEX).values()))
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise CheckpointError(f"{str(folder)!r} lacks {', '.join(absent)}, which {OLD_INDEX} names")
        return {name: name.replace("pytorch_model", "model").removesuffix(".bin") + MAPPED for name in names}
    if (folder / OLD_FILE).is_file():
        return {OLD_FILE: NEW_FILE}
    found = any(folder.glob(f"*{MAPPED}"))
    why = f"its weights are {MAPPED} already" if found else f"it holds neither {OLD_FILE} nor {OLD_INDEX}"
    raise CheckpointError(f"{str(folder)!r}: nothing to convert, {why}")


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> file name, of an index; file names that leave the folder are refused."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(file) for name, file in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{str(index)!r} cannot be read: {error}") from error
    outside = [file for file in names.values() if Path(file).name != file]
    if outside or not names:
        raise CheckpointError(f"{str(index)!r} names no weights of its folder")
    return names


def _write_shards(source: Path, target: Path, shards: Mapping[str, str]) -> list[Converted]:
    """Write file by file; the index, by which loaders find several files, comes last."""
    tied = _is_tied(source)
    places: dict[str, str] = {}
    done, total = [], 0
    for old, new in shards.items():
        tensors = _tensors_of(source / old, read_weights(source / old))
        kept = dict(_untied(tensors)) if tied else tensors
        content = _Content(_owned(kept), {"format": "pt"})
        done.append(_write(content, source / old, target / new))
        places |= dict.fromkeys(content.tensors, new)
        total += content.size()
    if list(shards.values()) != [NEW_FILE]:
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2, sort_keys=True)
        with whole_file(target / NEW_INDEX, size=len(text)) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
    return done


def _is_tied(folder: Path) -> bool:
    """Whether the folder's model makes its output layer from its input table by itself."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{str(folder)!r} is no folder of a model: {error}") from error
    return bool(getattr(config.get_text_config(), "tie_word_embeddings", False))


def _untied(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Leave out an output layer that is the very tensor of the input table."""
    places = [_place(tensor) for name, tensor in tensors.items() if name != HEAD]
    for name, tensor in tensors.items():
        if name != HEAD or _place(tensor) not in places:
            yield name, tensor
