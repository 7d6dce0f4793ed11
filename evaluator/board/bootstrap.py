"""How sure a board is: the probability of each place, from resampling the clips that the values were computed from.

Of each set of clips as many are drawn as there are, with replacement, and the same ones for every system: what is hard
for all of them does not look like a difference. Then the board is made anew. Criteria of one set of clips (SPIDEr and
CIDEr-D of the same captions) get the same draw; memory and latency stay as they are. Systems that a draw does not tell
apart are ordered at random: none of them was there first.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from evaluator.board.criteria import Rules
from evaluator.board.measurement import Clips
from evaluator.board.ranking import Values, board

RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True, slots=True)
class Probabilities:
    """How often each system had each place.

    Attributes:
        places: system -> share of the resamples for the places 1, 2 ...
        ranks: criterion that was resampled -> the same for its ranks.
        resampled: criterion -> number of clips.
        fixed: criteria that were held at their values.
        resamples: how many counted; one whose draw has nothing to divide by does not.
    """

    places: Mapping[str, tuple[float, ...]]
    ranks: Mapping[str, Mapping[str, tuple[float, ...]]]
    resampled: Mapping[str, int]
    fixed: tuple[str, ...]
    resamples: int


def probabilities(
    values: Values,
    clips: Mapping[str, Mapping[str, Clips]],
    systems: Sequence[str],
    rules: Rules,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Probabilities | None:
    """Resample the clips and rank each time.

    Args:
        values: criterion -> system -> value.
        clips: criterion -> system -> the clips behind the value, the same rows for every system. A criterion is
            resampled where every system has them.
        systems: in the order in which they were given.
        rules: of the board.
        resamples: how often.
        seed: of the draws: the same seed, the same answer.

    Returns:
        Probabilities | None: None where no criterion has clips of every system.
    """
    names = [each.name for each in rules.criteria if len(clips.get(each.name, {})) == len(systems)]
    if not names or len(systems) < 2:
        return None
    places = {name: [0] * len(systems) for name in systems}
    ranks = {criterion: {name: [0] * len(systems) for name in systems} for criterion in names}
    chosen = {name: clips[name] for name in names}
    generator = random.Random(seed)
    used = 0
    for _ in range(resamples):
        drawn = _drawn(chosen, generator)
        if drawn is None or not _can_compare(drawn, rules):
            continue
        used += 1
        order = generator.sample(systems, len(systems))
        for row in board({**values, **drawn}, systems, rules, ahead=dict.fromkeys(names, order)):
            places[row.system][row.place - 1] += 1
            for criterion in names:
                ranks[criterion][row.system][row.ranks[criterion] - 1] += 1
    if not used:
        return None
    return Probabilities(
        places=_shares(places, used),
        ranks={criterion: _shares(counts, used) for criterion, counts in ranks.items()},
        resampled={name: len(next(iter(clips[name].values())).ids) for name in names},
        fixed=tuple(each.name for each in rules.criteria if each.name not in names),
        resamples=used,
    )


def _drawn(clips: Mapping[str, Mapping[str, Clips]], generator: random.Random) -> dict[str, dict[str, float]] | None:
    """Values of one resample; None where the clips drawn have no reference words."""
    picks: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[[Sequence[float]], Sequence[float]]] = {}
    found: dict[str, dict[str, float]] = {}
    for criterion, told in clips.items():
        first = next(iter(told.values()))
        rows = (first.ids, first.references)
        if rows not in picks:
            number = len(first.ids)
            # Of a single index itemgetter makes no tuple; one clip drawn twice has the same value as once.
            picks[rows] = itemgetter(*generator.choices(range(number), k=max(2, number)))
        pick = picks[rows]
        # Every system has the same references, so all have words or none has.
        if not sum(pick(first.denominators)):
            return None
        found[criterion] = {
            name: sum(pick(each.numerators)) / sum(pick(each.denominators)) for name, each in told.items()
        }
    return found


def _can_compare(drawn: Mapping[str, Mapping[str, float]], rules: Rules) -> bool:
    """Whether a resample leaves nothing to divide by 0: a baseline without an error has no ratio."""
    if rules.rule == "ratio":
        return all(min(told.values()) > 0 for told in drawn.values())
    return rules.rule == "ranks" or all(told[rules.baseline] > 0 for told in drawn.values())


def _shares(counts: Mapping[str, Sequence[int]], total: int) -> dict[str, tuple[float, ...]]:
    return {name: tuple(count / total for count in row) for name, row in counts.items()}
