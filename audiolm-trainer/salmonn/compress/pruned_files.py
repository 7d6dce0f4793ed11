"""Writes a model without some layers as ordinary files: folders of transformers and a released-layout checkpoint."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from salmonn.compress.layers import decoder_of, keep
from salmonn.model.components import WHISPER_ENCODER, WhisperEncoderAlone
from salmonn.weights.atomic_write import whole_folder
from salmonn.weights.checkpoint import LLM_PREFIX, read_checkpoint, save_checkpoint
from salmonn.weights.hub import local_copy

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json", ".gguf")
_LAYER = re.compile(r"(\.layers\.)(\d+)(\.)")


def write_pruned_llm(source: str, kept: Sequence[int], folder: Path) -> None:
    """Write a language model with some of its layers, its numbers as they are, and its tokenizer.

    Args:
        source: its folder, or its name on the hub.
        kept: places of the layers that stay, ascending.
        folder: what is written.
    """
    path = Path(local_copy(source))
    llm: Any = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    keep(llm, decoder_of(llm), kept)
    with _beside_its_files(llm, path, folder) as unfinished:
        llm.save_pretrained(unfinished)


def write_pruned_whisper(source: str, kept: Sequence[int], folder: Path) -> None:
    """Write a Whisper encoder with some of its layers, and its feature extractor; see `write_pruned_llm`."""
    path = Path(local_copy(source))
    whisper: Any = WhisperEncoderAlone.from_pretrained(path, dtype="auto", key_mapping={WHISPER_ENCODER: ""})
    keep(whisper, whisper, kept)
    with _beside_its_files(whisper, path, folder) as unfinished:
        whisper.config.save_pretrained(unfinished)
        # transformers would undo the renaming that the file was read with, and has no name for its end.
        tensors = {f"encoder.{name}": tensor.contiguous() for name, tensor in whisper.state_dict().items()}
        save_file(tensors, unfinished / "model.safetensors", metadata={"format": "pt"})


@contextmanager
def _beside_its_files(model: Any, source: Path, folder: Path) -> Iterator[Path]:
    """Give a new folder that has the source's files but for the weights and their sizes."""
    with whole_folder(folder, size=sum(tensor.nbytes for tensor in model.parameters())) as unfinished:
        for file in source.iterdir():
            # Tokenizer, chat template, feature extractor, licence.
            if file.is_file() and not file.name.endswith(_WEIGHTS) and file.name != "config.json":
                shutil.copyfile(file, unfinished / file.name)
        yield unfinished


def write_pruned_checkpoint(source: Path, kept: Sequence[int], file: Path) -> None:
    """Write a checkpoint whose adapter has the layers that stay, numbered anew.

    Args:
        source: the checkpoint, in any of its forms.
        kept: places of the language model's layers that stay, ascending.
        file: what is written.
    """
    entries = read_checkpoint(source)
    notes = {key: entries[key] for key in ("config", "tasks") if key in entries}
    save_checkpoint(file, renumbered(entries["model"], kept), **notes)


def renumbered(tensors: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Tensor]:
    """Leave out the adapter's tensors of other layers, and count the rest from 0; all other tensors stay."""
    places = {old: new for new, old in enumerate(kept)}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _LAYER.search(name) if name.startswith(LLM_PREFIX) else None
        if match is None:
            found[name] = tensor
        elif int(match[2]) in places:
            found[_LAYER.sub(rf"\g<1>{places[int(match[2])]}\g<3>", name, count=1)] = tensor
    return found
