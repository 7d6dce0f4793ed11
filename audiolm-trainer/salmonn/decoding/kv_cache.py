"""Keys and values of many clips under beam search: the prompt once per clip, ancestors by mask instead of by copying.

A slot is one row of the buffers, [layers, slots, kv heads, columns, head width]. Its columns are

    prompt, right-aligned | step 0: beam 0 .. K-1 | step 1: beam 0 .. K-1 | ...

A step's K beams are K queries of one row. What a beam may see is a row of `bias` (0 or -inf): the prompt and, of each
step, the one column that its ancestor wrote. When beams change places, only their rows of `bias` do; no key moves.

A forward pass is announced: `open_prompts` before one over new prompts, `open_step` before one step of the slots. Both
only queue work on the device, so that a step can be recorded once and replayed (`step_graphs.py`).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

# Prompts get room in these steps, so that a somewhat longer one does not make the buffers anew.
PROMPT_COLUMNS = 32


class StepShape(NamedTuple):
    """The part of the buffers that a step computes: the first `rows` slots, columns `first` to `last`."""

    rows: int
    first: int
    last: int


class _Prompts(NamedTuple):
    """A pass over prompts into slots `rows`; `padding` is bool [n, L], True before a prompt, None without padding."""

    rows: slice
    padding: Tensor | None


class _Step(NamedTuple):
    """A pass over one step; `written` is int64 [rows, K], the columns that it fills."""

    shape: StepShape
    written: Tensor


class _Buffers:
    """What all layers share: the memory and the announced pass."""

    def __init__(self, layers: int, slots: int) -> None:
        self.layers = layers
        self.slots = slots
        self.prompt_columns = 0
        self.step_columns = 0
        self.tensors: list[Tensor] = []
        self.coming: _Prompts | _Step | None = None

    def create(self, *states: Tensor) -> None:
        """Make buffers for states [n, kv heads, L, width]."""
        columns = self.prompt_columns + self.step_columns
        # Zeros, not just memory: a masked value still takes part as 0 x value, which must not be 0 x NaN.
        self.tensors = [s.new_zeros(self.layers, self.slots, s.shape[1], columns, s.shape[3]) for s in states]


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's part of the buffers."""

    def __init__(self, buffers: _Buffers, place: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.buffers = buffers
        self.place = place
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the buffers are made with the first prompt."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep what a pass adds, [n, kv heads, L or K, width]; return all that its tokens may look at."""
        buffers, coming = self.buffers, self.buffers.coming
        if not buffers.tensors:
            buffers.create(key_states, value_states)
        keys, values = (tensor[self.place] for tensor in buffers.tensors)
        if isinstance(coming, _Prompts):
            for buffer, states in ((keys, key_states), (values, value_states)):
                self._keep_prompts(buffer[coming.rows], states, coming.padding)
            return key_states, value_states
        assert coming is not None
        shape, places = coming.shape, coming.written[:, None, :, None]
        read = []
        for buffer, states in ((keys, key_states), (values, value_states)):
            buffer[: shape.rows].scatter_(2, places.expand_as(states), states)
            read.append(buffer[: shape.rows, :, shape.first : shape.last])
        return read[0], read[1]

    def _keep_prompts(self, slots: Tensor, states: Tensor, padding: Tensor | None) -> None:
        # What the slot's last clip left is cleared, lest a NaN of that clip live on in masked places.
        slots.zero_()
        if padding is not None:
            states = states.masked_fill(padding[:, None, :, None], 0.0)
        end = self.buffers.prompt_columns
        slots[:, :, end - states.shape[2] : end] = states

    def get_seq_length(self) -> int:
        """Columns in sight, none before prompts; in a step positions are given and are not counted from it."""
        coming = self.buffers.coming
        return coming.shape.last - coming.shape.first if isinstance(coming, _Step) else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns in sight, the new ones among them; the offset is 0."""
        return (self.get_seq_length() or query_length), 0

    def get_max_length(self) -> int:
        """No maximum: the buffers grow."""
        return -1


class SlotCache:
    """The cache of S slots.

    Args:
        layers: of the language model.
        slots: S, clips at a time.
        num_beams: K.
        max_steps: longest answer in tokens.
        device: where the buffers are.
        dtype: of the attention mask; keys and values keep the dtype that the model computes.
    """

    def __init__(
        self, *, layers: int, slots: int, num_beams: int, max_steps: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.num_beams = num_beams
        self.max_steps = max_steps
        self.steps = 0
        self.bias = torch.empty(slots, num_beams, 0, device=device, dtype=dtype)
        self._buffers = _Buffers(layers, slots)
        parts: Any = [_SlotLayer(self._buffers, place) for place in range(layers)]
        self.states = Cache(layers=parts)
        self._beams = torch.arange(num_beams, device=device)

    @property
    def prompt_columns(self) -> int:
        """Room for prompts, in tokens."""
        return self._buffers.prompt_columns

    def reserve(self, *, prompt: int, steps: int) -> bool:
        """Let there be room for prompts of a length and for a number of steps.

        Returns:
            Whether the buffers are new, so that what was recorded with the old ones means nothing.
        """
        buffers = self._buffers
        prompt = max(buffers.prompt_columns, -(-prompt // PROMPT_COLUMNS) * PROMPT_COLUMNS)
        steps = max(self.steps, min(steps, self.max_steps))
        added = (prompt - buffers.prompt_columns, (steps - self.steps) * self.num_beams)
        if not any(added):
            return False
        self.bias = functional.pad(self.bias, added, value=-torch.inf)
        buffers.tensors = [functional.pad(tensor, (0, 0, *added)) for tensor in buffers.tensors]
        self.steps, buffers.prompt_columns, buffers.step_columns = steps, prompt, steps * self.num_beams
        return True

    def open_prompts(self, first: int, *, number: int, longest: int, padding: Tensor | None) -> None:
        """Announce a forward pass over new prompts, padded on the left; what was in their slots is forgotten.

        Args:
            first: the slot of the first of them; the others follow.
            number: n, how many.
            longest: L, tokens of the longest; there must be room for it.
            padding: bool [n, L], True before a prompt; None if all have L tokens.
        """
        rows, end = slice(first, first + number), self.prompt_columns
        self._buffers.coming = _Prompts(rows, padding)
        self.bias[rows] = -torch.inf
        seen = self.bias[rows, :, end - longest : end]
        seen.zero_()
        if padding is not None:
            seen.masked_fill_(padding[:, None], -torch.inf)

    def open_step(self, places: Tensor, shape: StepShape) -> Tensor:
        """Open the next column of every beam, before the forward pass that fills it.

        Args:
            places: int64 [rows], which step of its own answer each slot takes.
            shape: what is computed; the columns of all these steps must be in it.

        Returns:
            [rows, 1, K, columns in sight], the additive attention mask.
        """
        written = self.prompt_columns + places[:, None] * self.num_beams + self._beams
        self._buffers.coming = _Step(shape, written)
        self.bias[: shape.rows].scatter_(2, written[:, :, None], 0.0)
        return self.bias[: shape.rows, None, :, shape.first : shape.last]

    def shape(self, *, rows: int, prompt: int, steps: int) -> StepShape:
        """The part of the buffers that holds the first slots' prompts of at most a length and a number of steps."""
        return StepShape(rows, self.prompt_columns - prompt, self.prompt_columns + steps * self.num_beams)

    def follow(self, slots: slice, parents: Tensor) -> None:
        """Let each beam see what its parent saw: parents [n, K] int64, the old place of each beam."""
        bias = self.bias[slots]
        bias.copy_(bias.gather(1, parents[:, :, None].expand_as(bias)))

    def move(self, source: int, target: int) -> None:
        """Put a clip into another slot."""
        self.bias[target] = self.bias[source]
        for tensor in self._buffers.tensors:
            tensor[:, target] = tensor[:, source]
