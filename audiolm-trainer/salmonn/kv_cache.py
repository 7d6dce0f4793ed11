"""Keys and values of many clips under beam search: the prompt once per clip, ancestors by mask instead of by copying.

A slot is one row of every layer's buffer, [slots, kv heads, columns, head width]. Its columns are

    prompt, right-aligned | step 0: beam 0 .. K-1 | step 1: beam 0 .. K-1 | ...

A step's K beams are K queries of one row. What a beam may see is a row of `bias` (0 or -inf): the prompt and, of each
step, the one column that its ancestor wrote. When beams change places, only their rows of `bias` do; no key moves.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

# Buffers grow in these steps, so that few clips pay for a copy.
PROMPT_COLUMNS = 32
FIRST_STEPS = 32


class _Window:
    """The part of the buffers that one forward pass writes and reads; all layers share it."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = 0
        self.last = 0
        self.written = torch.empty(0, dtype=torch.int64)


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's buffers, [slots, kv heads, columns, width]."""

    def __init__(self, window: _Window, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window = window
        self.buffers = [keys, values]
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the buffers are there."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write what the K beams of n slots add, [n, kv heads, K, width]; return all that they may look at."""
        window = self.window
        places = window.written[:, None, :, None]
        read = []
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[: window.rows].scatter_(2, places.expand_as(states), states)
            read.append(buffer[: window.rows, :, window.first : window.last])
        return read[0], read[1]

    def get_seq_length(self) -> int:
        """Columns in sight; positions are always given explicitly and are not counted from it."""
        return self.window.last - self.window.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns in sight, the new ones among them; the offset is 0."""
        return self.window.last - self.window.first, 0

    def get_max_length(self) -> int:
        """No maximum: the buffers grow."""
        return -1


class SlotCache:
    """The cache of one stream of clips.

    Args:
        slots: clips at a time.
        num_beams: K.
        max_steps: longest answer in tokens.
        device: where the buffers are.
        dtype: of the attention mask; keys and values keep the dtype that the model computes.
    """

    def __init__(self, *, slots: int, num_beams: int, max_steps: int, device: torch.device, dtype: torch.dtype) -> None:
        self.slots = slots
        self.num_beams = num_beams
        self.max_steps = max_steps
        self.prompt_columns = 0
        self.steps = 0
        self.bias = torch.empty(slots, num_beams, 0, device=device, dtype=dtype)
        self.layers: list[_SlotLayer] = []
        layers: Any = self.layers
        self.states = Cache(layers=layers)
        self._beams = torch.arange(num_beams, device=device)
        self._window = _Window()

    def admit(self, slot: int, prompt: Cache, row: int, length: int) -> None:
        """Give a slot to a new clip.

        Args:
            slot: what was in it is forgotten.
            prompt: the keys and values of a forward pass over prompts padded on the left.
            row: which of those prompts.
            length: its length without padding.
        """
        self._reserve(prompt, prompt_columns=length, steps=1)
        start = self.prompt_columns - length
        for layer, states in zip(self.layers, _states(prompt), strict=True):
            for buffer, source in zip(layer.buffers, states, strict=True):
                buffer[slot, :, start : self.prompt_columns] = source[row, :, -length:]
        self.bias[slot] = -torch.inf
        self.bias[slot, :, start : self.prompt_columns] = 0.0

    def begin_step(self, steps: Tensor, *, longest_prompt: int, most_steps: int) -> Tensor:
        """Open the next column of every beam of the first n slots, before the forward pass that fills it.

        Args:
            steps: [n] int64, which step of its own answer each slot takes.
            longest_prompt: over the n slots, in tokens.
            most_steps: the largest of `steps`; both are asked for so that no device has to be waited for.

        Returns:
            [n, 1, K, columns in sight], the additive attention mask.
        """
        self._reserve(None, prompt_columns=self.prompt_columns, steps=most_steps + 1)
        window, rows = self._window, steps.shape[0]
        window.rows = rows
        window.first = self.prompt_columns - longest_prompt
        window.last = self.prompt_columns + (most_steps + 1) * self.num_beams
        window.written = self.prompt_columns + steps[:, None] * self.num_beams + self._beams
        self.bias[:rows].scatter_(2, window.written[:, :, None], 0.0)
        return self.bias[:rows, None, :, window.first : window.last]

    def follow(self, slots: slice, parents: Tensor) -> None:
        """Let each beam see what its parent saw: parents [n, K] int64, the old place of each beam."""
        bias = self.bias[slots]
        bias.copy_(bias.gather(1, parents[:, :, None].expand_as(bias)))

    def move(self, source: int, target: int) -> None:
        """Put a clip into another slot."""
        self.bias[target] = self.bias[source]
        for layer in self.layers:
            for buffer in layer.buffers:
                buffer[target] = buffer[source]

    def _reserve(self, prompt: Cache | None, *, prompt_columns: int, steps: int) -> None:
        """Let the buffers have room for a prompt and a number of steps; create them at the first prompt."""
        if prompt_columns <= self.prompt_columns and steps <= self.steps:
            return
        wanted = max(self.prompt_columns, -(-prompt_columns // PROMPT_COLUMNS) * PROMPT_COLUMNS)
        room = self.steps if steps <= self.steps else min(max(2 * self.steps, FIRST_STEPS, steps), self.max_steps)
        added = (wanted - self.prompt_columns, (room - self.steps) * self.num_beams)
        self.bias = functional.pad(self.bias, added, value=-torch.inf)
        for layer in self.layers:
            layer.buffers = [functional.pad(buffer, (0, 0, *added)) for buffer in layer.buffers]
        self.prompt_columns, self.steps = wanted, room
        if not self.layers and prompt is not None:
            for keys, values in _states(prompt):
                self.layers.append(_SlotLayer(self._window, self._zeros(keys), self._zeros(values)))

    def _zeros(self, like: Tensor) -> Tensor:
        # Zeros, not just memory: a masked value still takes part as 0 x value, which must not be 0 x NaN.
        return like.new_zeros(self.slots, like.shape[1], self.bias.shape[2], like.shape[3])


def _states(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer."""
    layers: Any = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def next_positions(lengths: Sequence[int], steps: Tensor, num_beams: int) -> Tensor:
    """Positions of the next tokens: prompt lengths and steps of n slots -> [n, K] int64, equal for all beams."""
    prompts = torch.tensor(lengths, device=steps.device)
    return (prompts + steps)[:, None].expand(-1, num_beams)
