"""Tiny models with random weights, one of each architecture, made from configurations without any download.

Weights are drawn wide, so that scores are far apart and answers follow the audio: rounding changes no choice.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = [f"word{number}" for number in range(64)]
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.6,
}
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'audio' %}AUDIO "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def tokenizer(*special: str) -> Any:
    """Words of its own, and special tokens."""
    names = ["<pad>", "</s>", "<unk>", *special, *WORDS]
    made = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=list(special),
    )  # fmt: skip


def _save(model: Any, processor: Any, folder: Path, *, ends: int | None) -> Path:
    if ends is not None:
        model.generation_config.eos_token_id = ends
        model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _whisper_features(mels: int) -> Any:
    return transformers.WhisperFeatureExtractor(feature_size=mels)


def qwen2_audio(folder: Path) -> Path:
    """Chat by template."""
    words = tokenizer("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    audio = {"num_mel_bins": 8, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    config = transformers.Qwen2AudioConfig(
        audio_config={**audio, "initializer_range": 0.4},
        text_config={"model_type": "qwen2", "vocab_size": len(words), **TEXT},
        audio_token_index=words.convert_tokens_to_ids("<|AUDIO|>"),
    )
    template = TEMPLATE.replace("AUDIO", "<|audio_bos|> <|AUDIO|> <|audio_eos|>")
    processor = transformers.Qwen2AudioProcessor(_whisper_features(8), words, chat_template=template)
    return _save(transformers.Qwen2AudioForConditionalGeneration(config), processor, folder, ends=1)


def audioflamingo3(folder: Path) -> Path:
    """Under AutoModelForSeq2SeqLM alone, with a transcription request."""
    words = tokenizer("<sound>")
    audio = {"num_mel_bins": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.AudioFlamingo3Config(
        audio_config={**audio, "intermediate_size": 32, "initializer_range": 0.4},
        text_config={"model_type": "qwen2", "vocab_size": len(words), **TEXT},
        audio_token_id=words.convert_tokens_to_ids("<sound>"),
    )
    template = TEMPLATE.replace("AUDIO", "<sound>")
    processor = transformers.AudioFlamingo3Processor(_whisper_features(8), words, chat_template=template)
    return _save(transformers.AudioFlamingo3ForConditionalGeneration(config), processor, folder, ends=1)


def whisper(folder: Path) -> Path:
    """An encoder and a decoder."""
    # Ids from that of "no timestamps" are times, by which long audio is gone through.
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    times = ["<|notimestamps|>", *(f"<|{0.02 * step:.2f}|>" for step in range(1501))]
    names = [*special, *WORDS, *times]
    made = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<|endoftext|>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        additional_special_tokens=[*special, *times],
    )  # fmt: skip
    config = transformers.WhisperConfig(
        vocab_size=len(words), num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_target_positions=64, init_std=0.4, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        decoder_start_token_id=1, suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config._from_model_config = False
    model.generation_config.is_multilingual = False
    model.generation_config.no_timestamps_token_id = len(special) + len(WORDS)
    model.generation_config.suppress_tokens = [1, *range(len(special) + len(WORDS), len(names))]
    processor = transformers.WhisperProcessor(_whisper_features(8), words)
    return _save(model, processor, folder, ends=None)


def wav2vec2(folder: Path) -> Path:
    """CTC with layer norms and a mask, as the large models are."""
    letters = {name: place for place, name in enumerate(["<pad>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrst"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(letters))
    words = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), pad_token="<pad>", word_delimiter_token="|")
    features = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=[8] * 3, conv_stride=[10, 8, 4], conv_kernel=[10, 8, 4], num_feat_extract_layers=3,
        feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, pad_token_id=0, initializer_range=0.5, mask_time_prob=0.0,
    )  # fmt: skip
    processor = transformers.Wav2Vec2Processor(features, words)
    return _save(transformers.Wav2Vec2ForCTC(config), processor, folder, ends=None)


def glmasr(folder: Path) -> Path:
    """Rotary encoder, transcription request."""
    words = tokenizer("<|pad|>")
    audio = {"num_mel_bins": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.GlmAsrConfig(
        audio_config={
            **audio,
            "intermediate_size": 64,
            "initializer_range": 0.4,
            "num_key_value_heads": 2,
            "head_dim": 8,
        },
        text_config={"model_type": "llama", "vocab_size": len(words), **TEXT},
        audio_token_id=words.convert_tokens_to_ids("<|pad|>"),
    )
    template = TEMPLATE.replace("AUDIO", "<|pad|>")
    processor = transformers.GlmAsrProcessor(_whisper_features(8), words, chat_template=template, audio_token="<|pad|>")
    return _save(transformers.GlmAsrForConditionalGeneration(config), processor, folder, ends=1)


MAKERS: dict[str, Callable[[Path], Path]] = {
    maker.__name__: maker for maker in (qwen2_audio, audioflamingo3, glmasr, whisper, wav2vec2)
}


def make(name: str, folder: Path) -> Path:
    """Make a model, the same every time."""
    torch.manual_seed(1)
    return MAKERS[name](folder)
