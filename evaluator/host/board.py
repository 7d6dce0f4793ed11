"""Many submissions, one table: ranks by a metric of the private part, with intervals and ties."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from evaluator.errors import ConfigError
from evaluator.host.verdict import Verdict
from evaluator.scoring.result import KINDS, MetricResult
from evaluator.wording import did_you_mean, named, printable

_FORMULA = ("=", "+", "-", "@")
HEADING = ("rank", "submission", "status", "public", "private", "low", "high")


@dataclass(frozen=True, slots=True)
class Place:
    """A submission's place.

    Attributes:
        rank: from 1; equal values share one, and the next rank is left out; None where it has no score.
        tied: whether another submission has the same value.
        verdict: what became of it.
        metric: the value it is ranked by, with its interval.
        public: the value that its participants see.
    """

    rank: int | None
    tied: bool
    verdict: Verdict
    metric: MetricResult | None
    public: MetricResult | None

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        interval = self.metric.interval if self.metric else None
        low, high = (
            ("", "") if interval is None or interval.low is None else (f"{interval.low:.6f}", f"{interval.high:.6f}")
        )
        return (
            "" if self.rank is None else f"{self.rank}{'=' if self.tied else ''}",
            printable(self.verdict.name),
            self.verdict.status,
            _number(self.public),
            _number(self.metric),
            low,
            high,
        )


def rank(verdicts: Sequence[Verdict], metric: str) -> list[Place]:
    """Rank submissions, best first; those without a score come last, by name."""
    sign = -1 if KINDS[metric].higher_is_better else 1
    found = [(verdict, _named(verdict.private, metric), _named(verdict.public, metric)) for verdict in verdicts]
    values = [own.value for _, own, _ in found if own is not None and own.value is not None]
    places = []
    for verdict, own, public in found:
        value = own.value if own is not None else None
        better = sum(sign * other < sign * value for other in values) if value is not None else 0
        places.append(
            Place(better + 1 if value is not None else None, values.count(value) > 1 if value is not None else False,
                  verdict, own, public)
        )  # fmt: skip
    return sorted(places, key=lambda place: (place.rank is None, place.rank or 0, place.verdict.name))


def check_metric(metric: str, names: Collection[str]) -> None:
    """Check that scores of this name are made.

    Raises:
        ConfigError: there is no such metric, or this task and protocol do not have it.
    """
    if metric not in KINDS:
        raise ConfigError(f"--metric {metric}: there is no such metric; {did_you_mean(metric, KINDS)}")
    if metric not in names:
        raise ConfigError(f"--metric {metric}: these references are scored by {', '.join(names)}.")


def as_csv(places: Sequence[Place]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADING)
    for place in places:
        number, name, *rest = place.cells()
        # A spreadsheet calculates what begins so, and a submission is called as its team likes.
        writer.writerow([number, f"'{name}" if name.startswith(_FORMULA) else name, *rest])
    return text.getvalue()


def as_markdown(places: Sequence[Place]) -> str:
    """The table as Markdown."""
    rows = [HEADING, ("---",) * len(HEADING), *(place.cells() for place in places)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows) + "\n"


def distinct(names: Iterable[str]) -> list[str]:
    """Names for files: of several that are the same, the later ones with a number."""
    found: list[str] = []
    for name in names:
        told, number = name, 1
        while told in found:
            number += 1
            told = f"{name} ({number})"
        found.append(told)
    return found


def public_part(ids: Sequence[str], *, share: float, seed: int) -> frozenset[str]:
    """Draw the public part: a share of the ids, always the same for a seed.

    Raises:
        ConfigError: one of the two parts would have no row.
    """
    number = round(share * len(ids)) if 0 <= share <= 1 else 0  # 0 where the share is no number
    if not 0 < number < len(ids):
        raise ConfigError(f"--public-share {share:g} of {len(ids)} rows leaves one of the two parts without a row.")
    return frozenset(Random(seed).sample(sorted(ids), number))


def check_public(public: Collection[str], ids: Collection[str], source: str) -> None:
    """Check that named ids are a part of the references.

    Raises:
        ConfigError: ids are unknown, or one of the two parts would have no row.
    """
    if unknown := sorted(set(public) - set(ids)):
        raise ConfigError(f"--public-ids: {source} has ids that the reference does not have: {named(unknown)}.")
    if not 0 < len(public) < len(ids):
        raise ConfigError(f"--public-ids: {source} leaves one of the two parts without a row.")


def _named(metrics: Sequence[MetricResult], name: str) -> MetricResult | None:
    return next((metric for metric in metrics if metric.name == name), None)


def _number(metric: MetricResult | None) -> str:
    return "" if metric is None or metric.value is None else f"{metric.value:.6f}"
