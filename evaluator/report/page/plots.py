"""Pictures of a run, drawn once as SVG: how rows score, and their score against length and duration.

They take their colours from the page's classes. Points that fall on one place are drawn once, so that a picture of a
hundred thousand rows stays small.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.report.page.escaping import text

_WIDE, _HIGH = 360, 220
_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 14, 14, 42
_BINS = 24
_CELL = 1.5
"""Points of the picture that count as one place."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of a picture.

    Attributes:
        title: what is on it, with its unit.
        high: the largest value; the smallest is 0.
        step: between round numbers.
    """

    title: str
    high: float
    step: float

    @classmethod
    def over(cls, title: str, values: Sequence[float], *, most: float = math.inf) -> "Axis":
        """An axis from 0 to a little more than the largest value, or to `most`."""
        high = min(max(values, default=0.0), most) or 1.0
        power = 10.0 ** math.floor(math.log10(high / 5))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= high / 5 - 1e-12)
        return cls(title, step * math.ceil(high / step - 1e-9), step)

    def label(self, value: float) -> str:
        """A round number beside the axis."""
        return f"{value:.{max(0, -math.floor(math.log10(self.step) + 1e-9))}f}"

    @property
    def ticks(self) -> list[float]:
        """The round numbers."""
        return [self.step * number for number in range(round(self.high / self.step) + 1)]


def histogram(title: str, values: Sequence[float], axis_title: str, *, most: float = math.inf) -> str:
    """How many rows have which score.

    Args:
        title: of the picture.
        values: one a row.
        axis_title: of the scores.
        most: what is above is counted into the last bar, and the axis says so.
    """
    across = Axis.over(axis_title, values, most=most)
    counts = Counter(min(int(value / across.high * _BINS), _BINS - 1) for value in values)
    up = Axis.over("clips", list(map(float, counts.values())))
    bar = _WIDE / _BINS
    parts = []
    for place in range(_BINS):
        if number := counts[place]:
            high = max(number / up.high * _HIGH, 1.0)
            low, end = place * across.high / _BINS, (place + 1) * across.high / _BINS
            told = f"{low:.3g} to {end:.3g}: {number} clip{'' if number == 1 else 's'}"
            parts.append(
                f'<rect class="bar" x="{place * bar + 0.5:.1f}" y="{_HIGH - high:.1f}" width="{bar - 1:.1f}" '
                f'height="{high:.1f}"><title>{told}</title></rect>'
            )
    over = sum(value > across.high for value in values)
    note = f"{over} above {across.label(across.high)} are in the last bar" if over else ""
    return _picture(title, across, up, parts, note)


def scatter(title: str, points: Sequence[tuple[float, float]], across: Axis, up: Axis) -> str:
    """Rows as points; what is above an axis is drawn at its end.

    Args:
        title: of the picture.
        points: of each row.
        across: the horizontal axis.
        up: the vertical one.
    """
    places: Counter[tuple[int, int]] = Counter()
    for x, y in points:
        column = min(x / across.high, 1.0) * _WIDE / _CELL
        row = (1 - min(y / up.high, 1.0)) * _HIGH / _CELL
        places[round(column), round(row)] += 1
    parts = []
    for name, least, most in (("one", 1, 1), ("few", 2, 4), ("many", 5, math.inf)):
        chosen = sorted(place for place, number in places.items() if least <= number <= most)
        dots = "".join(f"M{column * _CELL:g} {row * _CELL:g}h0" for column, row in chosen)
        if dots:
            parts.append(f'<path class="dots {name}" d="{dots}"/>')
    over = sum(y > up.high for _, y in points)
    note = f"{over} above {up.label(up.high)} are at the upper edge" if over else ""
    return _picture(title, across, up, parts, note)


def _picture(title: str, across: Axis, up: Axis, parts: Sequence[str], note: str) -> str:
    whole_wide, whole_high = _LEFT + _WIDE + _RIGHT, _TOP + _HIGH + _BOTTOM + (16 if note else 0)
    told = [
        f'<svg class="plot" viewBox="0 0 {whole_wide} {whole_high}" role="img" aria-label="{text(title)}">',
        f'<g transform="translate({_LEFT} {_TOP})">',
    ]
    for value in across.ticks:
        x = value / across.high * _WIDE
        told.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HIGH}"/>')
        told.append(f'<text x="{x:.1f}" y="{_HIGH + 16}" text-anchor="middle">{across.label(value)}</text>')
    for value in up.ticks:
        y = _HIGH - value / up.high * _HIGH
        told.append(f'<line class="grid" y1="{y:.1f}" y2="{y:.1f}" x1="0" x2="{_WIDE}"/>')
        told.append(f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{up.label(value)}</text>')
    told += parts
    told.append(f'<text class="axis" x="{_WIDE}" y="{_HIGH + 34}" text-anchor="end">{text(across.title)}</text>')
    if note:
        told.append(f'<text class="axis" x="{_WIDE}" y="{_HIGH + 50}" text-anchor="end">{text(note)}</text>')
    return "".join([*told, "</g></svg>"])
