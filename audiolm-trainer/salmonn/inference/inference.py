"""A loaded SALMONN that answers requests: the object that meets the evaluator's contract by shape.

`load_model` takes a configuration and a device; `generate` pulls requests lazily, sorts a look-ahead of them by length,
encodes them in batches and yields the answers as they are finished. What does not fit into memory is halved.
`generate.engine` says who decodes: our own decoder (`decoding/decoder.py`), clip by clip as they come, or transformers,
batch by batch. `answer` and `stream` are for one clip and a person who waits; transformers decodes there in either
case.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig

from salmonn.audio.loading import MAX_SECONDS
from salmonn.config.config import from_mapping
from salmonn.config.notices import find_notices
from salmonn.config.schema import Config
from salmonn.decoding.decoder import Decoder
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.token_search import Prompt
from salmonn.decoding.transformers_decoding import GenerationSettings, generate_ids, stream_ids
from salmonn.device import choose_device, choose_dtype, free_cached_memory, is_out_of_memory
from salmonn.errors import PromptError, SalmonnError
from salmonn.gradients import without_gradients
from salmonn.inference.direct_adapter import call_adapters_directly
from salmonn.inference.encode_ahead import encode_ahead, side_stream_of
from salmonn.inference.probe import Probe
from salmonn.inference.unfit import REASON, UnfitClips
from salmonn.model.salmonn import SALMONN
from salmonn.preflight.preflight import check_before_answering
from salmonn.prompts import PromptBook, answer_prompts, free_prompt

logger = logging.getLogger(__name__)

T = TypeVar("T")
DecodingEngine = Literal["own", "transformers"]

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
    """One clip's text, its number of new tokens, and whether it ended by itself or at the token limit.

    With "error" there is no answer, and `error` says why.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length", "error"]
    error: str | None = None


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
        ConfigError: the configuration is wrong, every problem is listed; or `generate.engine` is "own" and it cannot
            run the language model.
        CheckpointError: a part cannot be loaded or does not fit.
        PromptError: the prompt file is wrong.
    """
    return _load(from_mapping(config), device)


def load_language_model(config: Config, device: str) -> "SalmonnLM":
    """Load the model of a checked configuration and log what should be known of it; see `load_model`."""
    check_before_answering(config, device)
    for key, text in find_notices(config, "answer"):
        logger.warning("%s %s", key, text)
    return _load(config, device)


def _load(config: Config, device: str) -> "SalmonnLM":
    target = choose_device(device)
    dtype = choose_dtype(config.model.dtype, target)
    model = SALMONN.from_config(config, device=target, dtype=dtype)
    call_adapters_directly(model.llm)
    return SalmonnLM.from_config(model, config, prompts=answer_prompts(config))


class SalmonnLM:
    """A SALMONN ready to answer.

    Args:
        model: the model; in evaluation mode when it answers. Nothing is kept of its weights.
        prompts: task -> prompt.
        settings: how answers are decoded.
        end_sym: text that ends an answer besides the model's own end-of-sequence ids.
        batch_size: clips that are encoded together, and the batches of transformers. Halved where they do not fit.
        engine: who decodes in `generate`.
        slots: clips that our own decoder decodes at a time; None for as many as free memory and the device's speed
            allow. Halved where they do not fit. Encoders and decoder work side by side, so both are in memory at once.
        seed: of sampling by our own decoder; transformers draws from PyTorch's global generator.

    Raises:
        ConfigError: `engine` is "own" and it cannot run the language model, or leaves out one of its settings.
    """

    def __init__(
        self,
        model: SALMONN,
        *,
        prompts: PromptBook,
        settings: GenerationSettings,
        end_sym: str,
        batch_size: int,
        engine: DecodingEngine = "own",
        slots: int | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.batch_size = batch_size
        self.sampling_rate = model.sampling_rate
        own_eos = _eos_ids(model)
        end_ids = model.token_ids(end_sym) if end_sym else []
        self.special_ids = _special_ids(model)
        single = len(end_ids) == 1 and end_ids[0] in self.special_ids | set(own_eos)
        # A special end symbol ends decoding like the model's own ids, whose first one pads.
        self.eos_ids = list(dict.fromkeys([*own_eos, *(end_ids if single else [])]))
        self.defaults = settings
        self.settings: GenerationConfig = self._for_transformers(settings)
        self.decoder = self._build_decoder(slots, seed) if engine == "own" else None
        self._mode = without_gradients(model)
        self._unfit = UnfitClips()
        self._side_stream = side_stream_of(model.llm.device)
        # An end symbol that is no token of its own was learned as plain text and is cut as text, as the original does.
        self.end_text = "" if single else end_sym
        if self.end_text:
            logger.warning(
                "end_sym %r is not one special token of the tokenizer (it is %d of plain text): "
                "it is cut from answers as text",
                end_sym,
                len(end_ids),
            )

    @classmethod
    def from_config(cls, model: SALMONN, config: Config, *, prompts: PromptBook) -> "SalmonnLM":
        """Let a model answer as the sections `generate` and `run` say."""
        return cls(
            model,
            prompts=prompts,
            settings=GenerationSettings.of(config.generate),
            end_sym=config.end_sym,
            batch_size=config.run.batch_size_eval,
            engine=config.generate.engine,
            slots=config.run.decode_slots or None,
            seed=config.run.seed,
        )

    def generate(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answer every request once.

        Args:
            requests: pulled lazily, `LOOK_AHEAD_BATCHES` batches at a time, and only when all earlier ones are
                answered or being decoded.

        Yields:
            Answers as they are finished, longest clips of each look-ahead first as far as they end alike; a clip's
            text does not depend on the others. A clip that does not fit into memory, even alone, has no answer.

        Raises:
            PromptError: a request's task has no prompt, or needs a question and has none.
            SalmonnError: the first clips do not fit into memory, each alone.
        """
        batches = self._batches(requests)
        for answer in self._answered_in_batches(batches) if self.decoder is None else self._decoded(batches):
            self._unfit.is_any_answered = True
            yield from self._unfit_answers()
            yield answer
        yield from self._unfit_answers()

    def _answered_in_batches(self, batches: Iterable[list[_Clip]]) -> Iterator[Answer]:
        for clips in batches:
            found = self._fitting(clips, lambda some: self._answer_batch(some, self.settings))
            yield from (answer for answer in found if answer is not None)

    def _decoded(self, batches: Iterable[list[_Clip]]) -> Iterator[Answer]:
        assert self.decoder is not None
        for index, ids in self.decoder.decode(self._prompts(batches), unfit=self._unfit.note):
            yield self._to_answer(index, ids)

    def _unfit_answers(self) -> Iterator[Answer]:
        yield from (Answer(index, "", 0, "error", REASON) for index in self._unfit.taken())

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks that the checkpoint says it was trained with; () where it does not say."""
        return self.model.trained_tasks

    @property
    def max_seconds(self) -> float:
        """Seconds of a clip that are heard; what comes later is not."""
        window = self.model.speech_encoder.front_end.max_samples / self.sampling_rate
        return min(window, float(MAX_SECONDS))

    def answer(self, audio: NDArray[np.float32], prompt_text: str, settings: GenerationSettings | None = None) -> str:
        """Answer one free question about one clip.

        Args:
            audio: float32 [N] at `sampling_rate`.
            prompt_text: the question; the audio slot and the template are put around it.
            settings: how to decode; None for the configuration's own.
        """
        prompt = free_prompt(prompt_text, self.prompts.template)
        chosen = self.settings if settings is None else self._for_transformers(settings)
        return self._answer_batch([_Clip(0, audio, prompt)], chosen)[0].text

    def stream(
        self, audio: NDArray[np.float32], prompt: str, settings: GenerationSettings | None = None
    ) -> Generator[str, None, Answer]:
        """Answer one filled prompt about one clip while it grows.

        Args:
            audio: float32 [N] at `sampling_rate`.
            prompt: text with the audio slot once and the template around it; see `inference/conversation.py`.
            settings: how to decode; None for the configuration's own. With beams the answer comes at once.

        Yields:
            The whole text so far, at least once; each begins with the one before, and the last is the answer's. Half
            a character and half an end symbol are held back. Closing the iterator ends the generation.

        Returns:
            The answer, with its number of tokens and why it ended.

        Raises:
            PromptError: the prompt has no audio slot, or the answer to it may not fit into the model's context.
            SalmonnError: the memory does not suffice.
        """
        chosen = self.settings if settings is None else self._for_transformers(settings)
        try:
            return (yield from self._stream(_Clip(0, audio, prompt), chosen))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise SalmonnError(
                "the memory does not suffice for this answer: ask with fewer beams or for a shorter one"
            ) from error

    def _stream(self, clip: _Clip, settings: GenerationConfig) -> Generator[str, None, Answer]:
        embeds = self._embed([clip])[0]
        self._check_context(embeds.shape[0], settings)
        answer, shown = Answer(0, "", 0, "length"), None
        with closing(stream_ids(self.model.llm, embeds, settings)) as growing:
            for ids in growing:
                answer = self._to_answer(0, ids)
                text = self._settled(answer.text)
                if text and text != shown and text.startswith(shown or ""):
                    shown = text
                    yield text
                if self.end_text and answer.finish_reason == "stop":
                    break
        if answer.text != shown:
            yield answer.text
        return answer

    def _settled(self, text: str) -> str:
        """Leave out what the next token may change: an unfinished character, the beginning of an end symbol."""
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        for length in range(len(self.end_text) - 1, 0, -1):
            if text.endswith(self.end_text[:length]):
                return text[:-length]
        return text

    def _check_context(self, prompt_length: int, settings: GenerationConfig) -> None:
        """Refuse a prompt that leaves no room for its answer in the language model's context."""
        room = getattr(self.model.llm.config, "max_position_embeddings", None)
        wanted = prompt_length + settings.max_new_tokens
        if room is not None and wanted > room:
            raise PromptError(
                f"the model reads {room} tokens, but the conversation has {prompt_length} and the answer may have "
                f"{settings.max_new_tokens}: ask for a shorter answer, or start anew"
            )

    def _for_transformers(self, settings: GenerationSettings) -> GenerationConfig:
        return settings.for_transformers(eos_ids=self.eos_ids, bos_id=self.model.tokenizer.bos_token_id)

    def peak_memory(self) -> int | None:
        """Peak bytes of GPU memory allocated in this process, None without a GPU."""
        device = self.model.speech_encoder.query_tokens.device
        return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

    def _build_decoder(self, slots: int | None, seed: int) -> Decoder:
        llm = self.model.llm
        return Decoder(llm, DecoderSettings.from_transformers(self.settings, llm, seed=seed), slots=slots)

    def _batches(self, requests: Iterable[Request]) -> Iterator[list[_Clip]]:
        """Cut look-aheads of requests, sorted by length, into batches."""
        stream = iter(requests)
        while ahead := list(islice(stream, self.batch_size * LOOK_AHEAD_BATCHES)):
            clips = [_Clip(r.index, r.audio, self.prompts.prompt(r.task, r.question)) for r in ahead]
            clips.sort(key=lambda clip: clip.audio.shape[0], reverse=True)
            while clips:
                # Taken anew each time: a batch that did not fit has made the next ones smaller.
                batch, clips = clips[: self.batch_size], clips[self.batch_size :]
                yield batch

    def _prompts(self, batches: Iterable[list[_Clip]]) -> Iterator[Prompt]:
        """Encode batch by batch, when the decoder asks for the first clip of one or while it decodes the last one."""
        for clips, embeds in encode_ahead(batches, lambda some: self._fitting(some, self._embed), self._side_stream):
            pairs = zip(clips, embeds, strict=True)
            yield from (Prompt(clip.index, prompt) for clip, prompt in pairs if prompt is not None)

    def _fitting(self, clips: Sequence[_Clip], work: Callable[[Sequence[_Clip]], list[T]]) -> list[T | None]:
        """Do something with a batch; one that does not fit into memory is halved and tried again.

        Returns:
            What `work` gave for each clip; None for one that does not fit alone, which is noted.
        """
        try:
            return list(work(clips))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except block, so that the traceback no longer holds the batch's tensors.
        free_cached_memory()
        if len(clips) == 1:
            self._unfit.note(clips[0].index)
            return [None]
        half = (len(clips) + 1) // 2
        logger.warning("a batch of %d clips does not fit into memory: trying %d", len(clips), half)
        self.batch_size = min(self.batch_size, half)
        return self._fitting(clips[:half], work) + self._fitting(clips[half:], work)

    def _answer_batch(self, clips: Sequence[_Clip], settings: GenerationConfig) -> list[Answer]:
        outputs = generate_ids(self.model.llm, self._embed(clips), settings)
        return [self._to_answer(clip.index, ids) for clip, ids in zip(clips, outputs, strict=True)]

    def _embed(self, clips: Sequence[_Clip]) -> list[Tensor]:
        """Encode clips and splice each into its prompt: -> [S, H] each."""
        with self._mode():
            speech = self.model.embed(self.model.encode([clip.audio for clip in clips]))
            return [self.model.wrap(row, clip.prompt) for row, clip in zip(speech, clips, strict=True)]

    def _to_answer(self, index: int, ids: Sequence[int]) -> Answer:
        """Decode ids up to the first stop id, special tokens left out by id."""
        stop = next((place for place, token in enumerate(ids) if token in self.eos_ids), None)
        kept = [token for token in ids[:stop] if token not in self.special_ids]
        text = self.model.token_text.text(kept)
        cut = bool(self.end_text) and self.end_text in text
        if cut:
            text = text.partition(self.end_text)[0]
        return Answer(index, text, len(ids), "stop" if cut or stop is not None else "length")

    def probe(self) -> Probe:
        """Return what a measurement may ask of this model."""
        return Probe(self)


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
    # A special token without a text has no id.
    return {index for index in model.tokenizer.all_special_ids if index is not None} | marked
