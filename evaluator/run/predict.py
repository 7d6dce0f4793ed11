"""Predicting: a stream of samples in, one Prediction in the journal for each of them.

Audio is decoded ahead in threads and handed to the model one request at a time, as the model pulls them.
Every answer is checked against the contract of evaluator/model.py and written to the journal before the next
one is asked for. Nothing is kept of a row that has its answer, so that a stream may be of any length.
"""

import contextlib
import operator
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, SupportsIndex

from evaluator.annotation.annotation import Sample
from evaluator.audio.clip import Clip
from evaluator.audio.loading import read_ahead
from evaluator.errors import AudioError, ContractError, ends_by_signal
from evaluator.model import Answer, AudioLM, Request
from evaluator.provider.probe import heard_seconds
from evaluator.run.journal import FINISH_REASONS, Journal, Prediction, reference_of
from evaluator.run.watch import Watch
from evaluator.wording import named, shown

OnAudioError = Literal["fail", "record"]
_NEEDED = tuple(name for name in Answer._fields if name not in Answer._field_defaults)


def predict(
    model: AudioLM,
    samples: Iterable[Sample],
    *,
    journal: Journal,
    on_audio_error: OnAudioError,
    workers: int,
    watch: Watch,
) -> None:
    """Ask the model for every sample.

    Args:
        model: a loaded model that meets the contract.
        samples: the rows, taken as they are needed; their `index` values are distinct.
        journal: gets every prediction the moment it is there.
        on_audio_error: what a clip that cannot be read does: "fail" stops the run, "record" makes it a
            prediction with an empty text and the reason. Another clip's audio never takes its place.
        workers: threads that decode audio ahead of the model, as many clips as it has taken at once before; 0
            decodes when the model pulls.
        watch: told every prediction.

    Raises:
        AudioError: if a clip cannot be read and `on_audio_error` is "fail".
        ContractError: if the model breaks the contract; the journal keeps what it had answered before.
    """
    run = _Run(
        journal=journal,
        on_audio_error=on_audio_error,
        sampling_rate=checked_sampling_rate(model),
        heard_seconds=heard_seconds(model),
        watch=watch,
    )
    requests = run.requests(samples, workers)
    answers = checked_answers(model, requests)
    try:
        for answer in answers:
            run.accept(answer)
        run.finish(requests)
    finally:
        # Whatever ended the loop, the model and the reading threads unwind now, not when the interpreter gets
        # to it.
        for stream in (answers, requests):
            close = getattr(stream, "close", None)
            if close is not None:
                close()


def checked_sampling_rate(model: AudioLM) -> int:
    """The model's sampling rate in Hz.

    Raises:
        ContractError: if the model has none, or it is not a whole number above 0.
    """
    rate: object = getattr(model, "sampling_rate", None)
    if not isinstance(rate, int) or isinstance(rate, bool) or rate <= 0:
        raise ContractError(f"The model's sampling_rate must be a whole number of Hz above 0, and it is {rate!r}.")
    return rate


def checked_answers(model: AudioLM, requests: Iterator[Request]) -> Iterator[object]:
    """What the model yields for requests, which are pulled by it.

    Raises:
        ContractError: if it returns nothing that yields, or ends the process.
    """
    try:
        answers: object = model.generate(requests)
        if not isinstance(answers, Iterable):
            raise ContractError(f"The model's generate must yield answers, and it returned {shown(answers)}.")
        yield from answers
    except SystemExit as ending:
        if ends_by_signal(ending):
            raise
        raise ContractError(
            f"The model's generate ended the process (exit code {ending.code!r}) before every clip was answered."
        ) from ending


def checked_answer(answer: object) -> Answer:
    """An answer of any class that has the four fields of the contract, as an Answer.

    Raises:
        ContractError: if a field is missing, of the wrong type or out of its range; every such field is
            named.
    """
    if type(answer) is not Answer and (missing := [name for name in _NEEDED if not hasattr(answer, name)]):
        raise ContractError(
            f"The model yielded {shown(answer)}, which is no answer: it lacks {', '.join(missing)}. "
            f"An answer has the fields {', '.join(_NEEDED)}."
        )
    found: Any = answer
    index, num_tokens = _whole(found.index), _whole(found.num_tokens)
    wrong = []
    if index is None:
        wrong.append(f"index is {shown(found.index)}, not a whole number")
    if not isinstance(found.text, str):
        wrong.append(f"text is {shown(found.text)}, not a string")
    if num_tokens is None or num_tokens < 0:
        wrong.append(f"num_tokens is {shown(found.num_tokens)}, not a whole number from 0")
    if found.finish_reason not in FINISH_REASONS:
        wrong.append(f"finish_reason is {shown(found.finish_reason)}, none of {', '.join(FINISH_REASONS)}")
    error: Any = getattr(found, "error", None)
    if found.finish_reason == "error":
        if not isinstance(error, str) or not error.strip():
            wrong.append(f'error is {shown(error)}, and finish_reason "error" needs the reason')
    elif error is not None:
        wrong.append(f'error is {shown(error)}, and finish_reason is not "error"')
    if index is None or num_tokens is None or wrong:
        raise ContractError(f"The model's answer for index {shown(found.index)} is wrong: {'; '.join(wrong)}.")
    return Answer(index, found.text, num_tokens, found.finish_reason, error)


