"""What training will take of a device's memory, computed from the shapes of the model before any weight is there.

Bytes by purpose, for a SALMONN (one on the meta device is enough) and the plan of one batch. They are computed, not
measured: what the allocator wastes, the CUDA context (about half a gigabyte) and the kernels' work space are left out.

With L layers, h width, a heads x head width, i inner width, V vocabulary, S tokens of a sequence, P of them predicted,
B clips, T = 1500 frames of width D = Dw + Db, Tb BEATs' tokens, q and j the Q-Former's width and inner width, N = W x Q
audio tokens, r the summed input widths of LoRA's modules, f bytes of a frozen number, c of a computed one, m of one
in a dropout mask (1 on a GPU, 4 on a CPU):

    weights      frozen numbers x f (quantised: 1 byte each, of NF4 0.516) + the trained part's x 4
    gradients    trainable numbers x 4
    optimizer    trainable numbers x 8                        AdamW's two moments
    activations  the larger of what an encoder works with and what is kept for the backward pass:
                 B x (2f T (3 Dw + ffn) or 3f x heads x Tb^2)
                 B S (L (8h + 4ca + 3ci + cS) + r (c + m))    language model and LoRA
                 + B S L (c(2h + i) + 8h)                     what its layers read, where it is trained itself
                 + B P V (12 + 2c)                            logits, their float32 copy, softmax and gradient
                 + B (16 T D + 16 T q + 2 N (64 q + 4 c j))   bridge

The terms for the language model and the bridge are what PyTorch's saved tensors add up to for transformers' Llama (SDPA
attention) and Blip2QFormer; `tests/test_memory_estimate.py` holds them to the count of the real ones.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from salmonn.frontend.features import FBANK_BINS
from salmonn.model.beats import BEATs
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import FRAMES_PER_30_SECONDS, audio_width

FLOAT32_BYTES = 4
ADAMW_BYTES = 8
FRAMES_PER_SECOND = 100
QFORMER_PARTS = ("speech_Qformer.", "speech_query_tokens")
PROJECTION_PARTS = ("speech_llama_proj.",)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What is computed at once.

    Attributes:
        batch_size: B, clips.
        audio_seconds: of the longest clip; BEATs' work grows with its square, Whisper always computes 30 s.
        prompt_tokens: text tokens of a sequence before its target, without the audio tokens.
        target_tokens: P, tokens of the longest target.
        weights_dtype: of the frozen parts.
        compute_dtype: of matrix products (autocast's, else the frozen parts').
        on_gpu: dropout masks take one byte there, four on a CPU.
        saved_bytes: what quantised layers take less than `weights_dtype`.
    """

    batch_size: int
    audio_seconds: float
    prompt_tokens: int
    target_tokens: int
    weights_dtype: torch.dtype
    compute_dtype: torch.dtype
    on_gpu: bool
    saved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on one device, by purpose."""

    frozen_weights: int
    trained_weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return self.frozen_weights + self.trained_weights + self.gradients + self.optimizer + self.activations

    def line(self) -> str:
        """Return one line, e.g. "20.1 GB: weights 7.9, gradients 0.1, AdamW 0.2, activations 11.9"."""
        parts = {
            "weights": self.frozen_weights + self.trained_weights,
            "gradients": self.gradients,
            "AdamW": self.optimizer,
            "activations": self.activations,
        }
        shown = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts.items())
        return f"{gigabytes(self.total)} GB: {shown}"


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Numbers of a model: frozen for ever, in the trained part (what checkpoints hold), and trainable now."""

    frozen: int
    trained_part: int
    trainable: int


def gigabytes(size: int) -> str:
    """Show bytes as 10^9: "12.3", small ones as "0.003"."""
    value = size / 1e9
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def count_parameters(model: SALMONN, *, freeze_qformer: bool, freeze_projection: bool) -> ParameterCounts:
    """Count the numbers of a model, wherever it lies.

    Args:
        model: on any device, meta included; with `llm_in_checkpoint` where the language model is trained itself.
        freeze_qformer: the configuration's `model.freeze_speech_QFormer`.
        freeze_projection: the configuration's `model.freeze_speech_llama_proj`.
    """
    held = (QFORMER_PARTS if freeze_qformer else ()) + (PROJECTION_PARTS if freeze_projection else ())
    trained = {name: tensor.numel() for name, tensor in model.trained_state_dict().items()}
    everything = sum(parameter.numel() for parameter in model.parameters())
    return ParameterCounts(
        frozen=everything - sum(trained.values()),
        trained_part=sum(trained.values()),
        trainable=sum(size for name, size in trained.items() if not name.startswith(held)),
    )


