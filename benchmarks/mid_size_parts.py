"""A random SALMONN of middle size as files, for measuring how one is loaded.

In goes a folder; out come a language model of 392 MB (float16), a Whisper of whisper-small's shape (967 MB, float32,
its decoder included), a BEATs file of the released size (361 MB), a checkpoint over them, and the configuration of all.
The values are random; names, layouts and dtypes are those of released files.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig, WhisperFeatureExtractor, WhisperModel

from salmonn.config.config import from_mapping
from salmonn.model.beats import BEATs
from salmonn.model.meta import KNOWN_WHISPERS, RELEASED_BEATS
from salmonn.model.salmonn import SALMONN
from salmonn.weights.checkpoint import BEATS_KEY_TABLE, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
TRAINER = ROOT / "audiolm-trainer"
LLM = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 14, "num_attention_heads": 16}
VOCABULARY = 8000


def write_mid_size(folder: Path, *, dtype: str) -> Path:
    """Write the files; returns the configuration, which asks for `dtype`."""
    torch.manual_seed(0)
    _write_llm(folder / "llama")
    _write_whisper(folder / "whisper")
    _write_beats(folder / "beats.pt")
    parts: dict[str, Any] = {
        "llama_path": str(folder / "llama"),
        "whisper_path": str(folder / "whisper"),
        "beats_path": str(folder / "beats.pt"),
        "test_prompt_path": str(TRAINER / "prompts/test_prompt.json"),
        "prompt_template": "USER: {}\nASSISTANT:",
        "dtype": dtype,
    }
    model = SALMONN.from_config(
        from_mapping({"model": parts | {"ckpt": "none"}}), device=torch.device("cpu"), dtype=torch.float32
    )
    checkpoint = folder / "salmonn.pth"
    save_checkpoint(checkpoint, model.trained_state_dict())
    path = folder / "config.yaml"
    # JSON is YAML.
    path.write_text(json.dumps({"model": parts | {"ckpt": str(checkpoint)}}), encoding="utf-8")
    return path


def _write_llm(folder: Path) -> None:
    config = LlamaConfig(**LLM, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(config).half().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TRAINER / "nano/llama" / name, folder / name)


def _write_whisper(folder: Path) -> None:
    width, layers, heads = KNOWN_WHISPERS["openai/whisper-small"][:3]
    sizes = {"encoder_layers": layers, "encoder_attention_heads": heads, "encoder_ffn_dim": 4 * width}
    sizes |= {name.replace("encoder", "decoder"): size for name, size in sizes.items()}
    WhisperModel(WhisperConfig(d_model=width, **sizes)).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)


def _write_beats(path: Path) -> None:
    state = {_released(name): tensor for name, tensor in BEATs(RELEASED_BEATS).state_dict().items()}
    torch.save({"cfg": asdict(RELEASED_BEATS), "model": state}, path)


def _released(name: str) -> str:
    for released, ours in BEATS_KEY_TABLE:
        if name.startswith(ours):
            return released + name[len(ours) :]
    return name
