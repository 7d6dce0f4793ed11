"""The configured model without its weights: every parameter has its name and shape, none has a value.

A SALMONN on PyTorch's meta device is built from a configuration, with the sizes of the parts' own `config.json` (BEATs:
the `cfg` of its file), or from a table of known architectures where a hub name is not on this machine. It costs no
memory and under a second, and answers what a checkpoint must hold, what is trained and how large everything is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.config.schema import Config, ModelConfig
from salmonn.errors import CheckpointError
from salmonn.model.assembly import build_speech_encoder
from salmonn.model.audio_encoder import build_audio_encoder
from salmonn.model.beats import BEATs, BEATsConfig
from salmonn.model.components import add_lora, lora_config, read_beats
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import SpeechEncoder
from salmonn.model.tiny import byte_tokenizer
from salmonn.weights.hub import local_copy


def _llama(width: int, layers: int, heads: int, kv_heads: int, inner: int, vocabulary: int, tied: bool) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )


def _whisper(width: int, layers: int, heads: int, mel_bins: int = 80) -> WhisperConfig:
    return WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        num_mel_bins=mel_bins,
    )


# Architecture numbers as the models' own config.json has them; only what gives names and shapes.
_VICUNA_7B = (4096, 32, 32, 32, 11008, 32000, False)
_VICUNA_13B = (5120, 40, 40, 40, 13824, 32000, False)
_LLAMA_1B = (2048, 16, 32, 8, 8192, 128256, True)
_LLAMA_3B = (3072, 28, 24, 8, 8192, 128256, True)
_LLAMA_8B = (4096, 32, 32, 8, 14336, 128256, False)
KNOWN_LLMS: Mapping[str, tuple[int, int, int, int, int, int, bool]] = {
    "meta-llama/Llama-3.2-1B": _LLAMA_1B,
    "meta-llama/Llama-3.2-1B-Instruct": _LLAMA_1B,
    "meta-llama/Llama-3.2-3B": _LLAMA_3B,
    "meta-llama/Llama-3.2-3B-Instruct": _LLAMA_3B,
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "lmsys/vicuna-7b-v1.1": _VICUNA_7B,
    "lmsys/vicuna-7b-v1.5": _VICUNA_7B,
    "lmsys/vicuna-13b-v1.1": _VICUNA_13B,
    "lmsys/vicuna-13b-v1.5": _VICUNA_13B,
}
KNOWN_WHISPERS: Mapping[str, tuple[int, int, int] | tuple[int, int, int, int]] = {
    "openai/whisper-tiny": (384, 4, 6),
    "openai/whisper-base": (512, 6, 8),
    "openai/whisper-small": (768, 12, 12),
    "openai/whisper-medium": (1024, 24, 16),
    "openai/whisper-large": (1280, 32, 20),
    "openai/whisper-large-v2": (1280, 32, 20),
    "openai/whisper-large-v3": (1280, 32, 20, 128),
}
# The released BEATs_iter3+ files, for when the configured one is not here yet.
RELEASED_BEATS = BEATsConfig(
    input_patch_size=16, deep_norm=True, relative_position_embedding=True, gru_rel_pos=True, max_distance=800
)


def build_meta_model(config: Config, *, offline: bool) -> SALMONN:
    """Build the configured model without weights.

    Args:
        config: a configuration.
        offline: ask the hub for nothing; a hub name must be in the cache or in the table of known models, and a BEATs
            file that is not here counts as a released one.

    Raises:
        CheckpointError: a part's sizes cannot be known; the message says which.
    """
    parts = config.model
    sizes = llm_sizes(parts.llama_path, token=config.token, offline=offline)
    with torch.device("meta"):
        llm: PreTrainedModel = AutoModelForCausalLM.from_config(sizes)  # type: ignore[no-untyped-call]
        encoder = _speech_encoder(parts, llm.config.hidden_size, token=config.token, offline=offline)
        llm.requires_grad_(False)
        if parts.lora:
            llm = add_lora(llm, lora_config(parts))
    return SALMONN(
        speech_encoder=encoder,
        llm=llm,
        tokenizer=byte_tokenizer(parts.end_sym),
        end_sym=parts.end_sym,
        max_txt_len=parts.max_txt_len,
    )


def _speech_encoder(parts: ModelConfig, output_width: int, *, token: str | None, offline: bool) -> SpeechEncoder:
    whisper = WhisperEncoder(whisper_sizes(parts.whisper_path, token=token, offline=offline))
    beats: nn.Module | None = BEATs(beats_config(parts.beats_file, assume=offline)) if parts.beats_file else None
    with torch.device("cpu"):
        if parts.audio_class:
            beats = build_audio_encoder(parts.audio_class, parts.audio_encoder_path, weights=False)
        # The extractor computes its filters in numpy; nothing of it is a parameter.
        extractor = WhisperFeatureExtractor()  # type: ignore[no-untyped-call]
    return build_speech_encoder(parts, whisper=whisper, beats=beats, extractor=extractor, output_width=output_width)


def beats_config(path: str, *, assume: bool) -> BEATsConfig:
    """Read the sizes of a BEATs file; the released files' where it is not here and `assume` is True.

    Raises:
        CheckpointError: the file is no BEATs file, or is missing.
    """
    if assume and not Path(path).is_file():
        return RELEASED_BEATS
    return read_beats(Path(path))[0]


def llm_sizes(path: str, *, token: str | None, offline: bool) -> PreTrainedConfig:
    """Read the sizes of a language model.

    Raises:
        CheckpointError: they cannot be known.
    """
    known = KNOWN_LLMS.get(path)
    return _own_config(path, _llama(*known) if known else None, "language model", token=token, offline=offline)


def whisper_sizes(path: str, *, token: str | None, offline: bool) -> WhisperConfig:
    """Read the sizes of a Whisper.

    Raises:
        CheckpointError: they cannot be known, or are those of another model.
    """
    known = KNOWN_WHISPERS.get(path)
    sizes = _own_config(path, _whisper(*known) if known else None, "Whisper", token=token, offline=offline)
    if not isinstance(sizes, WhisperConfig):
        raise CheckpointError(f"{path!r} is a {sizes.model_type!r}, not a Whisper")
    return sizes


def _own_config(
    path: str, known: PreTrainedConfig | None, what: str, *, token: str | None, offline: bool
) -> PreTrainedConfig:
    """A folder's `config.json`, a hub name's from the table, the cache or (not offline) the hub, in this order."""
    folder = local_copy(path)
    here = Path(folder).is_dir()
    if known is not None and not here:
        return known
    extra: dict[str, Any] = {"local_files_only": True} if here or offline else {"token": token}
    try:
        sizes: PreTrainedConfig = AutoConfig.from_pretrained(folder, **extra)
    except Exception as error:  # transformers raises whatever its reading of a file comes to
        why = "it is not on this machine" if offline and not here else str(error)
        raise CheckpointError(f"the sizes of the {what} {path!r} cannot be known: {why}") from error
    return sizes
