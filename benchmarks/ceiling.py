"""The arithmetic ceiling of answering: `python benchmarks/ceiling.py` prints the tables for the full-size shape.

In go a shape, a clip's seconds, its prompt's and answer's tokens and the number of beams; out come the floating point
operations of each part (two for a multiplication with its addition, matrix products and convolutions alone), and what
of them a device could do in a second if nothing else took time. Work is counted as it has to be done: each clip encoded
once, each prompt computed once, logits where a token is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from random_salmonn import FULL, LORA_RANK, WINDOW, Shape

MEL_BINS = 80
MEL_FRAMES = 3000
FRAMES = MEL_FRAMES // 2
PATCH = 16
PATCHES_ACROSS = 8
"""128 bins of the filter bank in patches of 16."""
FBANK_FRAMES_A_SECOND = 100
POSITION_KERNEL = 128
POSITION_GROUPS = 16
QFORMER_LAYERS = 2
BYTES = 2
"""Of a number in float16 or bfloat16."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device gives at best, as it can be reached, not as it is advertised.

    Attributes:
        flops: 16-bit matrix products, operations a second.
        bandwidth: bytes a second from its memory.
        source: how both were chosen.
    """

    flops: float
    bandwidth: float
    source: str


LIMITS = {
    "H200": Limits(790e12, 4.3e12, "80 % of 989 TFLOP/s dense, 90 % of 4.8 TB/s"),
    "H100 80GB HBM3": Limits(790e12, 3.0e12, "80 % of 989 TFLOP/s dense, 90 % of 3.35 TB/s (SXM)"),
    "H100 PCIe": Limits(605e12, 1.8e12, "80 % of 756 TFLOP/s dense, 90 % of 2.0 TB/s"),
}
"""Part of a device's name, as PyTorch tells it -> its limits."""


@dataclass(frozen=True, slots=True)
class Work:
    """Floating point operations for one clip, by part."""

    whisper: float
    beats: float
    qformer: float
    prefill: float
    decode: float

    @property
    def total(self) -> float:
        """All parts together."""
        return self.whisper + self.beats + self.qformer + self.prefill + self.decode


def work_of_clip(shape: Shape, *, seconds: float, prompt: int, tokens: int, beams: int) -> Work:
    """Count one clip's operations.

    Args:
        shape: the model's widths and depths.
        seconds: of audio that BEATs hears, 30 at most; Whisper always hears 30.
        prompt: tokens of the whole prompt, the audio's among them.
        tokens: of the answer, its end among them.
        beams: of the search.
    """
    return Work(
        whisper=_whisper(shape),
        beats=_beats(shape, seconds),
        qformer=_qformer(shape),
        prefill=2.0 * prompt * layer_weights(shape) + _attention(shape, prompt) + 2.0 * head_weights(shape),
        # The first token is the prefill's.
        decode=sum(
            2.0 * beams * (layer_weights(shape) + head_weights(shape) + 2 * shape.llm_layers * shape.llm_width * seen)
            for seen in range(prompt + 1, prompt + tokens)
        ),
    )


def mean_work(works: Sequence[Work]) -> Work:
    """The average clip."""
    return Work(**{part.name: sum(getattr(w, part.name) for w in works) / len(works) for part in fields(Work)})


def layer_weights(shape: Shape) -> int:
    """Numbers in the language model's layers that every token is multiplied with, LoRA's among them."""
    width, keys = shape.llm_width, shape.llm_width * shape.kv_heads // shape.heads
    lora = LORA_RANK * (width + width) + LORA_RANK * (width + keys)
    return shape.llm_layers * (2 * width * width + 2 * width * keys + 3 * width * shape.llm_inner + lora)


def head_weights(shape: Shape) -> int:
    """Numbers in the output layer."""
    return shape.llm_width * shape.vocabulary


def cache_bytes(shape: Shape) -> int:
    """Bytes of one token's keys and values in all layers."""
    return 2 * BYTES * shape.llm_layers * shape.llm_width * shape.kv_heads // shape.heads


