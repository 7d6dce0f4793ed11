"""Control runs: the same requests with other audio. What a model still gets right then it has not heard.

silence gives zeros of the clip's length, noise white noise as loud as the clip, shuffle the audio of the clip that the
model took just before; the first request gets the second's. With one request alone there is nothing to exchange.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.errors import ConfigError
from evaluator.model import AnswerLike, AudioLM, ModelProvider, Request
from evaluator.provider.loading import name_of
from evaluator.tasks import Control


class LoadedOnce:
    """A model package whose model is loaded once, however often it is asked for; all else is the package's own.

    Args:
        provider: the package.
    """

    def __init__(self, provider: ModelProvider) -> None:
        self._provider = provider
        self._model: AudioLM | None = None
        self.__name__ = name_of(provider)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def load_model(self, config: Mapping[str, Any], device: str) -> AudioLM:
        """Load the model, or give the one that is loaded."""
        if self._model is None:
            self._model = self._provider.load_model(config, device)
        return self._model


class Controlled:
    """A model package whose model is given other audio.

    Args:
        provider: the package.
        kind: what audio.
    """

    def __init__(self, provider: ModelProvider, kind: Control) -> None:
        self._provider = provider
        self.control = kind
        self.__name__ = f"{name_of(provider)}, hearing {kind}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def load_model(self, config: Mapping[str, Any], device: str) -> AudioLM:
        """Load the model."""
        return _ControlledLM(self._provider.load_model(config, device), self.control)


class _ControlledLM:
    """A model between whose requests and itself the audio is replaced."""

    def __init__(self, model: AudioLM, kind: Control) -> None:
        self._model = model
        self._kind = kind
        self.sampling_rate = model.sampling_rate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, requests: Iterable[Request]) -> Iterator[AnswerLike]:
        """Answer the requests with other audio."""
        return self._model.generate(replaced(requests, self._kind))


def replaced(requests: Iterable[Request], kind: Control) -> Iterator[Request]:
    """Replace the audio of requests; of lazily pulled ones at most two are held.

    Raises:
        ConfigError: shuffle, and there is one request only.
    """
    if kind != "shuffle":
        for request in requests:
            yield request._replace(audio=_noise(request) if kind == "noise" else np.zeros_like(request.audio))
        return
    stream = iter(requests)
    first, second = next(stream, None), next(stream, None)
    if first is None:
        return
    if second is None:
        raise ConfigError("--control shuffle exchanges clips, and there is one only: take silence or noise.")
    yield first._replace(audio=second.audio)
    yield second._replace(audio=first.audio)
    before = second.audio
    for request in stream:
        yield request._replace(audio=before)
        before = request.audio


def _noise(request: Request) -> NDArray[np.float32]:
    """White noise as long and as loud as the clip, the same for a row every time."""
    drawn = np.random.default_rng(request.index).standard_normal(request.audio.shape)
    loudness = float(np.sqrt(np.mean(np.square(request.audio, dtype=np.float64)))) if request.audio.size else 0.0
    noise: NDArray[np.float32] = (loudness * drawn).astype(np.float32)
    return noise
