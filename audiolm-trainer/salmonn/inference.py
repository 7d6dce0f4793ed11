"""A loaded SALMONN that answers requests: the object that meets the evaluator's contract by shape.

`load_model` takes a configuration and a device; `generate` pulls requests lazily, sorts a look-ahead of them by length,
answers them in batches and yields the answers as they are finished. A batch that does not fit into memory is halved.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from salmonn import components
from salmonn.config import Config, from_mapping
from salmonn.decoding import GenerationSettings, generate_ids
from salmonn.errors import SalmonnError
from salmonn.model import SALMONN
from salmonn.prompts import PromptBook, free_prompt, test_prompts

logger = logging.getLogger(__name__)

# How many batches are looked ahead to sort clips of similar length together.
LOOK_AHEAD_BATCHES = 8


class Request(Protocol):
    """What is read of a request: one clip and what is asked of it; audio is float32 [N] at `sampling_rate`."""

    @property
    def index(self) -> int: ...
    @property
    def audio(self) -> NDArray[np.float32]: ...
    @property
    def task(self) -> str: ...
    @property
    def question(self) -> str: ...


class Answer(NamedTuple):
    """One clip's text, its number of new tokens, and whether it ended by itself or at the token limit."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length"]


class _Clip(NamedTuple):
    index: int  # type: ignore[assignment]
    audio: NDArray[np.float32]
    prompt: str


def load_model(config: Mapping[str, Any], device: str) -> "SalmonnLM":
    """Load the model of a configuration.

    Args:
        config: the sections "model", "generate", "datasets", "run" of the YAML schema; paths absolute or
            relative to the working directory.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.

    Raises:
        ConfigError: the configuration is wrong; every problem is listed.
        CheckpointError: a part cannot be loaded or does not fit.
        PromptError: the prompt file is wrong.
    """
    return load_language_model(from_mapping(config), device)


def load_language_model(config: Config, device: str) -> "SalmonnLM":
    """Load the model of a checked configuration; see `load_model`."""
    target = components.choose_device(device)
    dtype = components.choose_dtype(config.model.dtype, target)
    model = SALMONN.from_config(config, device=target, dtype=dtype)
    # Free questions need no prompt file.
    named = bool(config.model.test_prompt_path)
    book = test_prompts(config) if named else PromptBook({}, config.model.prompt_template)
    settings = GenerationSettings(**config.generate.model_dump(exclude={"end_sym"}))
    return SalmonnLM(
        model, prompts=book, settings=settings, end_sym=config.end_sym, batch_size=config.run.batch_size_eval
    )


