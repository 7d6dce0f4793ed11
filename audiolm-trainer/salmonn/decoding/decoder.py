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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.decoder_support import check_supported
from salmonn.decoding.memory_plan import plan_slots
from salmonn.decoding.slots import Prompt, ScoreRule, Slots
from salmonn.decoding.step_graphs import Recorder, cuda_recorder
from salmonn.device import is_out_of_memory

logger = logging.getLogger(__name__)

# Prompts are taken in when a part of the slots is free: a pass over several costs less for each than over one, and a
# slot that waits for the others costs steps. On a CPU nothing is gained beyond a few.
PART_ON_CPU, MOST_ON_CPU = 4, 4
PART_ON_GPU = 8


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
        prefill: prompts in one forward pass, taken in when so many slots are free; None for an eighth of the slots on a
            GPU, a fourth of them but at most 4 on a CPU.
        behind: looks at finished clips that may be under way unread. With 0 each waits for the device; a clip that has
            ended is computed once more for each look that it is not seen in, which changes no answer. None is 0 on a
            CPU and 1 on a GPU.
        score_rule: changes the scores of each step after the settings' own rules.
        record: how steps are recorded (`step_graphs.py`); None for CUDA graphs on a GPU and nothing on a CPU.

    Raises:
        ConfigError: the model attends in a way that this decoder does not carry out.
    """

    def __init__(
        self,
        llm: PreTrainedModel,
        settings: DecoderSettings,
        *,
        slots: int | None = None,
        prefill: int | None = None,
        behind: int | None = None,
        score_rule: ScoreRule | None = None,
        record: Recorder | None = None,
    ) -> None:
        wrapped: Any = llm
        self.llm: Any = wrapped.get_base_model() if hasattr(llm, "get_base_model") else llm
        self.settings = settings
        self.slots = slots
        self._prefill = prefill
        embeddings: Any = self.llm.get_input_embeddings()
        self._device: torch.device = embeddings.weight.device
        self._on_gpu = self._device.type == "cuda"
        self.behind = behind if behind is not None else int(self._on_gpu)
        self._score_rule = score_rule
        self._record = record or (cuda_recorder() if self._on_gpu else None)
        self._idle: Slots | None = None
        check_supported(self.llm)

    @property
    def score_rule(self) -> ScoreRule | None:
        """What changes the scores of each step after the settings' own rules."""
        return self._score_rule

    @score_rule.setter
    def score_rule(self, rule: ScoreRule | None) -> None:
        # What is recorded has the old rule in it.
        self._score_rule, self._idle = rule, None

    @torch.no_grad()
    def decode(self, prompts: Iterable[Prompt]) -> Iterator[tuple[int, list[int]]]:
        """Answer every prompt once.

        Args:
            prompts: (index, [S, H] embeddings of the whole prompt), pulled only when a slot is free.

        Yields:
            (index, new token ids up to and including the first end id), in the order in which the answers are finished.
        """
        rest = iter(prompts)
        while (first := next(rest, None)) is not None:
            rest = chain([first], rest)
            stream = _Stream(self, self._borrow(first[1].shape[0]), rest)
            try:
                yield from stream.run()
            except GeneratorExit:
                self._give_back(stream.slots)
                raise
            except RuntimeError as error:
                # A source of prompts that has failed cannot be asked again.
                if not is_out_of_memory(error) or stream.slots.size == 1 or stream.is_pulling:
                    raise
            else:
                self._give_back(stream.slots)
                return
            # Outside the except block, so that the traceback no longer holds the step's tensors.
            rest = chain(stream.unanswered, rest)
            size = stream.slots.size
            del stream
            self._halve(size)

    @torch.no_grad()
    def first_token(self, prompt: Prompt) -> int:
        """Compute one prompt and choose the first token, of the best beam so far, and no more."""
        slots = self._borrow(prompt[1].shape[0])
        generator = self.generator(prompt[0])
        slots.admit(0, [prompt], None if generator is None else [generator])
        token = int(slots.search.last[0, 0])
        self._give_back(slots)
        return token

    def group(self, size: int) -> int:
        """How many of `size` slots must be free before prompts are taken in, and how many are at a time."""
        wanted = size // PART_ON_GPU if self._on_gpu else min(size // PART_ON_CPU, MOST_ON_CPU)
        return min(max(self._prefill or wanted, 1), size)

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
        return Slots(self.llm, self.settings, slots=self.slots, score_rule=self._score_rule, record=self._record)

    def _give_back(self, slots: Slots) -> None:
        slots.retire(slice(None))
        self._idle = slots

    def _halve(self, size: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
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
        self._group = decoder.group(slots.size)
        self._looks: deque[_Look] = deque()

    def run(self) -> Iterator[tuple[int, list[int]]]:
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
        clips = [_Clip(prompt, self.decoder.generator(prompt[0])) for prompt in prompts]
        self.slots.admit(len(self.clips), prompts, _generators(clips))
        self.clips += clips

    def _step(self) -> None:
        """One forward pass for all clips at work, then a token for every beam."""
        clips = self.clips
        shape = self.slots.shape(
            rows=len(clips),
            prompt=max(clip.prompt[1].shape[0] for clip in clips),
            steps=max(clip.steps for clip in clips),
        )
        self.slots.step(shape, at_work=len(clips), generators=_generators(clips))
        for clip in clips:
            clip.steps += 1

    def _give_out(self) -> Iterator[tuple[int, list[int]]]:
        """Yield the answers of finished clips; the last clips at work move into their slots."""
        self._looks.append(_Look(self.clips, self.slots.search.done[: len(self.clips)]))
        while len(self._looks) > self.decoder.behind:
            done = [clip for clip in self._looks.popleft().done() if not clip.is_given_out]
            if not done:
                continue
            places = {id(clip): slot for slot, clip in enumerate(self.clips)}
            slots = sorted((places[id(clip)] for clip in done), reverse=True)
            for slot, ids in zip(slots, self.slots.answers(slots), strict=True):
                prompt = self._clear(slot).prompt
                yield prompt[0], ids

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