def estimate_memory(model: SALMONN, counts: ParameterCounts, plan: BatchPlan) -> MemoryEstimate:
    """Compute what training takes on one device; the formula is in this file's docstring."""
    kept = _llm_bytes(model, plan) + plan.batch_size * _bridge_bytes(model, plan)
    return MemoryEstimate(
        frozen_weights=counts.frozen * plan.weights_dtype.itemsize - plan.saved_bytes,
        trained_weights=counts.trained_part * FLOAT32_BYTES,
        gradients=counts.trainable * FLOAT32_BYTES,
        optimizer=counts.trainable * ADAMW_BYTES,
        activations=max(kept, plan.batch_size * _encoder_bytes(model, plan)),
    )


def audio_tokens(model: SALMONN) -> int:
    """Count the audio tokens of a clip, W x Q: 88 for windows of 17 frames and one query."""
    encoder = model.speech_encoder
    queries = int(encoder.query_tokens.shape[1])
    if encoder.windows is None:
        return queries
    return queries * ((_whisper_frames(model) - encoder.windows.length) // encoder.windows.stride + 1)


def _whisper_frames(model: SALMONN) -> int:
    return min(int(model.speech_encoder.whisper.config.max_source_positions), FRAMES_PER_30_SECONDS)


def _llm_bytes(model: SALMONN, plan: BatchPlan) -> int:
    """Bytes of the language model's kept activations and of its logits, for the batch."""
    sizes: Any = model.llm.config.get_text_config()
    width, layers, compute = sizes.hidden_size, sizes.num_hidden_layers, plan.compute_dtype.itemsize
    head = getattr(sizes, "head_dim", None) or width // sizes.num_attention_heads
    inner = getattr(sizes, "intermediate_size", None) or 4 * width
    length = audio_tokens(model) + plan.prompt_tokens + plan.target_tokens
    layer = 8 * width + 4 * compute * sizes.num_attention_heads * head + 3 * compute * inner + compute * length
    # A layer's weights learn from what they multiply; norms keep it in float32.
    layer += compute * (2 * width + inner) + 2 * FLOAT32_BYTES * width if model.llm_in_checkpoint else 0
    adapted = _adapted_inputs(model.llm) * (compute + (1 if plan.on_gpu else FLOAT32_BYTES))
    logits = plan.target_tokens * sizes.vocab_size * (3 * FLOAT32_BYTES + 2 * compute)
    return int(plan.batch_size * (length * (layers * layer + adapted) + logits))


def _adapted_inputs(llm: nn.Module) -> int:
    """Sum of the input widths of all modules that LoRA wraps."""
    adapters = [parameter for name, parameter in llm.named_parameters() if ".lora_A." in name]
    return sum(int(parameter.shape[1]) for parameter in adapters)


def _bridge_bytes(model: SALMONN, plan: BatchPlan) -> int:
    """Bytes that norms, windows, Q-Former and projection keep, for one clip."""
    encoder = model.speech_encoder
    beats = 0 if encoder.beats is None else audio_width(encoder.beats)
    frames, width = _whisper_frames(model), encoder.whisper.config.d_model + beats
    sizes = encoder.qformer.config
    layers = sizes.num_hidden_layers
    query = 64 * sizes.hidden_size + 4 * plan.compute_dtype.itemsize * sizes.intermediate_size
    attended = 8 * layers * frames * sizes.hidden_size
    return int(16 * frames * width + attended + layers * audio_tokens(model) * query)


def _encoder_bytes(model: SALMONN, plan: BatchPlan) -> int:
    """Bytes of the larger encoder's working set, for one clip."""
    encoder, compute = model.speech_encoder, plan.weights_dtype.itemsize
    sizes = encoder.whisper.config
    whisper = 2 * compute * _whisper_frames(model) * (3 * sizes.d_model + sizes.encoder_ffn_dim)
    if not isinstance(encoder.beats, BEATs):
        # What an encoder of one's own works with is not known.
        return int(whisper)
    patch = encoder.beats.config.input_patch_size
    tokens = int(plan.audio_seconds * FRAMES_PER_SECOND) // patch * (FBANK_BINS // patch)
    return int(max(whisper, 3 * compute * encoder.beats.config.encoder_attention_heads * tokens**2))
