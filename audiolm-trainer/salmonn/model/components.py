"""Loading the pretrained parts: Whisper's encoder, BEATs, the language model and its tokenizer, the Q-Former's sizes.

Each loader reads one folder or file, checks that every weight was found, puts it on the target device in the target
dtype without a second copy, and logs what was loaded from where. Folders may be local or names on the hub.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Blip2QFormerConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    WhisperFeatureExtractor,
)
from transformers.activations import ACT2FN
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils.logging import disable_progress_bar

from salmonn.config.schema import ModelConfig
from salmonn.errors import CheckpointError
from salmonn.model.beats import BEATs, BEATsConfig
from salmonn.quantization.kinds import NO_KIND, transformers_settings
from salmonn.quantization.layers import count_numbers, packed_tensors, quantised_layers, tensor_bytes
from salmonn.weights.checkpoint import assign_beats_weights, check_tensors, read_weights, report
from salmonn.weights.hub import local_copy

if TYPE_CHECKING:
    from peft import LoraConfig

logger = logging.getLogger(__name__)

ModuleT = TypeVar("ModuleT", bound=nn.Module)

TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
"""Where a tokenizer's special tokens are named."""

QFORMER_LAYERS = 2
# The sizes of bert-base-uncased, which the original asks the hub for.
BERT_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}


# What Whisper's files call the encoder's weights, in both forms that they come in.
WHISPER_ENCODER = r"^(?:model\.)?encoder\."


class WhisperEncoderAlone(WhisperEncoder):  # type: ignore[no-untyped-call]
    """Whisper's encoder, loaded from a file of the whole model: the decoder's weights are not even read."""

    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?decoder\.", r"^proj_out\."]  # noqa: RUF012 - transformers' own


def load_front_end_extractor(path: str, token: str | None) -> WhisperFeatureExtractor:
    """Whisper's feature extractor of a model folder."""
    try:
        return WhisperFeatureExtractor.from_pretrained(local_copy(path), token=token)
    except Exception as error:  # transformers raises whatever its reading of a file comes to
        raise CheckpointError(f"no Whisper feature extractor in {path!r}: {_reason(error)}") from error


def load_whisper_encoder(
    path: str, *, device: torch.device, dtype: torch.dtype, token: str | None, kind: str = NO_KIND
) -> WhisperEncoder:
    """The frozen encoder of a Whisper folder, quantised by `kind`; the decoder's weights stay on the disk.

    Raises:
        CheckpointError: the folder cannot be read or lacks weights of the encoder.
    """
    encoder: WhisperEncoder = _from_pretrained(
        WhisperEncoderAlone, path, device=device, dtype=dtype, token=token, kind=kind, key_mapping={WHISPER_ENCODER: ""}
    )
    _report("Whisper encoder", path, encoder)
    return _freeze(encoder)


def read_beats(path: Path) -> tuple[BEATsConfig, dict[str, Tensor]]:
    """Read the sizes and the weights, mapped, of a BEATs file.

    Raises:
        CheckpointError: the file cannot be read or is no BEATs file.
    """
    data = read_weights(path)
    if not isinstance(data.get("cfg"), dict) or not isinstance(data.get("model"), dict):
        raise CheckpointError(f"{str(path)!r} is no BEATs file: it needs the entries 'cfg' and 'model'")
    check_tensors(data["model"], path)
    try:
        return BEATsConfig.from_file(data["cfg"]), data["model"]
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r}: {error}") from error


def load_beats(path: Path, *, device: torch.device, dtype: torch.dtype) -> BEATs:
    """The frozen BEATs encoder of a released file, `{'cfg': dict, 'model': state_dict}`, or of one that was converted.

    Where device and dtype are the file's own, the weights stay mapped and take no memory of their own.

    Raises:
        CheckpointError: the file cannot be read, is no BEATs file or does not fit its own `cfg`.
    """
    config, state = read_beats(path)
    with torch.device("meta"):
        beats = BEATs(config)
    assign_beats_weights(path, state, beats, device=device, dtype=dtype)
    report("BEATs", str(path), beats.parameters())
    return _freeze(beats)


