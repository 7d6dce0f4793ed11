"""A small random SALMONN for rehearsals: the configured windows, queries, LoRA targets and end symbol, tiny widths.

The whole model is built from nothing: no weights, no tokenizer file, no network.
"""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.config.schema import Config
from salmonn.model.assembly import build_speech_encoder
from salmonn.model.beats import BEATs, BEATsConfig
from salmonn.model.components import add_lora, lora_config
from salmonn.model.salmonn import SALMONN

WIDTH = 16
LLM_WIDTH = 32
NO_FILES = ""
BOS = "<s>"
LLAMA_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DEFAULT_TARGETS = ("q_proj", "v_proj")


def build_tiny_model(config: Config) -> SALMONN:
    """Build a small random SALMONN that cuts, asks and ends its targets as the configured one does.

    LoRA goes to those of the configured target modules that a Llama has, to q_proj and v_proj where it has none.
    """
    parts = config.model
    tokenizer = byte_tokenizer(parts.end_sym)
    beats = _tiny_beats() if parts.beats_file or parts.audio_class else None
    encoder = build_speech_encoder(
        parts.model_copy(update={"qformer_path": NO_FILES}),
        whisper=_tiny_whisper(),
        beats=beats,
        extractor=WhisperFeatureExtractor(),  # type: ignore[no-untyped-call]
        output_width=LLM_WIDTH,
        qformer_sizes={"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH},
    )
    llm = _tiny_llm(len(tokenizer), tokenizer)
    for frozen in (*encoder.frozen_modules(), *([llm] if parts.freeze_llm else [])):
        frozen.requires_grad_(False)
    if parts.lora:
        wanted = [name for name in parts.lora_target_modules if name in LLAMA_MODULES] or list(DEFAULT_TARGETS)
        narrow = {"lora_rank": 2, "lora_alpha": 4, "lora_target_modules": wanted}
        llm = add_lora(llm, lora_config(parts.model_copy(update=narrow)))
    model = SALMONN(
        speech_encoder=encoder, llm=llm, tokenizer=tokenizer, end_sym=parts.end_sym, max_txt_len=parts.max_txt_len
    )
    model.llm_in_checkpoint = not parts.freeze_llm
    return model


def byte_tokenizer(end_sym: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token for every byte and one each for the beginning and for `end_sym`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=end_sym
    )


def _tiny_whisper() -> WhisperEncoder:
    return WhisperEncoder(
        WhisperConfig(
            d_model=WIDTH,
            encoder_layers=1,
            encoder_attention_heads=2,
            encoder_ffn_dim=2 * WIDTH,
            num_mel_bins=80,
            max_source_positions=1500,
        )
    )


def _tiny_beats() -> BEATs:
    return BEATs(
        BEATsConfig(
            input_patch_size=16,
            embed_dim=WIDTH,
            encoder_layers=1,
            encoder_embed_dim=WIDTH,
            encoder_ffn_embed_dim=2 * WIDTH,
            encoder_attention_heads=2,
            deep_norm=True,
            conv_pos=16,
            conv_pos_groups=4,
            relative_position_embedding=True,
            gru_rel_pos=True,
        )
    )


def _tiny_llm(vocabulary: int, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=LLM_WIDTH,
            intermediate_size=2 * LLM_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
