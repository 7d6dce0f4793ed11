"""Any field of an annotation's rows, for what groups clips: speakers, recordings, conditions."""

from collections.abc import Sequence
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.annotation.file import Row
from evaluator.errors import AnnotationError, Problem
from evaluator.wording import did_you_mean, shown


def field_values(rows: Sequence[Row], samples: Sequence[Sample], name: str, *, annotation: Path) -> tuple[str, ...]:
    """The value of a field for each sample, as text.

    Args:
        rows: all rows of the annotation.
        samples: what was made of them; `index` tells a sample's row.
        name: the field.
        annotation: the file, for messages.

    Returns:
        tuple[str, ...]: one a sample; numbers and true or false as JSON writes them.

    Raises:
        AnnotationError: rows lack the field, or its value is empty, a list or an object; every such row is named.
            Where no row has the field, the nearest one is.
    """
    found: list[str] = []
    problems: list[Problem] = []
    for sample in samples:
        row = rows[sample.index].value
        value = row.get(name)
        if isinstance(value, bool):
            value = str(value).lower()
        if isinstance(value, (str, int, float)) and str(value).strip():
            found.append(str(value))
            continue
        where = f"{annotation}: row {sample.index + 1} ({shown(sample.id)[1:-1]})"
        wrong = f"expected a text or a number, found {shown(value)}" if name in row else "the field is missing"
        problems.append(Problem(where, f"{name}: {wrong}"))
    if problems:
        fields = {key for sample in samples for key in rows[sample.index].value}
        if name not in fields:
            raise AnnotationError(f'No row of {annotation} has the field "{name}"; {did_you_mean(name, fields)}.')
        raise AnnotationError(f'{len(problems)} of {len(samples)} rows do not tell "{name}":', problems)
    return tuple(found)
