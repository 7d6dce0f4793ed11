"""Writes a model without some layers or tokens as ordinary files: folders of transformers, a released checkpoint."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from salmonn.compress.layers import decoder_of, keep
from salmonn.compress.vocabulary import Vocabulary
from salmonn.errors import ConfigError
from salmonn.model.components import WHISPER_ENCODER, WhisperEncoderAlone
from salmonn.weights.atomic_write import whole_folder
from salmonn.weights.checkpoint import LLM_PREFIX, read_checkpoint, save_checkpoint
from salmonn.weights.hub import local_copy

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json", ".gguf")
# Older forms of a tokenizer, which would still have all tokens.
_OTHER_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
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


def write_small_vocabulary(source: str, vocabulary: Vocabulary, folder: Path, *, check: Callable[[Path], None]) -> None:
    """Write a language model with some of its tokens, their numbers as they are, and the tokenizer of these.

    Args:
        source: its folder, or its name on the hub.
        vocabulary: the tokens that stay.
        folder: what is written.
        check: looks at the written files before they get their place.

    Raises:
        ConfigError: the model has more that is counted by tokens than its embedding and its head.
    """
    path = Path(local_copy(source))
    llm: Any = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    _keep_tokens(llm, vocabulary.kept)
    for config in (llm.config, llm.config.get_text_config(), llm.generation_config):
        for name, entry in vars(config).items():
            if name.endswith("_token_id"):
                setattr(config, name, vocabulary.renumbered(entry))
    with _beside_its_files(llm, path, folder, without=_OTHER_TOKENIZERS) as unfinished:
        llm.save_pretrained(unfinished)
        (unfinished / "tokenizer.json").write_text(vocabulary.tokenizer, encoding="utf-8")
        settings = unfinished / "tokenizer_config.json"
        if settings.is_file():
            tree = json.loads(settings.read_text(encoding="utf-8"))
            # The same as in tokenizer.json, under the old ids.
            tree.pop("added_tokens_decoder", None)
            settings.write_text(json.dumps(tree, indent=2, ensure_ascii=False), encoding="utf-8")
        check(unfinished)


def _keep_tokens(llm: Any, kept: Sequence[int]) -> None:
    """Drop the rows of other tokens from the embedding and the head, which may be one tensor."""
    embedding, head = llm.get_input_embeddings(), llm.get_output_embeddings()
    rows = embedding.weight.shape[0]
    ours = {id(parameter) for module in (embedding, head) for parameter in module.parameters()}
    others = [name for name, p in llm.named_parameters() if id(p) not in ours and rows in p.shape]
    if others or kept[-1] >= rows:
        found = f"{others[0]} has a row for each token, too" if others else f"token {kept[-1]} has no row of {rows}"
        raise ConfigError("the vocabulary cannot be made smaller", [("compress.vocabulary", found)])
    chosen = torch.tensor(kept)
    tied = head.weight is embedding.weight
    embedding.weight = nn.Parameter(embedding.weight[chosen].detach().clone(), requires_grad=False)
    head.weight = embedding.weight if tied else nn.Parameter(head.weight[chosen].detach().clone(), requires_grad=False)
    if head.bias is not None:
        head.bias = nn.Parameter(head.bias[chosen].detach().clone(), requires_grad=False)
    llm.config.get_text_config().vocab_size = embedding.num_embeddings = head.out_features = len(kept)


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
def _beside_its_files(model: Any, source: Path, folder: Path, *, without: Sequence[str] = ()) -> Iterator[Path]:
    """Give a new folder that has the source's files but for the weights and their sizes."""
    with whole_folder(folder, size=sum(tensor.nbytes for tensor in model.parameters())) as unfinished:
        for file in source.iterdir():
            # Tokenizer, chat template, feature extractor, licence.
            if file.is_file() and not file.name.endswith(_WEIGHTS) and file.name not in ("config.json", *without):
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
