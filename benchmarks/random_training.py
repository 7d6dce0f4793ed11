"""A random SALMONN of any size and a made-up training set for it: what `bench_training.py` measures on.

Lengths are made up to be like those of the sets that SALMONN is trained with: speech of 1.5 to 30 s with 3.6 tokens a
second, captions of 10 s clips with 10 to 20 tokens, short answers to questions. The words mean nothing, the audio is
noise.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.audio import SAMPLING_RATE
from salmonn.beats import BEATs, BEATsConfig
from salmonn.components import add_lora, qformer_config
from salmonn.dataset import Sample, Samples
from salmonn.features import FrontEnd
from salmonn.model import SALMONN
from salmonn.speech_encoder import SpeechEncoder, Windows

PROMPTS = {
    "asr": "USER: <Speech><SpeechHere></Speech> Recognize the speech and give me the transcription.\nASSISTANT:",
    "audiocaption": "USER: <Speech><SpeechHere></Speech> Please describe the audio.\nASSISTANT:",
    "QA": "USER: <Speech><SpeechHere></Speech> How many times can the bell be heard in this clip?\nASSISTANT:",
}
WORDS = [f"w{number}" for number in range(1000)]


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths and depths; feed-forward parts of the encoders are four times as wide.

    The defaults give Whisper, BEATs and the language model's layers about the shares of the work that they have in a
    full-size model. The vocabulary is Llama 3's own; beside so narrow a model its share is too large.
    """

    whisper_width: int = 256
    whisper_layers: int = 4
    beats_width: int = 192
    beats_layers: int = 2
    qformer_width: int = 256
    llm_width: int = 512
    llm_layers: int = 8
    llm_inner: int = 1408
    heads: int = 8
    kv_heads: int = 4
    vocabulary: int = 128256


QUICK = Shape(64, 1, 64, 1, 64, 64, 1, 128, 4, 2, 2000)
FULL = Shape(1280, 32, 768, 12, 768, 3072, 28, 8192, 24, 8, 128256)
"""Whisper-large-v2, BEATs iter3+ and Llama-3.2-3B."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A set in memory.

    Attributes:
        samples: texts and tasks; their files do not exist.
        waves: float32 [N] of each at 16 kHz.
    """

    samples: Samples
    waves: list[NDArray[np.float32]]

    def batch(self, indices: list[int]) -> tuple[list[NDArray[np.float32]], list[str], list[str]]:
        """Waveforms, prompts and targets of a batch."""
        rows = [self.samples[index] for index in indices]
        return [self.waves[index] for index in indices], [PROMPTS[row.task] for row in rows], [row.text for row in rows]


def draw_training_set(number: int, *, seed: int = 0) -> TrainingSet:
    """Draw clips of three tasks with their texts."""
    rng = np.random.default_rng(seed)
    rows, waves = [], []
    for index in range(number):
        task = str(rng.choice(["asr", "audiocaption", "QA"], p=[0.6, 0.25, 0.15]))
        seconds = float(np.clip(rng.lognormal(np.log(9.0), 0.6), 1.5, 30.0)) if task == "asr" else 10.0
        tokens = {"asr": round(3.6 * seconds), "audiocaption": rng.integers(10, 21), "QA": rng.integers(1, 9)}[task]
        text = " ".join(rng.choice(WORDS, size=max(int(tokens), 1)))
        rows.append(Sample(Path(f"{index}.flac"), text, task, ""))
        waves.append((0.1 * rng.standard_normal(round(seconds * SAMPLING_RATE))).astype(np.float32))
    return TrainingSet(Samples.of(rows), waves)


def build_random_model(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> SALMONN:
    """Build a model of a shape; frozen parts in `dtype`, trained parts in float32."""
    torch.manual_seed(0)
    tokenizer = _word_tokenizer()
    with device:
        whisper = _whisper(shape).to(dtype)
        beats = BEATs(_beats_config(shape)).to(dtype)
        llm = LlamaForCausalLM(_llm_config(shape, tokenizer)).to(dtype)
        for frozen in (whisper, beats, llm):
            frozen.eval().requires_grad_(False)
        encoder = SpeechEncoder(
            front_end=FrontEnd(_extractor(), patch_frames=16),
            whisper=whisper,
            beats=beats,
            qformer_config=_qformer(shape),
            num_queries=1,
            windows=Windows(length=17, stride=17),
            output_width=shape.llm_width,
        )
        adapted = add_lora(llm, rank=8, alpha=32, dropout=0.1, target_modules=["q_proj", "v_proj"])
    model = SALMONN(speech_encoder=encoder, llm=adapted, tokenizer=tokenizer, end_sym="</s>", max_txt_len=300)
    return model.train()


def _word_tokenizer() -> PreTrainedTokenizerFast:
    """One token for every word and punctuation mark that occurs."""
    split = pre_tokenizers.Whitespace()
    marks = [piece for prompt in PROMPTS.values() for piece, _ in split.pre_tokenize_str(prompt)]
    words = dict.fromkeys(["<unk>", "<s>", "</s>", *marks, *WORDS])
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def _extractor() -> WhisperFeatureExtractor:
    with torch.device("cpu"):
        return WhisperFeatureExtractor()


def _whisper(shape: Shape) -> WhisperEncoder:
    return WhisperEncoder(
        WhisperConfig(
            d_model=shape.whisper_width,
            encoder_layers=shape.whisper_layers,
            encoder_attention_heads=shape.whisper_width // 64,
            encoder_ffn_dim=4 * shape.whisper_width,
        )
    )


def _beats_config(shape: Shape) -> BEATsConfig:
    return BEATsConfig(
        input_patch_size=16,
        encoder_layers=shape.beats_layers,
        encoder_embed_dim=shape.beats_width,
        encoder_ffn_embed_dim=4 * shape.beats_width,
        encoder_attention_heads=shape.beats_width // 64,
        deep_norm=True,
        relative_position_embedding=True,
        gru_rel_pos=True,
        max_distance=800,
    )


def _llm_config(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=shape.llm_width,
        intermediate_size=shape.llm_inner,
        num_hidden_layers=shape.llm_layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _qformer(shape: Shape) -> object:
    sizes = qformer_config("", encoder_width=shape.whisper_width + shape.beats_width)
    width = shape.qformer_width
    sizes.update({"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width})
    return sizes
