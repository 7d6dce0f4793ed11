"""One system that is compared: its answers, and the rows and sums behind its scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evaluator.config.sections import ScoringConfig
from evaluator.tasks import TaskName


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of a system, as the ratio of two sums over its rows.

    Attributes:
        value: the set's score.
        protocol: what decides it besides the texts.
        above: one a row: edits, or the row's score.
        below: one a row: reference units, or 1 (0 for a row without a score).
    """

    value: float
    protocol: str
    above: tuple[float, ...]
    below: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class System:
    """A system.

    Attributes:
        name: its name.
        source: the folder or file.
        task: what it did.
        ids: testset_id of each row.
        references: what each answer is compared with.
        texts: its answers; "" where it has none.
        paths: each row's audio file, "" where it is not known.
        seconds: audio that was heard, of each row; None where it is not known.
        metrics: by name; those that have rows.
        absent: metric -> why it cannot be compared.
        settings: dotted name -> what the run was made of: configuration, versions, hashes. Empty for a file.
        annotation: the annotation file that the run read, and its sha256; "" where it is not known.
        scoring: the run's settings of scoring; the usual ones of a file.
    """

    name: str
    source: str
    task: TaskName
    ids: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]
    paths: tuple[str, ...]
    seconds: tuple[float | None, ...]
    metrics: Mapping[str, Measured]
    absent: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    annotation: tuple[str, str] = ("", "")
    scoring: ScoringConfig = field(default_factory=ScoringConfig)

    def in_order_of(self, ids: tuple[str, ...]) -> "System":
        """The same with its rows in another order; `ids` are its own, each once."""
        if ids == self.ids:
            return self
        place = {identifier: row for row, identifier in enumerate(self.ids)}
        rows = [place[identifier] for identifier in ids]

        def moved(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[row] for row in rows)

        return System(
            self.name,
            self.source,
            self.task,
            ids,
            moved(self.references),
            moved(self.texts),
            moved(self.paths),
            moved(self.seconds),
            {
                name: Measured(each.value, each.protocol, moved(each.above), moved(each.below))
                for name, each in self.metrics.items()
            },
            self.absent,
            self.settings,
            self.annotation,
            self.scoring,
        )
