"""Model packages for tests: real implementations of evaluator/model.py without weights.

EchoLM answers from the audio it is given, so a test can see which clip's audio it heard.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from evaluator.model import Request


class Reply(NamedTuple):
    """A model's own answer class: it meets the contract by shape."""

    index: Any
    text: Any
    num_tokens: Any
    finish_reason: Any


def heard(request: Request) -> str:
    """What EchoLM says: the task and the length of what it heard."""
    return f"{request.task} {len(request.audio)}"


@dataclass
class EchoLM:
    """Answers in batches, each backwards, so that the order of answers is not that of the requests."""

    say: Callable[[Request], str] = heard
    batch_size: int = 3
    sampling_rate: int = 16000
    pulled: list[Request] = field(default_factory=list)
    fail_after: int | None = None

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer batch by batch; raise after `fail_after` answers."""
        batch: list[Request] = []
        answered = 0
        for request in requests:
            self.pulled.append(request)
            batch.append(request)
            if len(batch) == self.batch_size:
                for reply in self._answers(batch):
                    if answered == self.fail_after:
                        raise RuntimeError("the model fell over")
                    answered += 1
                    yield reply
                batch = []
        yield from self._answers(batch)

    def _answers(self, batch: list[Request]) -> Iterator[Reply]:
        for request in reversed(batch):
            yield Reply(request.index, self.say(request), 2, "stop")


@dataclass
class FakeProvider:
    """A model package: what `import salmonn` gives."""

    model: Any = field(default_factory=EchoLM)
    labels: Mapping[str, bool] = field(
        default_factory=lambda: {"asr": False, "audiocaption": False, "audiocaption_v2": False, "qa": True}
    )
    problems: list[tuple[str, str]] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)
    known: list[tuple[str, str]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    loads: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.__name__ = "fakelm"

    def load_model(self, config: Mapping[str, Any], device: str) -> Any:
        """Hand over the model, or raise it if it is an error."""
        self.loads.append((dict(config), device))
        if isinstance(self.model, Exception):
            raise self.model
        return self.model

    def check_config(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The problems given."""
        return self.problems

    def check_parts(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The problems of files given."""
        return self.parts

    def notices(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What should be known."""
        return self.known

    def fingerprints(self, config: Mapping[str, Any]) -> dict[str, str]:
        """The digests given."""
        return self.digests

    def tasks(self, config: Mapping[str, Any]) -> Mapping[str, bool]:
        """The labels given."""
        return self.labels
