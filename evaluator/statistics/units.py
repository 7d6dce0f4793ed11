"""What is drawn when a set is resampled: clips, or all clips of a speaker or a recording together.

Clips of one speaker are alike, so that drawing them one by one makes an interval too narrow (Liu and Peng, 2020). In:
the rows of an annotation and the samples made of them. Out: a label for each sample, from a field of the rows or from
the clips' paths:

    scoring.unit_field: ""            the field "speaker" or "recording", as scoring.unit says
    scoring.unit_field: session       that field
    scoring.unit_field: "path:1"      the folder that the clip is in; "path:2" the folder above it
    scoring.unit_field: "name:1"      the file's name up to its first "-" or "_"; "name:2" up to the second
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.annotation.file import Row
from evaluator.annotation.row_field import field_values
from evaluator.errors import AnnotationError, Problem

CLIP = "clip"
PATH_RULE = re.compile(r"(path|name):([1-9])")


@dataclass(frozen=True, slots=True)
class Units:
    """What is drawn.

    Attributes:
        kind: "clip", "speaker" or "recording".
        source: where the labels are from: "rows", 'field "speaker"', "path:1".
        labels: of each sample; () where every sample is a unit.
    """

    kind: str = CLIP
    source: str = "rows"
    labels: tuple[str, ...] = ()

    def counted(self, number: int) -> str:
        """ "1 clip", "12 speakers"."""
        return f"{number} {self.kind}" if number == 1 else f"{number} {self.kind}s"


def find_units(kind: str, field: str, rows: Sequence[Row], samples: Sequence[Sample], *, annotation: Path) -> Units:
    """Tell the unit of each sample.

    Args:
        kind: `scoring.unit`.
        field: `scoring.unit_field`.
        rows: all rows of the annotation.
        samples: those that are scored.
        annotation: the file, for messages.

    Raises:
        AnnotationError: a row does not tell its unit; every such row is named.
    """
    if kind == CLIP:
        return Units()
    rule = PATH_RULE.fullmatch(field)
    if rule is None:
        name = field or kind
        return Units(kind, f'field "{name}"', field_values(rows, samples, name, annotation=annotation))
    labels: list[str] = []
    problems: list[Problem] = []
    for sample in samples:
        label = _of_path(sample.path, rule[1], int(rule[2]))
        labels.append(label or "")
        if label is None:
            problems.append(Problem(sample.id, f"{str(sample.path)!r} has no part {field} that would name a {kind}"))
    if problems:
        raise AnnotationError(f"scoring.unit_field: {field} does not fit {len(problems)} path(s):", problems)
    return Units(kind, field, tuple(labels))


def _of_path(path: Path, part: str, number: int) -> str | None:
    """The unit that a path names, or None: ("a/19/198/19-198-0001.flac", "name", 2) -> "19-198"."""
    if part == "path":
        parents = path.parents
        return str(parents[number - 1]) if number <= len(parents) and parents[number - 1].name else None
    pieces = re.split(r"([-_])", path.stem)
    return "".join(pieces[: 2 * number - 1]) if len(pieces) > 2 * number - 1 else None
