"""The clips at work, on the device: prompts go in, every step chooses a token for each, answers come out.

S slots hold a clip each, with K beams. Everything here only queues work on the device, in place, and waits for nothing
(but `answers`), so a step can be recorded and replayed. A slot whose clip is done, or that never had one, may be
computed with the others: it repeats its last step, which changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from salmonn.decoding.attention import masked_kernels, shared_attention
from salmonn.decoding.beam_search import BeamSearch
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.kv_cache import SlotCache, StepShape
from salmonn.decoding.score_rules import ScoreRules
from salmonn.decoding.step_graphs import Recorder, StepGraphs
from salmonn.decoding.token_choice import TokenChoice
from salmonn.decoding.token_search import Prompt, TokenSearch
from salmonn.device import to_device

# Changes scores, float32 [n, K, V], given the clips' indices and how many tokens each has, int64 [n] both, all on the
# device; must not mix clips, and must ask the device for nothing.
ScoreRule: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

# Room for so many steps at first, doubled when it is used up, so that short answers take little memory.
FIRST_STEPS = 32


class Slots:
    """S slots and all that is on the device for them.

    Args:
        llm: a causal language model of transformers, without a wrapper.
        settings: how answers are decoded.
        slots: S.
        score_rule: changes the scores of each step after the settings' own rules.
        record: records steps; None computes them as they are. With it memory for the longest answer is taken at once.
    """

    def __init__(
        self,
        llm: Any,
        settings: DecoderSettings,
        *,
        slots: int,
        score_rule: ScoreRule | None,
        record: Recorder | None,
    ) -> None:
        device = llm.get_input_embeddings().weight.device
        self.llm = llm
        self.settings = settings
        self.size = slots
        self.device: torch.device = device
        self.score_rule = score_rule
        self.search: TokenSearch = (BeamSearch if settings.num_beams > 1 else TokenChoice)(
            settings, slots=slots, device=device
        )
        self.rules = ScoreRules(settings, device)
        self.cache = SlotCache(
            layers=llm.config.get_text_config().num_hidden_layers,
            slots=slots,
            num_beams=settings.num_beams,
            max_steps=settings.max_new_tokens,
            device=device,
            dtype=llm.dtype,
        )
        self.graphs = StepGraphs(record)
        # Of each slot: its clip's index, its prompt's length, tokens chosen so far, tokens before it may end.
        self._indices = torch.zeros(slots, dtype=torch.int64, device=device)
        self._lengths = torch.zeros_like(self._indices)
        self._steps = torch.ones_like(self._indices)
        self._eos_from = torch.zeros_like(self._indices)

    def admit(self, first: int, prompts: Sequence[Prompt], generators: list[torch.Generator] | None) -> None:
        """Compute prompts and choose their first tokens.

        Args:
            first: the slot of the first prompt; the others follow.
            prompts: at least one.
            generators: one a prompt when sampling.
        """
        slots = slice(first, first + len(prompts))
        lengths = [embeds.shape[0] for _, embeds in prompts]
        self._reserve(prompt=max(lengths), steps=1)
        self._indices[slots] = to_device([index for index, _ in prompts], self.device)
        self._lengths[slots] = to_device(lengths, self.device)
        self._eos_from[slots] = to_device([self.settings.eos_from(length) for length in lengths], self.device)
        self._steps[slots] = 0
        self.search.start(slots)
        logits = self._read(first, [embeds for _, embeds in prompts], lengths)
        self._choose(slots, logits.expand(-1, self.settings.num_beams, -1), generators)

    def step(self, shape: StepShape, *, at_work: int, generators: list[torch.Generator] | None) -> None:
        """Compute one step: a token more for every beam.

        Args:
            shape: of `shape`, what is computed.
            at_work: slots with a clip, the first ones.
            generators: one for each of them when sampling.
        """
        if generators is None:
            self.graphs.run(shape, lambda: self._choose(slice(0, shape.rows), self._forward(shape), None))
            return
        # Each clip draws from a generator of its own, which no recording knows.
        logits = self.graphs.run(shape, lambda: self._forward(shape))
        self._choose(slice(0, at_work), logits[:at_work], generators)

    def shape(self, *, rows: int, prompt: int, steps: int) -> StepShape:
        """What a step computes for the first slots, with prompts of at most a length, `steps` tokens chosen at most.

        Where steps are recorded the shape is rounded up, so that few of them are.
        """
        if self.graphs.record is not None:
            rows = min(_power_of_two(rows), self.size)
            steps = max(_power_of_two(steps), FIRST_STEPS)
        steps = min(steps, self.settings.max_new_tokens)
        self._reserve(prompt=prompt, steps=steps)
        if self.graphs.record is not None:
            prompt = self.cache.prompt_columns
        return self.cache.shape(rows=rows, prompt=prompt, steps=steps)

    def answers(self, slots: Sequence[int]) -> list[list[int]]:
        """The answers of slots that are done, in one look at the device."""
        return self.search.results(to_device(slots, self.device))

    def move(self, source: int, target: int) -> None:
        """Put a clip into another slot."""
        self.search.move(source, target)
        self.cache.move(source, target)
        for state in (self._indices, self._lengths, self._steps, self._eos_from):
            state[target] = state[source]

    def retire(self, slots: slice) -> None:
        """Take slots out of work."""
        self.search.done[slots] = True

    def _reserve(self, *, prompt: int, steps: int) -> None:
        if self.graphs.record is not None:
            # New buffers would undo what is recorded.
            steps = self.settings.max_new_tokens
        elif steps > self.cache.steps:
            steps = max(2 * self.cache.steps, FIRST_STEPS, steps)
        if self.cache.reserve(prompt=prompt, steps=steps):
            self.graphs.clear()

    def _read(self, first: int, prompts: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
        """Forward pass over prompts, padded on the left: logits of their last tokens, [n, 1, V]."""
        embeds = pad_sequence(list(prompts), batch_first=True, padding_side="left")
        number, longest, _ = embeds.shape
        padding = mask = positions = None
        if min(lengths) < longest:
            places = torch.arange(longest, device=self.device)
            starts = longest - self._lengths[first : first + number, None]
            padding = places < starts
            positions = (places - starts).clamp(min=0)
            mask = _causal_mask(padding, self.llm.dtype)
        self.cache.open_prompts(first, number=number, longest=longest, padding=padding)
        with masked_kernels():
            output = self.llm(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self.cache.states,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: Tensor = output.logits[:, -1:]
        return logits

    def _forward(self, shape: StepShape) -> Tensor:
        """Forward pass of one step: logits [rows, K, V]."""
        # The last chosen token, not the next one, goes in.
        places = self._steps[: shape.rows] - 1
        mask = self.cache.open_step(places, shape)
        positions = (self._lengths[: shape.rows] + places)[:, None].expand(-1, self.search.width)
        with shared_attention(self.llm.config):
            output = self.llm(
                input_ids=self.search.last[: shape.rows],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self.cache.states,
                use_cache=True,
            )
        logits: Tensor = output.logits
        return logits

    def _choose(self, slots: slice, logits: Tensor, generators: list[torch.Generator] | None) -> None:
        """Choose the next token of every beam from logits [n, K, V]."""
        steps = self._steps[slots].clone()
        at_work = ~self.search.done[slots]
        scores = self.rules.apply(
            self.search.to_scores(logits), self.search.tokens[slots], steps=steps, eos_from=self._eos_from[slots]
        )
        if self.score_rule:
            scores = self.score_rule(scores, self._indices[slots], steps)
        parents = self.search.advance(slots, scores, steps=steps, generators=generators)
        if parents is not None:
            self.cache.follow(slots, parents)
        self._steps[slots].add_(at_work)


def _power_of_two(number: int) -> int:
    """The next power of two: 5 -> 8, 8 -> 8."""
    return 1 << max(number - 1, 0).bit_length()


def _causal_mask(padding: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask of prompts padded on the left: bool [n, L] -> [n, 1, L, L].

    A place of padding sees itself, so that its softmax has something to divide by; nothing else sees it.
    """
    length = padding.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=padding.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=padding.device)
    seen = (causal & ~padding[:, None, :]) | itself
    return torch.zeros(seen.shape, dtype=dtype, device=padding.device).masked_fill(~seen, -torch.inf)[:, None]
