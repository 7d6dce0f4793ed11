"""What a model may offer for measuring it, and "not offered" where it does not.

A model (evaluator/model.py) may have two methods more. `peak_memory() -> int | None` is the accelerator's peak in
bytes. An attribute `max_seconds` says how much of a clip the model hears; it is given no more than that, and what is
longer is counted as cut. The package may say the same before anything is loaded: `max_seconds(config) -> float`.
`probe()` gives an object with any of these, all optional:

    synchronize() -> None                  wait until the device has done everything that was asked of it
    reset_peak_memory() -> None            begin the accelerator's peak anew
    first_token(request) -> bool           answer as far as the first token, as `generate` would; whether that token is
                                           certain to begin the answer (greedy, sampling) or may change (beam search)
    figures(request) -> {name: number}     parameters_total, macs_encoders and whatever else the model can count
    settings() -> {name: value}            device, dtype, beams, longest answer: what the figures hold for
    stages(request) -> sequence of Stage   what answering one clip greedily takes, in order: the first prepares
                                           features, the one before the last ends with the logits of the first token,
                                           the last is one decoding step; each only queues its work
    activations(run) -> int                bytes that tensors take at most while a stage runs, above what was there

Nothing is guessed for a method that is not there: its figures are reported as not offered.
"""

import logging
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, SupportsIndex

from evaluator.errors import ContractError
from evaluator.model import AudioLM, Request
from evaluator.wording import shown

logger = logging.getLogger(__name__)

MOST_SECONDS = 30.0
"""What every clip is cut to, as the original does; a model may hear less."""

Setting = str | int | float | bool | None


def heard_seconds(model: object) -> float | None:
    """Seconds of a clip that a model says it hears; None where it does not say.

    Raises:
        ContractError: what it says is no number above 0.
    """
    found: object = getattr(model, "max_seconds", None)
    return None if found is None else checked_seconds(found)


def checked_seconds(value: object) -> float:
    """What a model or its package says it hears, at most MOST_SECONDS.

    Raises:
        ContractError: it is no number above 0.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ContractError(f"A model's max_seconds must be a number of seconds above 0, and it is {shown(value)}.")
    return min(float(value), MOST_SECONDS)


class Stage(Protocol):
    """One stage of answering a clip: the component's name, what does its work, bytes of the weights it alone reads."""

    @property
    def name(self) -> str: ...
    @property
    def run(self) -> Callable[[], None]: ...
    @property
    def weights_bytes(self) -> int: ...


FEWEST_STAGES = 3
"""Features, the language model over the prompt, and a step."""


@dataclass(frozen=True, slots=True)
class ModelProbe:
    """A model's optional methods, each asked only if it is there."""

    model: AudioLM
    offered: object | None

    @classmethod
    def of(cls, model: AudioLM) -> "ModelProbe":
        """Ask a model for its probe; a model without `probe`, or whose `probe` fails, offers nothing."""
        ask: Any = getattr(model, "probe", None)
        return cls(model, _measured("probe", ask) if ask is not None else None)

    def offers(self, name: str) -> bool:
        """Whether the probe has a method of this name."""
        return callable(getattr(self.offered, name, None))

    def synchronize(self) -> None:
        """Wait for the device, where the model can."""
        if self.offers("synchronize"):
            self._call("synchronize")

    def reset_peak_memory(self) -> None:
        """Begin the accelerator's peak anew, where the model can."""
        if self.offers("reset_peak_memory"):
            _measured("probe().reset_peak_memory", partial(self._call, "reset_peak_memory"))

    def peak_memory(self) -> int | None:
        """The accelerator's peak in bytes; None where the model does not know it or has no accelerator."""
        ask: Any = getattr(self.model, "peak_memory", None)
        found = _measured("peak_memory", ask) if ask is not None else None
        if found is None:
            return None
        if isinstance(found, SupportsIndex) and not isinstance(found, bool) and operator.index(found) >= 0:
            return operator.index(found)
        logger.warning("The model's peak_memory returned %.80r, not bytes: it is not recorded.", found)
        return None

    def first_token(self, request: Request) -> bool:
        """Have the first token computed; whether it is certain. Only for a probe that offers it.

        Raises:
            ContractError: if the model does not say whether it is.
        """
        certain = self._call("first_token", request)
        if not isinstance(certain, bool):
            raise ContractError(f"The probe's first_token must return True or False, and it returned {certain!r}.")
        return certain

    def figures(self, request: Request) -> dict[str, float]:
        """What the model counts for a request; nothing where it counts nothing.

        Raises:
            ContractError: if a figure is no number from 0.
        """
        found = self._mapping("figures", request)
        for name, value in found.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0:
                raise ContractError(f"The probe's figure {name!r} must be a number from 0, and it is {value!r}.")
        return found

    def settings(self) -> dict[str, Setting]:
        """What the figures hold for, in the model's own words; nothing where it does not say.

        Raises:
            ContractError: if a setting is not a text, a number, True, False or None.
        """
        found = self._mapping("settings")
        for name, value in found.items():
            finite = not isinstance(value, float) or math.isfinite(value)
            if not isinstance(value, (str, int, float, bool, type(None))) or not finite:
                raise ContractError(f"The probe's setting {name!r} must be a text or a number, and it is {value!r}.")
        return found

    def stages(self, request: Request) -> list[Stage]:
        """What answering a request takes, stage by stage.

        Raises:
            ContractError: the model does not offer it, or gives something else.
        """
        if not self.offers("stages"):
            raise ContractError("The model's probe offers no stages(request): evaluator/provider/probe.py says what.")
        found = self._call("stages", request)
        if not isinstance(found, Sequence) or len(found) < FEWEST_STAGES:
            raise ContractError(f"The probe's stages must be at least {FEWEST_STAGES}, and they are {found!r:.60}.")
        for stage in found:
            if not isinstance(getattr(stage, "name", None), str) or not callable(getattr(stage, "run", None)):
                raise ContractError(f"A stage of the probe needs a name and a run(), and it is {stage!r:.60}.")
        return list(found)

    def activations(self, run: Callable[[], None]) -> int | None:
        """Bytes of tensors at most while a stage runs; None where the model does not count them."""
        if not self.offers("activations"):
            return None
        found = _measured("probe().activations", partial(self._call, "activations", run))
        return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None

    def _mapping(self, name: str, *args: object) -> dict[str, Any]:
        if not self.offers(name):
            return {}
        found = self._call(name, *args)
        if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
            raise ContractError(f"The probe's {name} must return names and values, and it returned {shown(found)}.")
        return dict(found)

    def _call(self, name: str, *args: object) -> object:
        return getattr(self.offered, name)(*args)


def _measured(name: str, ask: Callable[[], object]) -> object:
    """Ask for a measurement; one that fails is None and named: no run ends for want of a figure."""
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - the model is foreign code
        logger.warning("The model's %s failed and is left out: %s: %s", name, type(error).__name__, error)
        return None
