"""How sure a board is: the probability of each place, from resampling the clips that the values were computed from.

Of each set of clips as many are drawn as there are, with replacement, and the same ones for every system: what is hard
for all of them does not look like a difference. Then the board is made anew. Criteria of one set of clips (SPIDEr and
CIDEr-D of the same captions) get the same draw; memory and latency stay as they are. Systems that a draw does not tell
apart are ordered at random: none of them was there first.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluator.board.criteria import Rules
from evaluator.board.measurement import Clips
from evaluator.board.ranking import Values, board
from evaluator.statistics.bootstrap import RESAMPLES, SEED, ratio, resampled_sums

Drawn = Mapping[str, float]


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
    for drawn in _drawn(chosen, resamples=resamples, seed=seed):
        if not _can_compare(drawn, rules):
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


def _drawn(clips: Mapping[str, Mapping[str, Clips]], *, resamples: int, seed: int) -> Iterator[Mapping[str, Drawn]]:
    """Values of each resample; without those whose draw has no reference words."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for criterion, told in clips.items():
        first = next(iter(told.values()))
        groups.setdefault((first.ids, first.references), []).append(criterion)
    rates: dict[str, dict[str, list[float]]] = {}
    for number, criteria in enumerate(groups.values()):
        pairs = [(criterion, name) for criterion in criteria for name in clips[criterion]]
        columns = [
            column
            for criterion, name in pairs
            for column in (clips[criterion][name].numerators, clips[criterion][name].denominators)
        ]
        sums = resampled_sums(list(zip(*columns, strict=True)), resamples=resamples, seed=(seed, number))
        for place, (criterion, name) in enumerate(pairs):
            rates.setdefault(criterion, {})[name] = ratio(sums[:, 2 * place : 2 * place + 2]).tolist()
    for number in range(resamples):
        drawn = {criterion: {name: told[number] for name, told in by.items()} for criterion, by in rates.items()}
        if not any(math.isnan(value) for told in drawn.values() for value in told.values()):
            yield drawn


def _can_compare(drawn: Mapping[str, Mapping[str, float]], rules: Rules) -> bool:
    """Whether a resample leaves nothing to divide by 0: a baseline without an error has no ratio."""
    if rules.rule == "ratio":
        return all(min(told.values()) > 0 for told in drawn.values())
    return rules.rule == "ranks" or all(told[rules.baseline] > 0 for told in drawn.values())


def _shares(counts: Mapping[str, Sequence[int]], total: int) -> dict[str, tuple[float, ...]]:
    return {name: tuple(count / total for count in row) for name, row in counts.items()}
