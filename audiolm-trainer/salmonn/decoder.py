"""Continuous decoding of audio prompts: slots that are refilled from the stream as soon as a clip is finished.

Each clip's prompt is computed once, whatever the number of beams; a forward pass then takes one step of every clip at
work, each at its own place in its own answer. The model is transformers' own, plain or with adapters; only the cache
and the attention mask are ours (`kv_cache.py`). A clip's answer is what transformers' `generate` gives for it alone.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, DynamicCache, PreTrainedModel

from salmonn.attention import shared_attention
from salmonn.beam_search import BeamSearch
from salmonn.decoder_settings import DecoderSettings
from salmonn.decoder_support import check_supported
from salmonn.kv_cache import SlotCache, next_positions
from salmonn.out_of_memory import is_out_of_memory
from salmonn.score_rules import ScoreRules
from salmonn.token_choice import TokenChoice

logger = logging.getLogger(__name__)

# Changes scores, float32 [n, K, V], given the clips' n indices and how many tokens each has; must not mix clips.
ScoreRule: TypeAlias = Callable[[Tensor, Sequence[int], Sequence[int]], Tensor]
Prompt: TypeAlias = tuple[int, Tensor]

# Rows of one forward pass, over all beams, where nothing else is asked for.
ROWS = 64


@dataclass(slots=True)
class _Clip:
    """What the host knows of a clip at work without asking the device."""

    prompt: Prompt
    prompt_length: int
    eos_from: int
    steps: int = 0
    generator: torch.Generator | None = None


class Decoder:
    """Answers a stream of prompts with a decoder-only language model.

    Slots that do not fit into memory are halved; what was at work starts again, with the same answers.

    Args:
        llm: a causal language model of transformers, or one wrapped by peft; in evaluation mode.
        settings: how answers are decoded.
        slots: clips at a time; None for as many as make `ROWS` rows.
        prefill: prompts in one forward pass. With 1 a prompt is computed without padding, which costs nothing on a CPU
            and makes it independent of its neighbours to the last bit; a GPU wants more.
        look_every: steps between two looks at which clips are finished. A look waits for the device; without it a clip
            that has ended runs on for nothing, which changes no answer.
        score_rule: changes the scores of each step after the settings' own rules.

    Raises:
        SalmonnError: the model attends in a way that this decoder does not carry out.
    """

    def __init__(
        self,
        llm: PreTrainedModel,
        settings: DecoderSettings,
        *,
        slots: int | None = None,
        prefill: int = 1,
        look_every: int = 1,
        score_rule: ScoreRule | None = None,
    ) -> None:
        wrapped: Any = llm
        self.llm: Any = wrapped.get_base_model() if hasattr(llm, "get_base_model") else llm
        self.settings = settings
        self.slots = slots or max(ROWS // settings.num_beams, 1)
        self.prefill = prefill
        self.look_every = look_every
        self.score_rule = score_rule
        check_supported(self.llm)

    @torch.no_grad()
    def decode(self, prompts: Iterable[Prompt]) -> Iterator[tuple[int, list[int]]]:
        """Answer every prompt once.

        Args:
            prompts: (index, [S, H] embeddings of the whole prompt), pulled only when a slot is free.

        Yields:
            (index, new token ids up to and including the first end id), in the order in which the answers are finished.
        """
        rest = iter(prompts)
        while True:
            stream = _Stream(self, rest)
            try:
                yield from stream.run()
                return
            except RuntimeError as error:
                # A source of prompts that has failed cannot be asked again.
                if not is_out_of_memory(error) or self.slots == 1 or stream.is_pulling:
                    raise
            # Outside the except block, so that the traceback no longer holds the step's tensors.
            rest = chain(stream.unanswered, rest)
            del stream
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("%d clips at a time do not fit into memory: trying %d", self.slots, (self.slots + 1) // 2)
            self.slots = (self.slots + 1) // 2


class _Stream:
    """One run over a stream: its slots, of which the first `len(self.clips)` are at work."""

    def __init__(self, decoder: Decoder, prompts: Iterator[Prompt]) -> None:
        settings = decoder.settings
        self.decoder = decoder
        self.prompts = prompts
        self.device: torch.device = decoder.llm.get_input_embeddings().weight.device
        self.clips: list[_Clip] = []
        self.unanswered: list[Prompt] = []
        self.is_pulling = False
        self.unseen_steps = 0
        self.search: BeamSearch | TokenChoice = (BeamSearch if settings.num_beams > 1 else TokenChoice)(
            settings, slots=decoder.slots, device=self.device
        )
        self.rules = ScoreRules(settings, self.device)
        self.cache = SlotCache(
            slots=decoder.slots,
            num_beams=settings.num_beams,
            max_steps=settings.max_new_tokens,
            device=self.device,
            dtype=decoder.llm.dtype,
        )

    def run(self) -> Iterator[tuple[int, list[int]]]:
        """Alternate between taking clips in, a step of all, and giving answers out."""
        while True:
            while len(self.clips) < self.decoder.slots and (taken := self._take()):
                self._admit(taken)
                yield from self._give_out()
            if not self.clips:
                return
            self._step()
            yield from self._give_out()

    def _take(self) -> list[Prompt]:
        free = self.decoder.slots - len(self.clips)
        self.is_pulling = True
        taken = list(islice(self.prompts, min(free, self.decoder.prefill)))
        self.is_pulling = False
        self.unanswered += taken
        return taken

    def _admit(self, prompts: Sequence[Prompt]) -> None:
        """Compute prompts and choose their first tokens."""
        first = len(self.clips)
        lengths = [embeds.shape[0] for _, embeds in prompts]
        logits, states = self._read([embeds for _, embeds in prompts], lengths)
        for row, prompt in enumerate(prompts):
            slot = first + row
            self.search.start(slot)
            self.cache.admit(slot, states, row, lengths[row])
            self.clips.append(self._clip(prompt))
        beams = self.decoder.settings.num_beams
        self._choose(slice(first, len(self.clips)), logits[:, -1:].expand(-1, beams, -1))

    def _read(self, prompts: Sequence[Tensor], lengths: Sequence[int]) -> tuple[Tensor, Cache]:
        """Forward pass over prompts, padded on the left: logits of their last tokens, [n, 1, V], and the states."""
        states = DynamicCache()
        embeds = pad_sequence(list(prompts), batch_first=True, padding_side="left")
        mask = positions = None
        if min(lengths) < embeds.shape[1]:
            places = torch.arange(embeds.shape[1], device=self.device)
            starts = embeds.shape[1] - torch.tensor(lengths, device=self.device)
            mask = (places >= starts[:, None]).long()
            positions = (places - starts[:, None]).clamp(min=0)
        output = self.decoder.llm(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=states,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits, states

    def _step(self) -> None:
        """One forward pass for all clips at work, then a token for every beam."""
        llm, clips = self.decoder.llm, self.clips
        # The last chosen token, not the next one, goes in.
        steps = self._steps(slice(0, len(clips))) - 1
        mask = self.cache.begin_step(
            steps,
            longest_prompt=max(clip.prompt_length for clip in clips),
            most_steps=max(clip.steps for clip in clips) - 1,
        )
        with shared_attention(llm.config):
            output = llm(
                input_ids=self.search.last[: len(clips)],
                attention_mask=mask,
                position_ids=next_positions([clip.prompt_length for clip in clips], steps, self.search.width),
                past_key_values=self.cache.states,
                use_cache=True,
            )
        self._choose(slice(0, len(clips)), output.logits)

    def _choose(self, slots: slice, logits: Tensor) -> None:
        """Choose the next token of every beam from logits [n, K, V]."""
        clips, steps = self.clips[slots], self._steps(slots)
        scores = self.rules.apply(
            self.search.to_scores(logits), self.search.tokens[slots], steps=steps, eos_from=self._eos_from(clips)
        )
        if self.decoder.score_rule:
            scores = self.decoder.score_rule(scores, [clip.prompt[0] for clip in clips], [clip.steps for clip in clips])
        generators = [clip.generator for clip in clips if clip.generator] or None
        parents = self.search.advance(slots, scores, steps=steps, generators=generators)
        if parents is not None:
            self.cache.follow(slots, parents)
        for clip in clips:
            clip.steps += 1

    def _give_out(self) -> Iterator[tuple[int, list[int]]]:
        """Yield the answers of finished clips; the last clips at work move into their slots."""
        self.unseen_steps += 1
        at_limit = any(clip.steps == self.decoder.settings.max_new_tokens for clip in self.clips)
        if self.unseen_steps < self.decoder.look_every and not at_limit:
            return
        self.unseen_steps = 0
        done = self.search.done[: len(self.clips)].tolist()
        for slot in reversed([slot for slot, is_done in enumerate(done) if is_done]):
            prompt = self.clips[slot].prompt
            answer = prompt[0], self.search.result(slot)
            self.unanswered = [other for other in self.unanswered if other is not prompt]
            last = len(self.clips) - 1
            if slot != last:
                self.search.move(last, slot)
                self.cache.move(last, slot)
                self.clips[slot] = self.clips[last]
            self.clips.pop()
            yield answer

    def _clip(self, prompt: Prompt) -> _Clip:
        settings, (index, embeds) = self.decoder.settings, prompt
        clip = _Clip(prompt, embeds.shape[0], settings.eos_from(embeds.shape[0]))
        if settings.do_sample:
            clip.generator = torch.Generator(self.device).manual_seed(clip_seed(settings.seed, index))
        return clip

    def _steps(self, slots: slice) -> Tensor:
        return torch.tensor([clip.steps for clip in self.clips[slots]], device=self.device)

    def _eos_from(self, clips: Sequence[_Clip]) -> Tensor | None:
        if all(clip.steps >= clip.eos_from for clip in clips):
            return None
        return torch.tensor([clip.eos_from for clip in clips], device=self.device)


def clip_seed(seed: int, index: int) -> int:
    """Seed of one clip's own generator."""
    return (seed * 1_000_003 + index) % 2**63
