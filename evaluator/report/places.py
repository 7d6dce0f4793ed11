"""Runs on a board: the place that each would have among other systems, and runs by quality against cost.

In: runs, and sources as `audiolm-evaluator board` takes them. Out: places, and the picture of the frontier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evaluator.board.criteria import CAPTION_METRICS, Criterion, Rules, preset
from evaluator.board.plot import svg
from evaluator.board.standings import Standings, stand
from evaluator.board.systems import read_field
from evaluator.errors import AudioLMError, ResultError
from evaluator.report.runs import Run
from evaluator.scoring.result import KINDS


@dataclass(frozen=True, slots=True)
class Places:
    """Where runs would stand on a board.

    Attributes:
        rules: the preset.
        criteria: titles of what was ranked by: what every run has a value of.
        left_out: titles of the others.
        systems: how many the board has besides a run.
        places: run -> its place, 1 is best.
    """

    rules: str
    criteria: tuple[str, ...]
    left_out: tuple[str, ...]
    systems: int
    places: Mapping[str, int]


def find_places(board: Sequence[str], preset_name: str, runs: Mapping[str, Run]) -> Places:
    """Rank each run for itself among the systems of a board.

    Args:
        board: sources, as `audiolm-evaluator board` takes them.
        preset_name: of the rules.
        runs: name -> run.

    Raises:
        AudioLMError: a source cannot be read, or its values do not compare with the runs'.
    """
    rules = preset(preset_name)
    own = read_field([f"{name}={run.folder}" for name, run in runs.items()], rules.criteria, missing_last=True)
    known = set.intersection(*(set(system.values) for system in own.systems))
    kept = tuple(each for each in rules.criteria if each.name in known)
    if not kept:
        raise ResultError("No value that the board ranks by is there in every run.")
    places: dict[str, int] = {}
    systems = 0
    for name, run in runs.items():
        field = read_field([*board, f"{name}={run.folder}"], kept)
        ranked = stand(field, replace(rules, criteria=field.criteria), (), resamples=0, seed=0)
        systems = len(ranked.rows) - 1
        places[name] = next(row.place for row in ranked.rows if row.system == name)
    return Places(
        rules=preset_name,
        criteria=tuple(each.title for each in kept),
        left_out=tuple(each.title for each in rules.criteria if each not in kept and not each.optional),
        systems=systems,
        places=places,
    )


def frontier_picture(runs: Mapping[str, Run]) -> tuple[str, Standings | None]:
    """Quality of runs against their memory and latency.

    Args:
        runs: name -> run, of one task.

    Returns:
        tuple[str, Standings | None]: the picture as SVG and what is in it; or why there is none, and None.
    """
    first = next(iter(runs.values()))
    if first.metric is None:
        return "no metric has a value", None
    costs = [each for each in preset("nota-2025").criteria if each.cost]
    criteria = (_quality(first.metric), *costs)
    try:
        field = read_field([f"{name}={run.folder}" for name, run in runs.items()], criteria, missing_last=True)
        rules = Rules("runs", "ranks", field.criteria)
        standings = stand(field, rules, (), resamples=0, seed=0)
        return svg(standings), standings
    except AudioLMError as error:
        return str(error), None


def _quality(metric: str) -> Criterion:
    known = {each.name: each for each in preset("nota-2025").with_captions(CAPTION_METRICS[1]).criteria}
    return known.get(metric) or Criterion(metric, KINDS[metric].higher_is_better, column=metric)
