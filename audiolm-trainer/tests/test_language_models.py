"""Language models of many families, tiny and random: two steps of training, then answers by both engines.

With and without a token for the beginning, with scaled embeddings, tied and untied heads, sliding windows, tokenizers
with and without bytes to fall back to.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from salmonn.config.config import from_mapping
from salmonn.decoding.transformers_decoding import generate_ids
from salmonn.errors import ConfigError
from salmonn.inference.inference import SalmonnLM, load_language_model
from salmonn.preflight.preflight import check_before_training, find_answering_problems
from salmonn.prompts import PromptBook, free_prompt
from salmonn.training.run import train

END = "<|end|>"


class Request(NamedTuple):
    index: int  # type: ignore[assignment]
    audio: np.ndarray
    task: str
    question: str


SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "attention_dropout": 0.0,
}
NEOX = {key: SIZES[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
GEMMA = SIZES | {"head_dim": 8, "sliding_window": 256, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SIZES | {"tie_word_embeddings": True},
    "mistral": SIZES | {"sliding_window": 4096},
    "qwen2": SIZES | {"tie_word_embeddings": True},
    "qwen3": SIZES | {"head_dim": 8},
    "gemma": SIZES | {"head_dim": 8},
    "gemma2": GEMMA | {"query_pre_attn_scalar": 8, "final_logit_softcapping": 30.0},
    "gemma3_text": GEMMA | {"query_pre_attn_scalar": 8, "tie_word_embeddings": False},
    "smollm3": SIZES,
    "phi3": SIZES,
    "olmo2": SIZES,
    "granite": SIZES | {"logits_scaling": 2.0, "embedding_multiplier": 3.0},
    "gpt_neox": NEOX | {"max_position_embeddings": 512},
}
QUESTIONS = ("write it down", "Is there a dog?", "10 words, please: quickly!")
WITHOUT_BEGINNING = ("qwen2", "qwen3", "smollm3", "gpt_neox")
TARGETS = {"gpt_neox": ["query_key_value"], "phi3": ["qkv_proj"]}


def bytes_tokenizer(beginning: str | None) -> PreTrainedTokenizerFast:
    """One token for every byte, as GPT's and Qwen's families fall back to."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=beginning, eos_token=END)


def pieces_tokenizer(beginning: str | None, *, fallback: bool) -> PreTrainedTokenizerFast:
    """Pieces as sentencepiece has them, with and without bytes for what is no piece."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256) if fallback), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *".,!?:<>/|{}\nABCDEFGHIJKLMNOPQRSTUVWXYZ'"])}
    model = models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=fallback, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), *([decoders.ByteFallback()] if fallback else []), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=beginning, eos_token=END, unk_token="<unk>")


def make_folder(folder: Path, family: str, tokenizer: PreTrainedTokenizerFast) -> Path:
    torch.manual_seed(0)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    sizes = AutoConfig.for_model(family, **{"vocab_size": len(tokenizer), **FAMILIES[family], **ids})
    llm = AutoModelForCausalLM.from_config(sizes)
    # Random models of the usual spread say one token for ever; where the head is tied, the last token.
    inside, embedding = (40.0, 0.25) if sizes.tie_word_embeddings else (8.0, 8.0)
    for name, parameter in llm.named_parameters():
        if parameter.dim() > 1:
            parameter.data *= embedding if "embed" in name else inside
    llm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sections(reference: Path, tmp_path: Path, llama: Path, **model: Any) -> dict[str, Any]:
    """A run of two steps on four clips of noise."""
    rng = np.random.default_rng(0)
    rows = []
    for number, text in enumerate(("one two", "a bell", "rain é", "turn left")):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(16_000).astype(np.float32), 16_000)
        rows.append({"path": f"{number}.wav", "text": text})
    (tmp_path / "ann.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    (tmp_path / "prompts.json").write_text(json.dumps({"asr": "hear <Speech><SpeechHere></Speech> now"}))
    optims = {"max_epoch": 1, "warmup_steps": 0, "init_lr": 1e-3}
    return {
        "model": {
            "llama_path": str(llama),
            "whisper_path": str(reference / "whisper"),
            "beats_path": str(reference / "beats.pt"),
            "qformer_path": str(reference / "bert-base-uncased"),
            "lora_rank": 2,
            "end_sym": END,
            "prompt_path": str(tmp_path / "prompts.json"),
            "test_prompt_path": str(tmp_path / "prompts.json"),
            **model,
        },
        "generate": {"max_new_tokens": 24, "num_beams": 2},
        "datasets": {
            "prefix": str(tmp_path),
            "train_ann_path": str(tmp_path / "ann.json"),
            "valid_ann_path": str(tmp_path / "ann.json"),
        },
        "run": {
            "output_dir": str(tmp_path / "output"),
            "device": "cpu",
            "batch_size_train": 2,
            "iters_per_epoch": 2,
            "num_workers": 0,
            "trackers": [],
            "valid_generate": 2,
            "optims": optims,
        },
    }


def answers(lm: SalmonnLM, clips: int = 3) -> list[list[int]]:
    """Token ids of noise clips, by the model's engine."""
    rng = np.random.default_rng(1)
    prompts = []
    with torch.no_grad():
        for number in range(clips):
            wave = (0.1 * rng.standard_normal(16_000 + 3_000 * number)).astype(np.float32)
            speech = lm.model.embed(lm.model.encode([wave]))[0]
            prompts.append(lm.model.wrap(speech, free_prompt(QUESTIONS[number], lm.prompts.template)))
    if lm.decoder is None:
        return [generate_ids(lm.model.llm, [prompt], lm.settings)[0] for prompt in prompts]
    return [ids for _, ids in sorted(lm.decoder.decode(enumerate(prompts)))]


