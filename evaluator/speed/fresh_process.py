"""Measuring in a process of its own: a model's figures of another process are not those of this one.

In: the model package, the config and a task to measure. Out: what the process found. Memory peaks and libraries' own
warm-ups belong to a process, so that only fresh ones say how far a figure repeats.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import numpy as np

from evaluator.config.config import Config
from evaluator.cpu_threads import prepare_cpu_threads
from evaluator.errors import AudioLMError, ProcessError
from evaluator.model import ModelProvider, Request
from evaluator.provider.loading import load_model
from evaluator.provider.probe import heard_seconds
from evaluator.run.predict import checked_sampling_rate
from evaluator.speed.challenge import NOISE_SECONDS, ChallengeFigures, measure_challenge
from evaluator.speed.clips import NOISE_SEED

SECONDS_BETWEEN_SIGNS = 0.2


def measure_in_fresh_process(
    provider: ModelProvider, config: Config, task: tuple[str, str], *, is_first: bool, progress: Callable[[int], None]
) -> ChallengeFigures:
    """Load the model and measure it by the challenge's protocol in a new process.

    Args:
        provider: the model package: a module, or an object that can be pickled.
        config: the validated config.
        task: label and question.
        is_first: of several processes, which alone says what is to be known of the model.
        progress: told how many iterations are done.

    Raises:
        AudioLMError: what the process could not do, in its own words.
        ProcessError: it died without a word.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    package: Any = provider.__name__ if isinstance(provider, ModuleType) else provider
    process = context.Process(target=_measure, args=(theirs, package, config, task, is_first), daemon=True)
    with _environment(TORCH_CPP_LOG_LEVEL="ERROR"):
        process.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == "progress":
                progress(value)
            elif kind == "found":
                found: ChallengeFigures = value
                return found
            else:
                raise value[0](value[1])
    except EOFError:
        process.join()
        raise ProcessError(f"A measuring process ended without a result (exit code {process.exitcode}).") from None
    finally:
        process.kill()
        process.join()


@contextmanager
def _environment(**defaults: str) -> Iterator[None]:
    """Let a new process have variables that are not set yet: PyTorch's profiler warns of what is no fault here."""
    new = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _measure(send: Connection, package: Any, config: Config, task: tuple[str, str], is_first: bool) -> None:
    """What the new process does."""
    # An interruption is the first process's to answer: it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not is_first:
        logging.disable(logging.WARNING)
    prepare_cpu_threads()
    try:
        provider = importlib.import_module(package) if isinstance(package, str) else package
        model = load_model(provider, config)
        rate = checked_sampling_rate(model)
        noise = np.random.default_rng(NOISE_SEED).standard_normal(round(NOISE_SECONDS * rate)).astype(np.float32)
        heard = heard_seconds(model)
        request = Request(0, noise if heard is None else noise[: int(heard * rate)], *task)
        send.send(("found", measure_challenge(model, request, tick=_Signs(send.send))))
    except AudioLMError as error:
        send.send(("failed", (type(error), str(error))))
    except Exception as error:  # noqa: BLE001 - the model is foreign code; its error is told in the first process
        send.send(("failed", (ProcessError, f"The model could not be measured. {type(error).__name__}: {error}")))


class _Signs:
    """Says how many iterations are done, not oftener than somebody can read."""

    def __init__(self, send: Callable[[tuple[str, int]], None]) -> None:
        self._send = send
        self._done = 0
        self._last = time.monotonic()

    def __call__(self) -> None:
        self._done += 1
        if time.monotonic() - self._last > SECONDS_BETWEEN_SIGNS:
            self._last = time.monotonic()
            self._send(("progress", self._done))
