"""From prompt embeddings to new token ids, through transformers' `generate`.

Rows of different length are padded on the left, where masks and positions make padding invisible, so a row's tokens do
not depend on its neighbours. `stream_ids` continues one prompt and tells what it has at every step.
"""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from salmonn.config.schema import GenerateConfig


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """The YAML's `generate` section, without its `end_sym` (which is about text).

    Attributes carry transformers' names and meanings, but for `min_length`: above 1 it counts new tokens; 1, which
    configurations have by default, has no effect. `temperature` and `top_p` count only with `do_sample`. What the
    section does not have (top_k, suppressed tokens) is the language model's own, as in the original.
    """

    max_new_tokens: int = 200
    num_beams: int = 4
    do_sample: bool = False
    min_length: int = 1
    temperature: float = 1.0
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0

    @classmethod
    def of(cls, section: GenerateConfig) -> "GenerationSettings":
        """Take the settings of a configuration's section."""
        return cls(**section.model_dump(exclude={"end_sym", "engine"}))

    def for_transformers(self, *, eos_ids: Sequence[int], bos_id: int | None) -> GenerationConfig:
        """Build transformers' own settings; the pad id is the first end-of-sequence id, as in the original."""
        settings: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
            "do_sample": self.do_sample,
            "min_length": min(self.min_length, 1),
            "repetition_penalty": self.repetition_penalty,
        }
        if self.min_length > 1:
            # transformers' own min_length counts the prompt, which is longer than any answer is meant to be.
            settings["min_new_tokens"] = self.min_length
        if self.do_sample:
            settings |= {"temperature": self.temperature, "top_p": self.top_p}
        if self.num_beams > 1:
            settings["length_penalty"] = self.length_penalty
        return GenerationConfig(  # type: ignore[no-untyped-call]
            **settings, eos_token_id=list(eos_ids), pad_token_id=eos_ids[0], bos_token_id=bos_id
        )


def generate_ids(llm: PreTrainedModel, prompts: Sequence[Tensor], settings: GenerationConfig) -> list[list[int]]:
    """Continue B prompts.

    Args:
        llm: a causal language model of transformers, or one wrapped by peft.
        prompts: [S, H] each, the embeddings of the whole prompt; lengths may differ.
        settings: transformers' generation settings, with its end-of-sequence ids.

    Returns:
        B lists of new token ids, each up to and including its first end-of-sequence id.
    """
    return _generate(llm, prompts, settings)


def stream_ids(llm: PreTrainedModel, prompt: Tensor, settings: GenerationConfig) -> Generator[list[int], None, None]:
    """Continue one prompt, and tell the new ids after every token.

    Args:
        llm: as in `generate_ids`.
        prompt: [S, H].
        settings: as in `generate_ids`. A beam search does not know its answer before its end: it yields once.

    Yields:
        All new token ids so far; the last are those of `generate_ids`. Closing the iterator ends the generation
        after its present step.
    """
    arrived: SimpleQueue[int | None] = SimpleQueue()
    closed = Event()
    more: dict[str, Any] = {"stopping_criteria": StoppingCriteriaList([_when(closed)])}
    if settings.num_beams == 1:
        more["streamer"] = _TokenQueue(arrived)
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(_generate, llm, [prompt], settings, **more)
        future.add_done_callback(lambda _: arrived.put(None))
        ids: list[int] = []
        try:
            while (token := arrived.get()) is not None:
                ids.append(token)
                yield list(ids)
        finally:
            closed.set()
        result = future.result()[0]
    if result != ids:
        yield result


@torch.no_grad()
def _generate(
    llm: PreTrainedModel, prompts: Sequence[Tensor], settings: GenerationConfig, **more: Any
) -> list[list[int]]:
    embeds = pad_sequence(list(prompts), batch_first=True, padding_side="left")
    lengths = torch.tensor([prompt.shape[0] for prompt in prompts], device=embeds.device)
    places = torch.arange(embeds.shape[1], device=embeds.device)
    attention_mask = (places[None, :] >= embeds.shape[1] - lengths[:, None]).long()
    generate: Any = llm.generate
    output = generate(inputs_embeds=embeds, attention_mask=attention_mask, generation_config=settings, **more)
    stops = set(settings.eos_token_id)
    return [until_stop(row, stops) for row in output.tolist()]


class _TokenQueue(BaseStreamer):
    """Takes what transformers hands a streamer: first the prompt's ids (none, with embeddings), then each new one."""

    def __init__(self, arrived: SimpleQueue[int | None]) -> None:
        self.arrived = arrived

    def put(self, value: Tensor) -> None:
        for token in value.flatten().tolist():
            self.arrived.put(token)

    def end(self) -> None:
        """Do nothing: the end is told by the thread, which knows of errors too."""


def _when(closed: Event) -> Any:
    """Build a stopping rule, ids [B, S] -> bool [B], that holds once an event is set."""

    def is_closed(ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return torch.full((ids.shape[0],), closed.is_set(), device=ids.device)

    return is_closed


def until_stop(ids: Sequence[int], stops: set[int]) -> list[int]:
    """Cut after the first stop id: ([5, 6, 2, 2], {2}) -> [5, 6, 2]."""
    for place, token in enumerate(ids):
        if token in stops:
            return list(ids[: place + 1])
    return list(ids)
