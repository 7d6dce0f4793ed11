"""What the arms took, as a table to read and as numbers to keep.

In go outcomes; out come medians with their ranges, clips and seconds of audio a second, and how many times as fast as
the first arm and as the fair arm each is. Gains are taken run by run between arms of one round, then their median.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from arms import Outcome, cost
from ceiling import Limits


class Spread(NamedTuple):
    """Median and range of some runs."""

    median: float
    lowest: float
    highest: float

    def text(self, digits: int = 2) -> str:
        """For a cell of a table: "2.43 (2.40-2.51)"."""
        return f"{self.median:.{digits}f} ({self.lowest:.{digits}f}-{self.highest:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Row:
    """An arm's figures.

    Attributes:
        cpu, wall: seconds of a run.
        clips_a_second: by wall time.
        audio_a_second: seconds of heard audio by wall time (RTFx); None where audio is not in the clock.
        gain_over_original, gain_over_fair: by CPU time, by wall time on a GPU; None without that arm's runs.
        memory: peak bytes over all runs.
    """

    cpu: Spread
    wall: Spread
    clips_a_second: Spread
    audio_a_second: Spread | None
    gain_over_original: Spread | None
    gain_over_fair: Spread | None
    memory: int


def spread(values: Sequence[float]) -> Spread:
    """Median and range."""
    return Spread(statistics.median(values), min(values), max(values))


def rows(
    outcomes: Mapping[str, Outcome], *, heard: Mapping[str, float] | None, device: torch.device
) -> dict[str, Row | None]:
    """Reduce each arm's runs to its figures, None for an arm that has none.

    Args:
        outcomes: by arm, the original first; the fair arm's name begins with "fair".
        heard: seconds of audio in a run of each arm; None where audio is not in the clock.
        device: that answered.
    """
    original = next(iter(outcomes))
    fair = next((name for name in outcomes if name.startswith("fair")), original)
    reduced: dict[str, Row | None] = {}
    for name, outcome in outcomes.items():
        if not outcome.runs:
            reduced[name] = None
            continue
        reduced[name] = Row(
            cpu=spread([run.cpu for run in outcome.runs]),
            wall=spread([run.wall for run in outcome.runs]),
            clips_a_second=spread([outcome.clips / run.wall for run in outcome.runs]),
            audio_a_second=spread([heard[name] / run.wall for run in outcome.runs]) if heard else None,
            gain_over_original=gain(outcomes[original], outcome, device),
            gain_over_fair=gain(outcomes[fair], outcome, device),
            memory=max(run.memory for run in outcome.runs),
        )
    return reduced


def gain(base: Outcome, other: Outcome, device: torch.device) -> Spread | None:
    """How many times as many clips in the same time; None where one of both has no runs."""
    pairs = [
        (cost(before, device) / base.clips) / (cost(after, device) / other.clips)
        for before, after in zip(base.runs, other.runs, strict=False)
    ]
    return spread(pairs) if pairs else None


def table(outcomes: Mapping[str, Outcome], reduced: Mapping[str, Row | None]) -> str:
    """Lay the figures out; the number of answers that differ stands in every row."""
    columns = ["arm", "clips", "CPU s", "wall s", "clips/s", "RTFx", "x original", "x fair", "answers differ", "memory"]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for name, outcome in outcomes.items():
        differ = f"{outcome.differ} of {outcome.compared}"
        row = reduced[name]
        if row is None:
            lines.append(f"| {name} | {outcome.clips} | {outcome.failure} |" + " |" * 5 + f" {differ} | |")
            continue
        cells = [name, str(outcome.clips), row.cpu.text(), row.wall.text(), row.clips_a_second.text()]
        cells += [_cell(row.audio_a_second), _cell(row.gain_over_original), _cell(row.gain_over_fair)]
        lines.append("| " + " | ".join([*cells, differ, f"{row.memory / 1e9:.2f} GB"]) + " |")
    return "\n".join(lines)


def share_of_ceiling(row: Row | None, ceiling: float, limits: Limits) -> str:
    """Say how much of the arithmetic ceiling an arm reaches."""
    if row is None:
        return f"the arithmetic ceiling is {ceiling:.1f} clips/s ({limits.source}); there is no run to compare with it"
    part = row.clips_a_second.median / ceiling
    return f"{100 * part:.1f} % of the arithmetic ceiling of {ceiling:.1f} clips/s ({limits.source})"


def as_numbers(outcomes: Mapping[str, Outcome], reduced: Mapping[str, Row | None]) -> dict[str, object]:
    """Everything about the arms, for a JSON file."""
    numbers: dict[str, object] = {}
    for name, outcome in outcomes.items():
        row = reduced[name]
        runs = [run._asdict() for run in outcome.runs]
        numbers[name] = {**asdict(outcome), "runs": runs, "figures": None if row is None else asdict(row)}
    return numbers


def _cell(value: Spread | None) -> str:
    return "" if value is None else value.text()
