"""The contract between the evaluator and a model: two value types and one generate call.

Only NumPy arrays and strings cross it. A model meets it by shape and never imports this file. What a model promises:
one answer per request; a clip's text does not depend on the other requests, their number or their order; no special
tokens in the text; the text is neither lower-cased nor normalised (the CSV writer and the scorer own that).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FinishReason = Literal["stop", "length", "refusal", "error"]


class Request(NamedTuple):
    """One clip to be answered.

    Attributes:
        index: the row in the annotation, 0-based; the answer carries it back.
        audio: float32 [N], mono, at the model's sampling rate, unpadded (never batched with anything).
        task: the annotation's task label, for example "asr" or "audiocaption_v2".
        question: the annotation's Q, "" where it has none.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    audio: NDArray[np.float32]
    task: str
    question: str


class Answer(NamedTuple):
    """What the model says of one clip.

    Attributes:
        index: the request's.
        text: the answer, "" where there is none.
        num_tokens: new tokens; 0 where nobody counts them.
        finish_reason: "stop"; "length", the token limit cut it off; "refusal", the model declared that it will not
            answer; "error", there is no answer, and the next attempt asks again.
        error: why there is no answer, with "error" alone.
    """

    index: int  # type: ignore[assignment]
    text: str
    num_tokens: int
    finish_reason: FinishReason
    error: str | None = None


class AnswerLike(Protocol):
    """What is read of an answer: an `Answer`, or a model package's own class of the same shape; `error` is optional."""

    @property
    def index(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def finish_reason(self) -> FinishReason: ...


@runtime_checkable
class AudioLM(Protocol):
    """A loaded model."""

    sampling_rate: int

    def generate(self, requests: Iterable[Request]) -> Iterator[AnswerLike]:
        """Pull requests as there is room, yield each answer as it is finished, in any order."""
        ...


class ModelProvider(Protocol):
    """What `evaluate_salmonn.py` hands to the evaluator: the model package itself.

    A package may also offer light functions (no weights are read), all asked before the model loads:
    `check_config(config) -> Iterable[tuple[str, str]]`: problems of its own sections as (dotted key, message);
    `check_parts(config) -> Iterable[tuple[str, str]]`: the same of the files that the sections name;
    `notices(config) -> Iterable[tuple[str, str]]`: what is not wrong and should be known, (dotted key, what of it);
    `fingerprints(config) -> Mapping[str, str]`: dotted key -> digest of the file it names, "" for what is not here yet:
    an interrupted run goes on only where they are the same;
    `tasks(config) -> Mapping[str, bool]`: the task labels it has prompts for -> whether the prompt needs a question.
    """

    def load_model(self, config: Mapping[str, Any], device: str) -> AudioLM:
        """Load the model of the sections "model", "generate", "datasets", "run" on a device ("cpu", "cuda:0")."""
        ...
