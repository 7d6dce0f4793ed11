"""Ways to answer the same clips, run in turn: what each took, and whose answers differ.

In go named arms, each with the clips that it answers; out comes an outcome for each. The arms run forwards, then
backwards, in every repeat, so that a machine that slows down or speeds up favours none. An arm that runs out of memory
is left out from then on and says so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import torch
from device_clock import Spent, clocked, free_memory

from salmonn.device import is_out_of_memory

T = TypeVar("T")
R = TypeVar("R")
Answers: TypeAlias = Mapping[int, object]
"""Clip -> its answer: token ids, or text with the number of tokens."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to answer.

    Attributes:
        clips: those that it answers in a run.
        answer: does so, for these or for some of them.
    """

    clips: Sequence[int]
    answer: Callable[[Sequence[int]], Answers]


@dataclass(slots=True)
class Outcome:
    """What became of an arm.

    Attributes:
        clips: how many it answered in each run.
        warm_up: wall seconds of the runs before the measured ones.
        runs: what each measured run took.
        compared: how many of its clips an earlier arm had answered as well.
        differ: how many of those had another answer, in the run with the most of them.
        failure: why it was left out, "" where it was not.
    """

    clips: int
    warm_up: float = 0.0
    runs: list[Spent] = field(default_factory=list)
    compared: int = 0
    differ: int = 0
    failure: str = ""


def measure(
    arms: dict[str, Arm],
    *,
    repeats: int,
    device: torch.device,
    warm_ups: Sequence[int | None],
    tell: Callable[[str, Spent], object] = lambda name, spent: None,
) -> dict[str, Outcome]:
    """Run all arms in turn, twice in each repeat.

    Args:
        arms: by name, the one that the others are compared with first.
        repeats: of the arms forwards and backwards.
        device: that is waited for and whose memory is read.
        warm_ups: clips of each run of an arm before the measured ones; None for all of its own.
        tell: is told of every run that is done.
    """
    outcomes = {name: Outcome(len(arm.clips)) for name, arm in arms.items()}
    for name, arm in arms.items():
        # So that what the other arms needed does not count as taken when this one looks at free memory.
        free_memory(device)
        for clips in warm_ups:
            done = None if outcomes[name].failure else _attempt(arm.answer, arm.clips[:clips], outcomes[name], device)
            outcomes[name].warm_up += done[1].wall if done else 0.0
    expected: dict[int, object] = {}
    for _ in range(repeats):
        for name in [*arms, *reversed(arms)]:
            outcome = outcomes[name]
            done = None if outcome.failure else _attempt(arms[name].answer, arms[name].clips, outcome, device)
            if done is None:
                continue
            answers, spent = done
            outcome.runs.append(spent)
            tell(name, spent)
            known = [clip for clip in arms[name].clips if clip in expected]
            outcome.compared = len(known)
            outcome.differ = max(outcome.differ, sum(answers[clip] != expected[clip] for clip in known))
            expected = {**answers, **expected}
    return outcomes


def fastest_batch(
    answer: Callable[[int], object], sizes: Iterable[int], *, device: torch.device
) -> tuple[int, dict[int, float]]:
    """Find the batch size of the least CPU time, or wall time on a GPU, until memory ends.

    Args:
        answer: answers the clips in batches of a size.
        sizes: to be tried, ascending.
        device: that answers.

    Returns:
        The best size, and the seconds of each that was tried.

    Raises:
        SystemExit: memory does not suffice for the smallest.
    """
    seconds: dict[int, float] = {}
    outcome = Outcome(0)
    for size in sizes:
        done = _attempt(answer, size, outcome, device)
        if done is None:
            break
        seconds[size] = cost(done[1], device)
    if not seconds:
        raise SystemExit(f"transformers' fair arm: {outcome.failure} with the smallest batch")
    return min(seconds, key=lambda size: seconds[size]), seconds


def cost(spent: Spent, device: torch.device) -> float:
    """What is compared: CPU seconds, which others' work on the machine changes less; wall seconds on a GPU."""
    return spent.wall if device.type == "cuda" else spent.cpu


def _attempt(answer: Callable[[T], R], what: T, outcome: Outcome, device: torch.device) -> tuple[R, Spent] | None:
    """Do and clock something; None and a word in the outcome where memory does not suffice."""
    try:
        return clocked(device, lambda: answer(what))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Outside the except block, so that the traceback no longer holds the tensors.
    outcome.failure = "out of memory"
    free_memory(device)
    return None