def require_answer(answer: Answer) -> Answer:
    """An answer that is one, for whoever has no place to count a failure in.

    Raises:
        ContractError: the model gave a reason why there is none.
    """
    if answer.error is not None:
        raise ContractError(f"The model has no answer for index {answer.index}: {answer.error}.")
    return answer


@dataclass(slots=True)
class _Pulled:
    sample: Sample
    at: float
    audio_seconds: float


@dataclass(slots=True, kw_only=True)
class _Run:
    """The books of one stream: which requests the model holds, which are answered, how many it takes at once."""

    journal: Journal
    on_audio_error: OnAudioError
    sampling_rate: int
    heard_seconds: float | None
    watch: Watch
    pending: dict[int, _Pulled] = field(default_factory=dict)
    # A byte for each row up to the last one that was answered, for a run may have millions.
    done: bytearray = field(default_factory=bytearray)
    failure: AudioError | None = None
    at_once: int = 0
    most_at_once: int = 0

    def requests(self, samples: Iterable[Sample], workers: int) -> Iterator[Request]:
        """Yield a request for each clip that can be read; the model pulls them."""
        read: deque[Sample] = deque()

        def clips() -> Iterator[Path | Clip]:
            for sample in samples:
                read.append(sample)
                yield sample.clip

        audios = read_ahead(clips(), self.sampling_rate, workers, wanted=lambda: self.most_at_once)
        with contextlib.closing(audios):
            for audio in audios:
                sample = read.popleft()
                if isinstance(audio, AudioError):
                    self.refuse(sample, audio)
                    continue
                if self.heard_seconds is not None:
                    audio = audio[: int(self.heard_seconds * self.sampling_rate)]
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                self.pending[sample.index] = _Pulled(sample, time.perf_counter(), len(audio) / self.sampling_rate)
                yield Request(sample.index, audio, sample.task, sample.question)

    def refuse(self, sample: Sample, error: AudioError) -> None:
        """Deal with a clip that cannot be read: stop the run, or record it."""
        if self.on_audio_error == "fail":
            # Kept as well as raised: a model that swallows errors of its input must not turn this into a
            # short run.
            self.failure = error
            raise error
        self.record(failed_prediction(sample, error.message))

    def accept(self, given: object) -> None:
        """Check an answer and record it."""
        self.at_once = 0
        answer = checked_answer(given)
        pulled = self.pending.pop(answer.index, None)
        if pulled is None:
            raise ContractError(self._why_unwanted(answer.index))
        sample = pulled.sample
        if answer.error is not None:
            self.record(failed_prediction(sample, answer.error))
            return
        self.record(
            Prediction(
                index=sample.index,
                id=sample.id,
                task=sample.task,
                text=answer.text,
                num_tokens=answer.num_tokens,
                finish_reason=answer.finish_reason,
                audio_seconds=pulled.audio_seconds,
                seconds=time.perf_counter() - pulled.at,
                path=str(sample.path),
                reference=reference_of(sample.references),
            )
        )

    def record(self, prediction: Prediction) -> None:
        """Write a prediction down and count it."""
        self.journal.append(prediction)
        if prediction.index >= len(self.done):
            self.done.extend(bytes(2 * (prediction.index + 1) - len(self.done)))
        self.done[prediction.index] = 1
        self.watch.count(prediction)

    def finish(self, requests: Iterator[Request]) -> None:
        """Check that nothing is left unanswered once the model says that it has finished."""
        if self.failure is not None:
            raise self.failure
        if self.pending:
            pulled = [f"{index} ({self.pending[index].sample.id})" for index in sorted(self.pending)]
            raise ContractError(
                f"The model ended without answering {len(pulled)} request(s) it had pulled: index {named(pulled, 10)}."
            )
        unasked = next(requests, None)
        if unasked is not None:
            sample = self.pending[unasked.index].sample
            raise ContractError(
                f"The model ended without pulling all requests; the next one has index {sample.index} ({sample.id})."
            )

    def _why_unwanted(self, index: int) -> str:
        if 0 <= index < len(self.done) and self.done[index]:
            return f"The model answered index {index} more than once."
        return f"The model answered index {index}, which no request that it pulled has."


def failed_prediction(sample: Sample, reason: str) -> Prediction:
    """The prediction of a row that has no answer."""
    return Prediction(
        index=sample.index,
        id=sample.id,
        task=sample.task,
        text="",
        num_tokens=0,
        finish_reason="error",
        audio_seconds=0.0,
        seconds=0.0,
        error=reason,
        path=str(sample.path),
        reference=reference_of(sample.references),
    )


def _whole(value: object) -> int | None:
    """A whole number (NumPy's as well) as an int; None for anything else, True and False included."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    return operator.index(value)
