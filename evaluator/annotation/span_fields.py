"""The fields of a row that say which part of its file is the clip: start and end, in seconds.

In: a row. Out: the part, or a sentence on what is wrong. A row without them, or with a start of 0 and no end, is the
whole file. Other fields of this kind (begin_time, offset, ...) are refused: what they count in is not known. This file
is the same in both programs but for the package's name.
"""

import math
from collections.abc import Mapping
from typing import Any

from evaluator.audio.reading import WHOLE, Span

from .clip_fields import EXPAND_FIELD, changes_clip

START, END = "start", "end"
SPAN_FIELDS = frozenset({START, END})


def row_span(row: Mapping[str, Any]) -> tuple[Span, str | None]:
    """The part of a row's file, and what is wrong with its fields.

    Example:
        {"path": "talk.flac", "start": 12.5, "end": 16.25} -> (Span(12.5, 16.25), None)
    """
    values: dict[str, Any] = {name: row[name] for name in (START, END) if changes_clip(name, row.get(name))}
    for name, value in values.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
            return WHOLE, f"{name}: expected seconds from the beginning of the file, as a number, found {value!r:.60}"
    start, end = float(values.get(START, 0)), float(values.get(END, math.inf))
    if not start < end:
        return WHOLE, f"{END}: expected more than {START}, which is {start:g}, found {end:g}"
    if values and row.get(EXPAND_FIELD):
        return WHOLE, f"{next(iter(values))}: a row with {EXPAND_FIELD} joins whole files; cut the file itself"
    return Span(start, end), None