def clips_a_second(
    shape: Shape, work: Work, limits: Limits, *, slots: int, prompt: float, tokens: float, beams: int
) -> float:
    """Clips a second that a device could do.

    A decoding step takes the longer of its operations and of reading the weights once and the slots' caches; the
    other parts are bound by operations.

    Args:
        shape: the model's widths and depths.
        work: of the average clip.
        limits: of the device.
        slots: clips that are decoded together.
        prompt: tokens of the average prompt.
        tokens: of the average answer.
        beams: of the search.
    """
    weights = BYTES * (layer_weights(shape) + head_weights(shape))
    # On average half of an answer is there, in every beam.
    cache = slots * cache_bytes(shape) * (prompt + beams * tokens / 2)
    read = (tokens - 1) / slots * (weights + cache) / limits.bandwidth
    return 1.0 / ((work.total - work.decode) / limits.flops + max(work.decode / limits.flops, read))


def limits_of(device_name: str) -> Limits | None:
    """The limits of a device, None where none are known."""
    return next((limits for part, limits in LIMITS.items() if part in device_name), None)


def work_table(work: Work) -> str:
    """The parts' operations and shares as a table."""
    rows = ["| part | GFLOP a clip | share |", "| --- | --- | --- |"]
    for part in fields(work):
        value = getattr(work, part.name)
        rows.append(f"| {part.name} | {value / 1e9:.2f} | {100 * value / work.total:.1f} % |")
    return "\n".join([*rows, f"| together | {work.total / 1e9:.2f} | |"])


def _whisper(shape: Shape) -> float:
    """Two convolutions over the mel spectrogram, then layers over 1500 frames."""
    width = shape.whisper_width
    first = 2.0 * MEL_FRAMES * 3 * MEL_BINS * width
    second = 2.0 * FRAMES * 3 * width * width
    return first + second + shape.whisper_layers * _encoder_layer(width, FRAMES)


def _beats(shape: Shape, seconds: float) -> float:
    """Patches, convolutional positions, layers: 8 tokens for 160 ms."""
    frames = int(seconds * FBANK_FRAMES_A_SECOND)
    tokens, width, patch_width = PATCHES_ACROSS * (frames // PATCH), shape.beats_width, 512
    patches = 2.0 * tokens * patch_width * (PATCH * PATCH + width)
    positions = 2.0 * tokens * POSITION_KERNEL * width * (width // POSITION_GROUPS)
    return patches + positions + shape.beats_layers * _encoder_layer(width, tokens)


def _encoder_layer(width: int, tokens: int) -> float:
    """Four projections, a feed-forward part of four times the width, attention over all tokens."""
    return 2.0 * tokens * 12 * width * width + 4.0 * tokens * tokens * width


def _qformer(shape: Shape) -> float:
    """Keys and values of all frames, one query a window through both layers, the projection."""
    windows, width = FRAMES // WINDOW, shape.qformer_width
    frames = windows * WINDOW
    keys = 2.0 * frames * 2 * (shape.whisper_width + shape.beats_width) * width
    # Self-attention has four projections, cross-attention two besides its keys and values, feed-forward eight.
    queries = 2.0 * windows * (4 + 2 + 8) * width * width + 4.0 * frames * width
    return QFORMER_LAYERS * (keys + queries) + 2.0 * windows * width * shape.llm_width


def _attention(shape: Shape, prompt: int) -> float:
    """Scores and sums of a causal pass over a prompt."""
    return 2.0 * prompt * (prompt + 1) * shape.llm_layers * shape.llm_width


def main() -> None:
    """Print the average LibriSpeech-like clip's work and every known device's ceiling."""
    seconds, prompt, tokens, beams, slots = 7.4, 115, 27, 4, 64
    work = work_of_clip(FULL, seconds=seconds, prompt=prompt, tokens=tokens, beams=beams)
    print(f"{FULL}\n{seconds} s, {prompt} tokens of prompt, {tokens} of answer, {beams} beams, {slots} slots\n")
    print(work_table(work) + "\n\n| device | clips/s at most | limits |\n| --- | --- | --- |")
    for name, limits in LIMITS.items():
        ceiling = clips_a_second(FULL, work, limits, slots=slots, prompt=prompt, tokens=tokens, beams=beams)
        print(f"| {name} | {ceiling:.0f} | {limits.source} |")


if __name__ == "__main__":
    main()
