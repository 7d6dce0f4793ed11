"""The scores of a set with everything that is told of them: one way for runs and for answers that are on disk."""

from collections.abc import Sequence

from evaluator.config.sections import ScoringConfig
from evaluator.scoring.intervals import with_intervals
from evaluator.scoring.result import Scores
from evaluator.scoring.scoring import score
from evaluator.statistics.units import Units
from evaluator.tasks import Task


def score_set(
    task: Task,
    references: Sequence[tuple[str, ...]],
    hypotheses: Sequence[str],
    config: ScoringConfig,
    units: Units,
    choices: Sequence[tuple[str, ...]] = (),
) -> Scores:
    """Score a set, with intervals; see `score` and `with_intervals`."""
    return with_intervals(score(task, references, hypotheses, config, choices), config, units)
