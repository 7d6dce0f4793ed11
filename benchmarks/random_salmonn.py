"""A random SALMONN of any size: what the benchmarks of training and of answering measure on.

In go widths and depths, a device and a dtype; out comes a model of random numbers from a fixed seed. What it says means
nothing. Its tokenizer has one word for every row of the vocabulary.
"""

from dataclasses import dataclass

import torch
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    Blip2QFormerConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.frontend.features import FrontEnd
from salmonn.model.beats import BEATs, BEATsConfig
from salmonn.model.components import add_lora, qformer_config
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import SpeechEncoder, Windows

PROMPTS = {
    "asr": "USER: <Speech><SpeechHere></Speech> Recognize the speech and give me the transcription.\nASSISTANT:",
    "audiocaption": "USER: <Speech><SpeechHere></Speech> Please describe the audio.\nASSISTANT:",
    "QA": "USER: <Speech><SpeechHere></Speech> How many times can the bell be heard in this clip?\nASSISTANT:",
}
WORDS = [f"w{number}" for number in range(1000)]
"""What a made-up text may be drawn from, whatever the vocabulary."""
END, END_ID = "</s>", 2
WINDOW = 17
LORA_RANK = 8
LORA_SPREAD = 0.02
LOGIT_SPREAD = 6.0
"""Standard deviation of the scores over the vocabulary, in nats."""


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
MINI = Shape(384, 2, 128, 2, 64, 576, 8, 1536, 9, 3, 6000)
"""About a hundredth of the full size's work, in about its shares (`ceiling.py`)."""
LLM = Shape(llm_width=576, llm_layers=8, llm_inner=1536, heads=9, kv_heads=3, vocabulary=12000)
QUICK_LLM = Shape(llm_width=384, llm_layers=4, llm_inner=1024, heads=6, kv_heads=2, vocabulary=4000)
"""Language models alone, in the proportions of Llama-3.2-3B: heads in groups of three."""


def build_random_model(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> SALMONN:
    """Build a model of a shape to be trained; frozen parts in `dtype`, trained parts in float32."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer(shape.vocabulary)
    with device:
        whisper = _whisper(shape).to(dtype)
        beats = BEATs(_beats_config(shape)).to(dtype)
        llm = LlamaForCausalLM(llm_config(shape, tokenizer)).to(dtype)
        for frozen in (whisper, beats, llm):
            frozen.eval().requires_grad_(False)
        encoder = SpeechEncoder(
            front_end=FrontEnd(_extractor(), patch_frames=16),
            whisper=whisper,
            beats=beats,
            qformer_config=_qformer(shape),
            num_queries=1,
            windows=Windows(length=WINDOW, stride=WINDOW),
            output_width=shape.llm_width,
        )
        adapter = LoraConfig(
            r=LORA_RANK, lora_alpha=32, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        )
        adapted = add_lora(llm, adapter)
    model = SALMONN(speech_encoder=encoder, llm=adapted, tokenizer=tokenizer, end_sym=END, max_txt_len=300)
    return model.train()


def build_answering_model(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> SALMONN:
    """Build a model of a shape to answer with: frozen, livened, its adapters not zero."""
    model = build_random_model(shape, device=device, dtype=dtype).eval().requires_grad_(False)
    liven(model, gain=1 + 2 / shape.llm_layers)
    for name, parameter in model.llm.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=LORA_SPREAD)
    decide(model.llm)
    return model


def build_random_llm(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """Build the language model alone, without adapters, to answer with: frozen and livened."""
    torch.manual_seed(0)
    with device:
        llm = LlamaForCausalLM(llm_config(shape, word_tokenizer(shape.vocabulary))).to(dtype)
    liven(llm, gain=1 + 2 / shape.llm_layers)
    decide(llm)
    return llm.eval().requires_grad_(False)


@torch.no_grad()
def liven(model: nn.Module, *, gain: float) -> None:
    """Draw the weights anew, so large that an output is about `gain` times its input; few layers need more.

    As libraries initialise them a random model hardly hears a difference between two clips and says one word over and
    over; then all answers are equal, whatever is wrong with them.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and "lora_" not in name:
            module.weight.normal_(std=gain * module.weight[0].numel() ** -0.5)


@torch.no_grad()
def decide(llm: PreTrainedModel) -> None:
    """Spread a random language model's logits to a standard deviation of `LOGIT_SPREAD` through its last norm.

    With it the likeliest word is about as likely as a recogniser's; otherwise thousands are equally likely, and
    rounding chooses among them.
    """
    head = llm.get_output_embeddings().weight
    norm = next(module for name, module in llm.named_modules() if name.endswith("model.norm"))
    norm.weight.fill_(LOGIT_SPREAD / float(head.float().norm(dim=1).mean()))


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token for every word and punctuation mark that occurs, and further words for the rest of the vocabulary."""
    split = pre_tokenizers.Whitespace()
    marks = [piece for prompt in PROMPTS.values() for piece, _ in split.pre_tokenize_str(prompt)]
    words = list(dict.fromkeys(["<unk>", "<s>", END, *marks, *WORDS]))
    words += [f"w{number}" for number in range(len(WORDS), len(WORDS) + vocabulary - len(words))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=END, unk_token="<unk>", pad_token=END
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


def llm_config(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
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


def _qformer(shape: Shape) -> Blip2QFormerConfig:
    sizes = qformer_config("", encoder_width=shape.whisper_width + shape.beats_width)
    width = shape.qformer_width
    sizes.update({"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width})
    return sizes
