"""A model and a clock: how long answers take, one clip alone or many together.

In: a model's probe and requests whose waveforms are in memory. Out: seconds with the checked answers. The device is
waited for before the clock starts and before it stops; answers are checked after it has stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evaluator.errors import ContractError
from evaluator.model import Answer, Request
from evaluator.provider.probe import ModelProbe
from evaluator.run.predict import checked_answer, require_answer

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class TimedAnswers:
    """Answers in the order of the requests, and the seconds they took together."""

    seconds: float
    answers: tuple[Answer, ...]

    @property
    def tokens(self) -> int:
        """New tokens of all answers."""
        return sum(answer.num_tokens for answer in self.answers)


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first token of one clip, measured twice.

    Attributes:
        seconds: the shorter of the two times.
        certain: whether that token was certain to begin the answer.
        doubt: how far the two times are apart, in seconds: no difference below it means anything.
    """

    seconds: float
    certain: bool
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class SingleClip:
    """One clip asked alone: its whole answer, and its first token where the model can be asked for that."""

    whole: TimedAnswers
    first: FirstToken | None

    @property
    def text(self) -> str:
        """What was answered."""
        return self.whole.answers[0].text


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """A model and a clock.

    Attributes:
        probe: the model's.
        clock: gives seconds, never going back.
        counted: told the clips of each measurement that is done.
    """

    probe: ModelProbe
    clock: Clock
    counted: Callable[[int], None] = lambda clips: None

    def together(self, requests: Sequence[Request]) -> TimedAnswers:
        """Time one `generate`.

        Raises:
            ContractError: the answers are not one well-formed answer for each request.
        """
        self.probe.synchronize()
        begin = self.clock()
        given = list(self.probe.model.generate(iter(requests)))
        self.probe.synchronize()
        seconds = self.clock() - begin
        self.counted(len(requests))
        return TimedAnswers(seconds, _in_order(given, requests))

    def alone(self, request: Request) -> SingleClip:
        """Time one clip, and right before and after it its first token.

        The two are subtracted, a machine's speed drifts, and whatever disturbs it makes a time longer, never shorter.
        """
        if not self.probe.offers("first_token"):
            return SingleClip(self.together([request]), None)
        before = self._first(request)
        whole = self.together([request])
        after = self._first(request)
        return SingleClip(whole, replace(min(before, after, key=_seconds), doubt=abs(before.seconds - after.seconds)))

    def _first(self, request: Request) -> FirstToken:
        self.probe.synchronize()
        begin = self.clock()
        certain = self.probe.first_token(request)
        self.probe.synchronize()
        seconds = self.clock() - begin
        self.counted(1)
        return FirstToken(seconds, certain)


def _seconds(first: FirstToken) -> float:
    return first.seconds


def _in_order(given: Sequence[object], requests: Sequence[Request]) -> tuple[Answer, ...]:
    """The answers in the order of their requests."""
    answers = [require_answer(checked_answer(answer)) for answer in given]
    found = {answer.index: answer for answer in answers}
    asked = [request.index for request in requests]
    if len(answers) != len(asked) or set(found) != set(asked):
        got = sorted(answer.index for answer in answers)
        raise ContractError(f"The model was asked for index {sorted(asked)} and answered {got}.")
    return tuple(found[index] for index in asked)
