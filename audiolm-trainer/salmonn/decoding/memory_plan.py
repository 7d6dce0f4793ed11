"""How many clips to decode at a time, from the memory that is free before the first of them is decoded.

A slot holds a clip's keys and values, for its prompt and for the longest answer of every beam, and while a token is
chosen several copies of its beams' scores over the vocabulary. More slots are faster until the matrix products are as
large as the device likes them; that is the most that is planned.
"""

import contextlib
import logging
from pathlib import Path
from typing import Any

import psutil
import torch

from salmonn.decoding.decoder_settings import DecoderSettings

logger = logging.getLogger(__name__)

# Rows of one forward pass, over all beams, beyond which a device gains little.
ROWS_ON_CPU, ROWS_ON_GPU = 64, 256
# Copies of the scores over the vocabulary, float32, that choosing a token needs at a time.
SCORE_COPIES = 5
# Of what is free, the part that is planned with: the rest is for fragments, other processes' growth and the unforeseen.
SHARE_ON_CPU, SHARE_ON_GPU = 0.5, 0.9
GIB = 2**30


def plan_slots(llm: Any, settings: DecoderSettings, *, prompt_length: int) -> int:
    """Choose the number of slots, and log it with the reason.

    On a GPU the encoders must have worked before: what they needed at most beyond what is still held is left free for
    them, since they work beside the decoder.

    Args:
        llm: a causal language model of transformers, without a wrapper.
        settings: of the decoder.
        prompt_length: tokens of a typical prompt.

    Returns:
        At least 1, whatever is free.
    """
    device: torch.device = llm.get_input_embeddings().weight.device
    wanted = max((ROWS_ON_GPU if device.type == "cuda" else ROWS_ON_CPU) // settings.num_beams, 1)
    each = slot_bytes(llm, settings, prompt_length=prompt_length)
    free = _free_on_gpu(device) if device.type == "cuda" else int(SHARE_ON_CPU * free_memory())
    slots = max(min(wanted, free // each), 1)
    why = "no more are faster" if slots == wanted else f"{wanted} would be faster, but do not fit"
    logger.info(
        "decoding %d clips at a time, %d beams each: at most %.2f GiB, %.2f GiB can be used (%s)",
        slots,
        settings.num_beams,
        slots * each / GIB,
        free / GIB,
        why,
    )
    return slots


def slot_bytes(llm: Any, settings: DecoderSettings, *, prompt_length: int) -> int:
    """Bytes that one slot takes at most: keys, values and mask of all columns, scores and tokens of its beams.

    Example:
        Llama-3.2-3B in bfloat16 (28 layers, 8 key heads of 128), 4 beams, 200 tokens after a prompt of 115:
        915 columns x 114,688 bytes of keys and values, and 5 x 4 x 128,256 x 4 bytes of scores -> 115 MB.
    """
    config: Any = llm.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    number = llm.dtype.itemsize
    beams = settings.num_beams
    columns = prompt_length + settings.max_new_tokens * beams
    states = 2 * config.num_hidden_layers * heads * width * columns * number
    scores = SCORE_COPIES * beams * config.vocab_size * torch.float32.itemsize
    rest = beams * (columns * number + 3 * settings.max_new_tokens * torch.int64.itemsize)
    return int(states + scores + rest)


def _free_on_gpu(device: torch.device) -> int:
    """Bytes of a GPU that slots may take: free or kept by PyTorch unused, less what the encoders will need again."""
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_allocated(device)
    unused = torch.cuda.memory_reserved(device) - held
    encoders = torch.cuda.max_memory_allocated(device) - held
    return max(int(SHARE_ON_GPU * (free + unused)) - encoders, 0)


def free_memory() -> int:
    """Bytes of main memory that this process can still have: the machine's, or its container's where that is less."""
    free = [int(psutil.virtual_memory().available)]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free.append(max(limit - int((group / "memory.current").read_text(encoding="ascii")), 0))
    return min(free)