def load_llm(
    path: str, *, device: torch.device, dtype: torch.dtype, token: str | None, kind: str = NO_KIND
) -> PreTrainedModel:
    """The frozen causal language model of a folder, quantised by `kind`, or as the folder is quantised already.

    Raises:
        CheckpointError: the folder cannot be read or lacks weights.
    """
    llm: PreTrainedModel = _from_pretrained(
        AutoModelForCausalLM, path, device=device, dtype=dtype, token=token, kind=kind
    )
    _report(type(llm).__name__, path, llm)
    return _freeze(llm)


def load_tokenizer(path: str, token: str | None, *, local_only: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a language model's folder, from `tokenizer.json` or a sentencepiece `tokenizer.model`.

    Args:
        path: the folder, or a name on the hub.
        token: for the hub.
        local_only: ask the hub for nothing.

    Raises:
        CheckpointError: the folder holds no tokenizer that can be read, or one whose beginning, end or unknown token
            is an empty text.
    """
    for name in TOKENIZER_FILES:
        empty = _empty_special_tokens(Path(local_copy(path)) / name)
        if empty:
            raise CheckpointError(
                f"{name} of {path!r} has empty special tokens ({', '.join(empty)}): "
                'write the tokens of its vocabulary there, for example "<s>", "</s>" and "<unk>"'
            )
    try:
        return AutoTokenizer.from_pretrained(local_copy(path), token=token, local_files_only=local_only)
    except Exception as error:  # transformers raises whatever its reading of a file comes to
        raise CheckpointError(f"no tokenizer can be read from {path!r}: {_reason(error)}") from error


def _empty_special_tokens(file: Path) -> list[str]:
    """Name the special tokens that a file of a tokenizer leaves empty; none where it is not there."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        # What is wrong with it is reported by the library that reads it next.
        return []
    named = {name: read.get(name) for name in ("bos_token", "eos_token", "unk_token")} if isinstance(read, dict) else {}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in named.items()}
    return [name for name, text in texts.items() if text == ""]


def lora_config(parts: ModelConfig, **further: Any) -> "LoraConfig":
    """The adapter that a configuration describes, in peft's words; `further` are more of peft's settings."""
    # Here, because a model without an adapter needs no peft.
    from peft import LoraConfig

    return LoraConfig(
        r=parts.lora_rank,
        lora_alpha=parts.lora_alpha,
        lora_dropout=parts.lora_dropout,
        target_modules=list(parts.lora_target_modules),
        task_type="CAUSAL_LM",
        **further,
    )


def add_lora(llm: PreTrainedModel, config: "LoraConfig", *, drawn: bool = True) -> PreTrainedModel:
    """Wrap a language model with a LoRA adapter (peft), float32 whatever the dtype below.

    Args:
        llm: a plain language model.
        config: the adapter.
        drawn: whether the adapter gets its random initial values; False where all of them are loaded next.

    Raises:
        CheckpointError: no module of the model has one of the names.
    """
    from peft import get_peft_model

    try:
        with warnings.catch_warnings():
            # peft asks transformers for an attribute under its old name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            # Merging is refused for quantised weights: it would round them anew.
            warnings.filterwarnings("ignore", message=".*without `get_apply_tensor_subclass`")
            wrapped: Any = get_peft_model(llm, config, autocast_adapter_dtype=True, low_cpu_mem_usage=not drawn)
    except ValueError as error:
        names = sorted(config.target_modules or ())
        raise CheckpointError(f"model.lora_target_modules {names} do not fit: {error}") from error
    if not drawn:
        give_memory(wrapped, llm.device)
    # peft's wrapper passes on everything that is used of the model it wraps.
    adapted: PreTrainedModel = wrapped
    return adapted


def give_memory(module: nn.Module, device: torch.device) -> None:
    """Give parameters that were built without values (on the device "meta") memory, which holds anything as yet."""
    for part in module.modules():
        if any(parameter.is_meta for parameter in part.parameters(recurse=False)):
            part.to_empty(device=device, recurse=False)


