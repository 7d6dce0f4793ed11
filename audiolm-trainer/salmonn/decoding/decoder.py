"""Continuous decoding of audio prompts: slots that are refilled from the stream as soon as a clip is finished.

Each clip's prompt is computed once, whatever the number of beams; a forward pass then takes one step of every clip at
work, each at its own place in its own answer. The model is transformers' own, plain or with adapters; only the cache
and the attention mask are ours (`kv_cache.py`). A clip's answer is what transformers' `generate` gives for it alone.

This file is the host's side: which clip is in which slot, when prompts are taken in and answers given out. What is
computed is in `slots.py`. On a GPU a step is one recorded CUDA graph, and the host looks at the end of a step only
when the next one is on its way.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.decoder_support import attention_window, check_supported, without_adapter
from salmonn.decoding.memory_plan import plan_slots
from salmonn.decoding.slots import ScoreRule, Slots
from salmonn.decoding.step_graphs import Recorder, cuda_recorder
from salmonn.decoding.token_search import Prompt, Tokens
from salmonn.device import free_cached_memory, is_out_of_memory
from salmonn.errors import ConfigError
from salmonn.gradients import without_gradients

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a decoder drives its device: everything in which a CPU and a GPU differ.

    Attributes:
        part: prompts are taken in when one slot in so many is free. A pass over several costs less for each than over
            one, and a slot that waits for the others costs steps.
        most: prompts in one forward pass at most; None for no limit.
        behind: looks at finished clips that may be under way unread. With 0 each waits for the device; a clip that has
            ended is computed once more for each look that it is not seen in, which changes no answer.
        record: how steps are recorded (`step_graphs.py`); None computes them as they are.
    """

    part: int
    most: int | None
    behind: int = 0
    record: Recorder | None = None

    @classmethod
    def on(cls, device: torch.device) -> "Execution":
        """The usual way of a device."""
        if device.type == "cuda":
            return cls(part=8, most=None, behind=1, record=cuda_recorder())
        # Nothing is gained by taking in more than a few.
        return cls(part=4, most=4)

    def group(self, slots: int) -> int:
        """How many of all slots must be free before prompts are taken in, and how many are at a time."""
        return max(min(slots // self.part, self.most or slots), 1)


@dataclass(slots=True, eq=False)
class _Clip:
    """What the host knows of a clip at work without asking the device."""

    prompt: Prompt
    generator: torch.Generator | None
    steps: int = 1
    is_given_out: bool = False


class _Look:
    """Which clips were done at one moment; asked for at once, read when the device has come so far."""

    def __init__(self, clips: list[_Clip], done: Tensor) -> None:
        self.clips = list(clips)
        self._arrived: torch.cuda.Event | None = None
        self._done = done.clone()
        if done.device.type == "cuda":
            self._done = torch.empty(done.shape, dtype=done.dtype, pin_memory=True)
            self._done.copy_(done, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def done(self) -> list[_Clip]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return [clip for clip, is_done in zip(self.clips, self._done.tolist(), strict=True) if is_done]


class Decoder:
    """Answers a stream of prompts with a decoder-only language model.

    Slots that do not fit into memory are halved; what was at work starts again, with the same answers. The memory of
    the slots stays with the decoder from one stream to the next; streams at the same time have memory of their own.

    Args:
        llm: a causal language model of transformers, or one wrapped by peft; in evaluation mode.
        settings: how answers are decoded.
        slots: clips at a time; None for as many as free memory and the device's speed allow (`memory_plan.py`).
        score_rule: changes the scores of each step after the settings' own rules, as transformers' `logits_processor`
            does; the benchmarks give their answers known lengths with it.
        execution: how the device is driven; None for its usual way.

    Raises:
        ConfigError: the model attends in a way that this decoder does not carry out.
    """

    def __init__(
        self,
        llm: PreTrainedModel,
        settings: DecoderSettings,
        *,
        slots: int | None = None,
        score_rule: ScoreRule | None = None,
        execution: Execution | None = None,
    ) -> None:
        self.llm = without_adapter(llm)
        self.settings = settings
        self.slots = slots
        self._device: torch.device = self.llm.get_input_embeddings().weight.device
        self.execution = execution or Execution.on(self._device)
        self._score_rule = score_rule
        self._idle: Slots | None = None
        check_supported(self.llm, new_tokens=settings.max_new_tokens)
        self._window = attention_window(self.llm.config)
        self._mode = without_gradients(self.llm)

    def decode(
        self, prompts: Iterable[tuple[int, Tensor]], *, unfit: Callable[[int], None] | None = None
    ) -> Iterator[Tokens]:
        """Answer every prompt once.

        Args:
            prompts: (index, [S, H] embeddings of the whole prompt), pulled only when a slot is free.
            unfit: told the index of a prompt that does not fit into memory, even alone, and has no answer; None: that
                is an error.

        Yields:
            The answers, in the order in which they are finished.
        """
        # Inside a step only: what is done with an answer, and between two, is the caller's own.
        yield from self._mode()(self._decode)(prompts, unfit)

    def _decode(self, prompts: Iterable[tuple[int, Tensor]], unfit: Callable[[int], None] | None) -> Iterator[Tokens]:
        rest: Iterator[Prompt] = map(Prompt._make, prompts)
        while (first := next(rest, None)) is not None:
            rest = chain([first], rest)
            stream = _Stream(self, self._borrow(first.embeds.shape[0]), rest)
            try:
                yield from stream.run()
            except GeneratorExit:
                self._give_back(stream.slots)
                raise
            except RuntimeError as error:
                # A source of prompts that has failed cannot be asked again.
                if not is_out_of_memory(error) or stream.is_pulling or (stream.slots.size == 1 and unfit is None):
                    raise
            else:
                self._give_back(stream.slots)
                return
            # Outside the except block, so that the traceback no longer holds the step's tensors.
            unanswered, size = stream.unanswered, stream.slots.size
            del stream
            free_cached_memory()
            if size == 1 and unfit is not None:
                unfit(unanswered.pop(0).index)
            else:
                self._halve(size)
            rest = chain(unanswered, rest)

    def first_token(self, prompt: Prompt) -> int:
        """Compute one prompt and choose the first token, of the best beam so far, and no more."""
        with self._mode():
            return self._first_token(prompt)

    def _first_token(self, prompt: Prompt) -> int:
        self.check_window(prompt)
        slots = self._borrow(prompt.embeds.shape[0])
        generator = self.generator(prompt.index)
        slots.admit(0, [prompt], None if generator is None else [generator])
        token = int(slots.search.last[0, 0])
        self._give_back(slots)
        return token

    def check_window(self, prompt: Prompt) -> None:
        """Refuse a prompt that is, with its answer, longer than what a layer with a sliding window sees.

        Raises:
            ConfigError: it is.
        """
        length = prompt.embeds.shape[0]
        if self._window is not None and length + self.settings.max_new_tokens > self._window:
            raise ConfigError(
                f"clip {prompt.index}: a prompt of {length} tokens and an answer of up to "
                f"{self.settings.max_new_tokens} do not fit into the sliding window of {self._window} tokens of "
                f"{type(self.llm).__name__}: set generate.max_new_tokens lower, or generate.engine: transformers"
            )

    def generator(self, index: int) -> torch.Generator | None:
        """What a clip draws from when sampling."""
        if not self.settings.do_sample:
            return None
        return torch.Generator(self._device).manual_seed(clip_seed(self.settings.seed, index))

    def _borrow(self, prompt_length: int) -> Slots:
        """Take the idle slots, or make some for prompts of about a length."""
        slots, self._idle = self._idle, None
        if slots is not None:
            return slots
        if self.slots is None:
            self.slots = plan_slots(self.llm, self.settings, prompt_length=prompt_length)
        record = self.execution.record
        return Slots(self.llm, self.settings, slots=self.slots, score_rule=self._score_rule, record=record)

    def _give_back(self, slots: Slots) -> None:
        slots.retire(slice(None))
        self._idle = slots

    def _halve(self, size: int) -> None:
        self.slots = (size + 1) // 2
        logger.warning("%d clips at a time do not fit into memory: trying %d", size, self.slots)


class _Stream:
    """One run over a stream: which clip is in which slot; the first `len(self.clips)` slots are at work."""

    def __init__(self, decoder: Decoder, slots: Slots, prompts: Iterator[Prompt]) -> None:
        self.decoder = decoder
        self.slots = slots
        self.prompts = prompts
        self.clips: list[_Clip] = []
        self.unanswered: list[Prompt] = []
        self.is_pulling = False
        self._group = decoder.execution.group(slots.size)
        self._looks: deque[_Look] = deque()

    def run(self) -> Iterator[Tokens]:
        """Alternate between taking clips in, a step of all, and giving answers out."""
        while True:
            while taken := self._take():
                self._admit(taken)
                yield from self._give_out()
            if not self.clips:
                return
            self._step()
            yield from self._give_out()

    def _take(self) -> list[Prompt]:
        free = self.slots.size - len(self.clips)
        if free < self._group and self.clips:
            return []
        self.is_pulling = True
        taken = list(islice(self.prompts, min(free, self._group)))
        self.is_pulling = False
        self.unanswered += taken
        return taken

    def _admit(self, prompts: list[Prompt]) -> None:
        """Compute prompts and choose their first tokens."""
        for prompt in prompts:
            self.decoder.check_window(prompt)
        clips = [_Clip(prompt, self.decoder.generator(prompt.index)) for prompt in prompts]
        self.slots.admit(len(self.clips), prompts, _generators(clips))
        self.clips += clips

    def _step(self) -> None:
        """One forward pass for all clips at work, then a token for every beam."""
        clips = self.clips
        shape = self.slots.shape(
            rows=len(clips),
            prompt=max(clip.prompt.embeds.shape[0] for clip in clips),
            steps=max(clip.steps for clip in clips),
        )
        self.slots.step(shape, at_work=len(clips), generators=_generators(clips))
        for clip in clips:
            clip.steps += 1

    def _give_out(self) -> Iterator[Tokens]:
        """Yield the answers of finished clips; the last clips at work move into their slots."""
        self._looks.append(_Look(self.clips, self.slots.search.done[: len(self.clips)]))
        while len(self._looks) > self.decoder.execution.behind:
            done = [clip for clip in self._looks.popleft().done() if not clip.is_given_out]
            if not done:
                continue
            places = {id(clip): slot for slot, clip in enumerate(self.clips)}
            slots = sorted((places[id(clip)] for clip in done), reverse=True)
            for slot, ids in zip(slots, self.slots.answers(slots), strict=True):
                yield Tokens(self._clear(slot).prompt.index, ids)

    def _clear(self, slot: int) -> _Clip:
        """Take a finished clip out of its slot."""
        clip, last = self.clips[slot], len(self.clips) - 1
        clip.is_given_out = True
        self.unanswered = [prompt for prompt in self.unanswered if prompt is not clip.prompt]
        if slot != last:
            self.slots.move(last, slot)
            self.clips[slot] = self.clips[last]
        self.slots.retire(slice(last, last + 1))
        self.clips.pop()
        return clip


def _generators(clips: list[_Clip]) -> list[torch.Generator] | None:
    return [clip.generator for clip in clips if clip.generator] or None


def clip_seed(seed: int, index: int) -> int:
    """Seed of one clip's own generator."""
    return (seed * 1_000_003 + index) % 2**63