def train_and_answer(written: dict[str, Any]) -> tuple[SalmonnLM, Any]:
    """Train two steps, then load what came out for both engines; equal answers."""
    config = from_mapping(written, purpose="train")
    check_before_training(config)
    result, folder = train(config)
    assert result.steps == 2
    written = {**written, "model": {**written["model"], "ckpt": str(folder / "checkpoint_0.pth")}}
    own, theirs = (
        load_language_model(from_mapping({**written, "generate": {**written["generate"], "engine": engine}}), "cpu")
        for engine in ("own", "transformers")
    )
    expected = answers(theirs)
    assert answers(own) == expected
    assert len({tuple(ids) for ids in expected}) > 1, "a model that says one thing whatever it hears shows nothing"
    return own, expected


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_trains_and_answers(family: str, reference: Path, tmp_path: Path) -> None:
    beginning = None if family in WITHOUT_BEGINNING else "<s>"
    llama = make_folder(tmp_path / "llm", family, bytes_tokenizer(beginning))
    extra = {"lora_target_modules": TARGETS[family]} if family in TARGETS else {}
    lm, _ = train_and_answer(sections(reference, tmp_path, llama, **extra))
    assert (lm.model.tokenizer.bos_token_id is None) == (beginning is None)


@pytest.mark.parametrize("family", ["gemma2", "gpt_neox", "qwen3"])
def test_families_are_trained_themselves(family: str, reference: Path, tmp_path: Path) -> None:
    """Without an adapter: scaled embeddings with capped logits, a head of another name, no beginning."""
    beginning = None if family in WITHOUT_BEGINNING else "<s>"
    llama = make_folder(tmp_path / "llm", family, bytes_tokenizer(beginning))
    lm, _ = train_and_answer(sections(reference, tmp_path, llama, lora=False, freeze_llm=False))
    assert lm.model.llm_in_checkpoint


@pytest.mark.parametrize("beginning", [None, "<s>"])
@pytest.mark.parametrize("fallback", [True, False])
def test_pieces_with_and_without_bytes(beginning: str | None, fallback: bool, reference: Path, tmp_path: Path) -> None:
    tokenizer = pieces_tokenizer(beginning, fallback=fallback)
    lm, ids = train_and_answer(sections(reference, tmp_path, make_folder(tmp_path / "llm", "llama", tokenizer)))
    assert lm.model.token_text.text(lm.model.token_ids("rain é")) == ("rain é" if fallback else "rain <unk>")
    for each in ids:
        assert isinstance(lm.model.token_text.text(each), str)


def test_a_prompt_that_begins_with_audio_needs_no_beginning(reference: Path, tmp_path: Path) -> None:
    llama = make_folder(tmp_path / "llm", "qwen3", bytes_tokenizer(None))
    written = sections(reference, tmp_path, llama)
    (tmp_path / "prompts.json").write_text(json.dumps({"asr": "<SpeechHere>"}), encoding="utf-8")
    lm, _ = train_and_answer(written)
    speech = torch.zeros(3, 32)
    assert torch.equal(lm.model.wrap(speech, "<SpeechHere>"), speech)


@pytest.mark.parametrize(("family", "window"), [("gemma3_text", 256), ("mistral", 256)])
def test_a_window_that_a_prompt_with_its_answer_fills_is_named(
    family: str, window: int, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, family, FAMILIES[family] | {"sliding_window": window})
    llama = make_folder(tmp_path / "llm", family, bytes_tokenizer("<s>"))
    written = sections(reference, tmp_path, llama, ckpt="none")
    lm = load_language_model(from_mapping(written), "cpu")
    lm.prompts = PromptBook({"asr": ("x" * (window - 24) + "<SpeechHere>",)})
    with pytest.raises(ConfigError, match=rf"clip 0: a prompt of \d+ tokens .* sliding window of {window} tokens"):
        list(lm.generate([Request(0, np.zeros(16_000, np.float32), "asr", "")]))
    written["generate"]["max_new_tokens"] = window
    found = dict(find_answering_problems(from_mapping(written), "cpu"))
    assert f"a sliding window of {window} tokens" in found["generate.engine"]