def qformer_config(path: str, *, encoder_width: int) -> Blip2QFormerConfig:
    """Sizes of the two-layer Q-Former: BERT-base's, or those of a BERT-style `config.json`.

    Args:
        path: "" for BERT-base; else a folder with `config.json`, or such a file.
        encoder_width: width of the windows, Dw + Db.

    Raises:
        CheckpointError: the file is missing, is not JSON or lacks a size.
    """
    sizes = dict(BERT_BASE)
    if path:
        file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"model.qformer_path: {str(file)!r} cannot be read: {error}") from error
        problems = _qformer_problems(read)
        if problems:
            raise CheckpointError(f"model.qformer_path: {str(file)!r} {'; '.join(problems)}")
        sizes |= {key: read[key] for key in sizes if key in read}
    return Blip2QFormerConfig(
        **sizes,
        num_hidden_layers=QFORMER_LAYERS,
        encoder_hidden_size=encoder_width,
        cross_attention_frequency=1,
        use_qformer_text_input=False,
    )


def _qformer_problems(read: object) -> list[str]:
    """List what is wrong with the sizes of a BERT-style `config.json`."""
    if not isinstance(read, dict):
        return [f"must hold an object with hidden_size and so on (found {read!r})"]
    needed = ("hidden_size", "num_attention_heads", "intermediate_size")
    missing = [key for key in needed if key not in read]
    if missing:
        return [f"lacks {', '.join(missing)}"]
    wrong = [f"{key} must be a whole number above 0, not {read[key]!r}" for key in needed
             if type(read[key]) is not int or read[key] < 1]  # fmt: skip
    if not wrong and read["hidden_size"] % read["num_attention_heads"]:
        wrong.append("hidden_size must be a multiple of num_attention_heads")
    numbers = [key for key, value in BERT_BASE.items() if isinstance(value, float) and key in read]
    wrong += [f"{key} must be a number from 0 to 1, not {read[key]!r}" for key in numbers
              if type(read[key]) not in (int, float) or not 0 <= read[key] <= 1]  # fmt: skip
    if read.get("hidden_act", "gelu") not in list(ACT2FN):
        wrong.append(f"hidden_act {read['hidden_act']!r} is not known")
    return wrong


def _reason(error: Exception) -> str:
    """An error of a library; one that says little by itself is named."""
    return str(error) if isinstance(error, (OSError, ValueError, ImportError)) else f"{type(error).__name__}: {error}"


def _report(what: str, path: str, model: nn.Module) -> None:
    """Log what was loaded; of a quantised model what it takes in memory."""
    layers = quantised_layers(model)
    if not layers:
        report(what, path, model.parameters())
        return
    numbers, size = count_numbers(model.parameters()), tensor_bytes(packed_tensors(model))
    logger.info("loaded %s from %s: %s numbers, %.1f MB, %d layers quantised", what, path, f"{numbers:,}", size / 1e6,
                len(layers))  # fmt: skip


def _from_pretrained(
    factory: Any,
    path: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    token: str | None,
    kind: str,
    **names: dict[str, str],
) -> Any:
    """transformers' loading, made strict; `names` may hold its `key_mapping` from the file's names to the model's."""
    quantised = {} if kind == NO_KIND else {"quantization_config": transformers_settings(kind, dtype)}
    if not sys.stderr.isatty():
        # A progress bar belongs on a terminal; in a log file it is noise.
        disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, info = factory.from_pretrained(
            local_copy(path),
            dtype=dtype,
            device_map={"": device},
            token=token,
            output_loading_info=True,
            **quantised,
            **names,
        )
    except Exception as error:  # transformers raises whatever its reading of a file comes to
        raise CheckpointError(f"no {factory.__name__} can be loaded from {path!r}: {_reason(error)}") from error
    missing = sorted(info["missing_keys"])
    misshapen = sorted(str(key) for key in info["mismatched_keys"])
    if missing or misshapen:
        raise CheckpointError(
            f"{path!r} does not hold the whole model; missing {missing}, of another shape {misshapen}"
        )
    return model


def _freeze(module: ModuleT) -> ModuleT:
    module.eval().requires_grad_(False)
    return module
