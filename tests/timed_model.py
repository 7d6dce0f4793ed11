"""A model whose time is made up: its work moves a clock that the test reads, so no test depends on the machine."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fake_model import Reply

from evaluator.model import Request


@dataclass
class FakeClock:
    """Seconds that pass only when somebody works."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class TimedProbe:
    """Everything that a probe may offer; `waiting` is work that the device has not done yet."""

    model: "TimedLM"

    def synchronize(self) -> None:
        """Let the device finish."""
        self.model.clock.now += self.model.waiting
        self.model.waiting = 0.0
        self.model.synchronized += 1

    def reset_peak_memory(self) -> None:
        """Begin the peak anew."""
        self.model.peak = 1000

    def first_token(self, request: Request) -> bool:
        """Work as long as the first step takes."""
        self.model.clock.now += self.model.first_seconds
        return self.model.certain

    def figures(self, request: Request) -> dict[str, float]:
        """Count something of the request."""
        return {"parameters_total": 1234567, "samples": len(request.audio)}

    def settings(self) -> dict[str, str | int]:
        """Say what there is to say."""
        return {"device": "made up", "num_beams": 1}


@dataclass
class TimedLM:
    """Answers with `tokens` tokens in `first_seconds + (tokens - 1) * token_seconds`; many clips share the work.

    The first `slow_calls` calls are slower by a minute, as a model is that has never run.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    tokens: int = 5
    first_seconds: float = 1.0
    token_seconds: float = 0.25
    certain: bool = True
    slow_calls: int = 0
    sampling_rate: int = 16000
    waiting: float = 0.0
    peak: int = 5000
    synchronized: int = 0
    calls: int = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer all requests in the time of the longest; the device works on after the last one is handed out."""
        held = list(requests)
        self.calls += 1
        self.clock.now += 60.0 if self.calls <= self.slow_calls else 0.0
        self.clock.now += self.first_seconds
        self.waiting += (self.tokens - 1) * self.token_seconds
        self.peak = max(self.peak, 2000 * len(held))
        for request in reversed(held):
            yield Reply(request.index, "said", self.tokens, "stop")

    def peak_memory(self) -> int:
        """The peak since it was begun anew."""
        return self.peak

    def probe(self) -> Any:
        """Offer everything."""
        return TimedProbe(self)