class SalmonnLM:
    """A SALMONN ready to answer.

    Args:
        model: the model, frozen.
        prompts: task -> prompt.
        settings: how answers are decoded.
        end_sym: text that ends an answer besides the model's own end-of-sequence ids.
        batch_size: clips in a batch.
    """

    def __init__(
        self,
        model: SALMONN,
        *,
        prompts: PromptBook,
        settings: GenerationSettings,
        end_sym: str,
        batch_size: int,
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.batch_size = batch_size
        self.sampling_rate = model.sampling_rate
        self.eos_ids = _eos_ids(model)
        self.settings: GenerationConfig = settings.for_transformers(
            eos_ids=self.eos_ids, bos_id=model.tokenizer.bos_token_id
        )
        end_ids = model.token_ids(end_sym) if end_sym else []
        self.special_ids = _special_ids(model)
        single = len(end_ids) == 1 and end_ids[0] in self.special_ids | set(self.eos_ids)
        self.stop_ids = set(self.eos_ids) | (set(end_ids) if single else set())
        # An end symbol that is no token of its own was learned as plain text and is cut as text, as the original does.
        self.end_text = "" if single else end_sym
        if self.end_text:
            logger.warning(
                "end_sym %r is not one special token of the tokenizer (it is %d of plain text): "
                "it is cut from answers as text",
                end_sym,
                len(end_ids),
            )

    def generate(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answer every request once.

        Args:
            requests: pulled lazily, `LOOK_AHEAD_BATCHES` batches ahead at most.

        Yields:
            Answers, longest clips of each look-ahead first; a clip's text does not depend on the others.

        Raises:
            PromptError: a request's task has no prompt, or needs a question and has none.
        """
        stream = iter(requests)
        while ahead := list(islice(stream, self.batch_size * LOOK_AHEAD_BATCHES)):
            clips = [_Clip(r.index, r.audio, self.prompts.prompt(r.task, r.question)) for r in ahead]
            clips.sort(key=lambda clip: clip.audio.shape[0], reverse=True)
            while clips:
                # Taken anew each time: a batch that did not fit has made the next ones smaller.
                batch, clips = clips[: self.batch_size], clips[self.batch_size :]
                yield from self._answer_fitting(batch)

    def answer(self, audio: NDArray[np.float32], prompt_text: str) -> str:
        """Answer one free question about one clip, float32 [N] at `sampling_rate`."""
        prompt = free_prompt(prompt_text, self.prompts.template)
        return self._answer_fitting([_Clip(0, audio, prompt)])[0].text

    def peak_memory(self) -> int | None:
        """Peak bytes of GPU memory allocated in this process, None without a GPU."""
        device = self.model.speech_encoder.query_tokens.device
        return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

    def _answer_fitting(self, clips: Sequence[_Clip]) -> list[Answer]:
        """Answer a batch; one that does not fit into memory is halved and tried again, down to single clips."""
        try:
            return self._answer_batch(clips)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(clips) == 1:
                raise
        # Outside the except block, so that the traceback no longer holds the batch's tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = (len(clips) + 1) // 2
        logger.warning("a batch of %d clips does not fit into memory: trying %d", len(clips), half)
        self.batch_size = min(self.batch_size, half)
        return self._answer_fitting(clips[:half]) + self._answer_fitting(clips[half:])

    @torch.no_grad()
    def _answer_batch(self, clips: Sequence[_Clip]) -> list[Answer]:
        speech = self.model.embed(self.model.encode([clip.audio for clip in clips]))
        prompts = [self.model.wrap(row, clip.prompt) for row, clip in zip(speech, clips, strict=True)]
        outputs = generate_ids(self.model.llm, prompts, self.settings)
        return [self._to_answer(clip.index, ids) for clip, ids in zip(clips, outputs, strict=True)]

    def _to_answer(self, index: int, ids: Sequence[int]) -> Answer:
        """Decode ids up to the first stop id, special tokens left out by id."""
        stop = next((place for place, token in enumerate(ids) if token in self.stop_ids), None)
        kept = [token for token in ids[:stop] if token not in self.special_ids]
        text = str(self.model.tokenizer.decode(kept))
        cut = bool(self.end_text) and self.end_text in text
        if cut:
            text = text.partition(self.end_text)[0]
        return Answer(index, text, len(ids), "stop" if cut or stop is not None else "length")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means too little memory; PyTorch raises a plain RuntimeError for it on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in text or "out of memory" in text


def _eos_ids(model: SALMONN) -> list[int]:
    """The language model's end-of-sequence ids, a list or one number in its files."""
    for source in (model.llm.generation_config, model.llm.config):
        eos = getattr(source, "eos_token_id", None)
        if eos is not None:
            return [eos] if isinstance(eos, int) else list(eos)
    if model.tokenizer.eos_token_id is None:
        raise SalmonnError("the language model names no end-of-sequence token: set eos_token_id in its config.json")
    return [model.tokenizer.eos_token_id]


def _special_ids(model: SALMONN) -> set[int]:
    """Ids of all special tokens: the tokenizer's named ones and those that its files only mark as special."""
    marked = {index for index, token in model.tokenizer.added_tokens_decoder.items() if token.special}
    return set(model.tokenizer.all_special_ids) | marked
