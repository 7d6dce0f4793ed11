"""The board as an SVG picture: each quality against each cost, the Pareto frontier marked.

Better is always up and to the left. Colours follow the reader's light or dark scheme; a name that has no room is told
below.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from evaluator.board.criteria import Criterion
from evaluator.board.label_places import Box, place_labels
from evaluator.board.pareto import Point, frontier
from evaluator.board.standings import Standings
from evaluator.board.text_columns import width
from evaluator.errors import ConfigError, ResultError
from evaluator.files import replacing
from evaluator.wording import printable

_WIDE, _HIGH = 380.0, 270.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 78.0, 56.0, 24.0, 66.0
_FONT = 12.0
# Of one place; a wide character takes two. A little more than fonts need, so that no font overlaps.
_PLACE = 7.4
_LONGEST = 22
_STYLE = """
  :root { --paper: #ffffff; --ink: #1f2328; --faint: #6a737d; --grid: #e3e6ea; --mark: #0b62c4; --other: #8a929b; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #15181c; --ink: #e8eaed; --faint: #a5adb6; --grid: #31363d; --mark: #6cb2ff; --other: #8f98a3; }
  }
  text { font: 12px "DejaVu Sans", "Noto Sans KR", "Malgun Gothic", sans-serif; fill: var(--ink); }
  .title { font-size: 14px; font-weight: bold; } .faint { fill: var(--faint); font-size: 11px; }
  .paper { fill: var(--paper); } .frame { fill: none; stroke: var(--faint); } .grid { stroke: var(--grid); }
  .frontier { fill: none; stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 5 3; }
  .best { fill: var(--mark); } .other { fill: var(--paper); stroke: var(--other); stroke-width: 2; }
  .leader { stroke: var(--faint); stroke-width: 0.8; }
  .name { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
"""


def write_plot(path: Path, standings: Standings) -> None:
    """Write the picture.

    Raises:
        ConfigError: the criteria have no quality or no cost to plot.
        ResultError: the file cannot be written.
    """
    text = svg(standings)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResultError(f"Cannot write {path}: {error.strerror or error}.") from error


def svg(standings: Standings) -> str:
    """The picture as text.

    Raises:
        ConfigError: the criteria have no quality or no cost to plot.
    """
    qualities = [each for each in standings.rules.criteria if not each.cost]
    costs = [each for each in standings.rules.criteria if each.cost]
    if not qualities or not costs:
        raise ConfigError("--plot needs a quality and a cost: mark one criterion with cost: true, and one without.")
    across, down = _LEFT + _WIDE + _RIGHT, _TOP + _HIGH + _BOTTOM
    whole_wide, whole_high = across * len(costs), down * len(qualities) + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole_wide:.0f} {whole_high:.0f}" '
        f'width="{whole_wide:.0f}" height="{whole_high:.0f}" role="img">',
        f"<title>{_text(standings.rules.name)}: quality against cost</title>",
        f"<style>{_STYLE}</style>",
        '<rect class="paper" width="100%" height="100%"/>',
    ]
    for row, quality in enumerate(qualities):
        for column, cost in enumerate(costs):
            parts.append(f'<g transform="translate({column * across + _LEFT:.0f} {row * down + _TOP:.0f})">')
            parts += _panel(standings, quality, cost)
            parts.append("</g>")
    told = (
        "Filled: on the Pareto frontier: no other system is better in one and as good in the other. Better: up, left."
    )
    parts.append(f'<text class="faint" x="16" y="{whole_high - 28:.0f}">{told}</text>')
    if standings.changes:
        what_if = ", ".join(f"{each.criterion} of {each.system} is {each.value:g}" for each in standings.changes)
        parts.append(f'<text class="faint" x="16" y="{whole_high - 12:.0f}">What if: {_text(what_if)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(standings: Standings, quality: Criterion, cost: Criterion) -> list[str]:
    """One plot, its upper left corner at 0, 0."""
    points = []
    values: dict[str, tuple[float, float]] = {}
    for row in standings.rows:
        across, up = row.values[cost.name], row.values[quality.name]
        if across is None or up is None:
            continue
        values[row.system] = (across, up)
        # Both as "more is better" and "less is better", whatever the criteria say.
        points.append(
            Point(row.system, -across if cost.higher_is_better else across, up if quality.higher_is_better else -up)
        )
    left_out = [row.system for row in standings.rows if row.system not in values]
    parts = [f'<text class="title" x="0" y="-14">{_text(f"{quality.title} against {cost.title}")}</text>']
    if points:
        x_axis = _Axis.over([across for across, _ in values.values()], _WIDE, flipped=cost.higher_is_better)
        y_axis = _Axis.over([up for _, up in values.values()], _HIGH, flipped=quality.higher_is_better)
        places = {name: (x_axis.pixel(across), y_axis.pixel(up)) for name, (across, up) in values.items()}
        parts += [*_ticks(x_axis, y_axis), *_frontier_line(frontier(points), places), *_dots(points, places, values)]
        left_out_labels, drawn = _names(list(places), list(places.values()))
        parts += drawn
    else:
        left_out_labels = []
    parts.append(f'<rect class="frame" width="{_WIDE:.0f}" height="{_HIGH:.0f}"/>')
    parts.append(f'<text x="{_WIDE / 2:.0f}" y="{_HIGH + 36:.0f}" text-anchor="middle">{_text(cost.title)}</text>')
    turned = f"translate(-58 {_HIGH / 2:.0f}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{_text(quality.title)}</text>')
    remarks = [f"without a value: {', '.join(left_out)}"] if left_out else []
    remarks += [f"no room for: {', '.join(left_out_labels)}"] if left_out_labels else []
    if remarks:
        parts.append(f'<text class="faint" x="0" y="{_HIGH + 54:.0f}">{_text(_cut("; ".join(remarks), 64))}</text>')
    return parts


class _Axis:
    """Values to pixels along one side of a panel, with round numbers to write beside it."""

    def __init__(self, low: float, high: float, step: float, length: float, *, flipped: bool) -> None:
        self._low, self._high, self._length, self._flipped = low, high, length, flipped
        self.ticks = [
            step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        ]
        self._digits = max(0, -math.floor(math.log10(step) + 1e-9))

    @classmethod
    def over(cls, values: Sequence[float], length: float, *, flipped: bool) -> "_Axis":
        """An axis that holds these values with some room on both sides; flipped: the largest value is at pixel 0."""
        low, high = min(values), max(values)
        room = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
        low, high = low - room, high + room
        rough = (high - low) / 7
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        return cls(low, high, step, length, flipped=flipped)

    def pixel(self, value: float) -> float:
        """Where a value is."""
        share = (value - self._low) / (self._high - self._low)
        return self._length * (1 - share if self._flipped else share)

    def label(self, value: float) -> str:
        """A tick's number."""
        return f"{value:.{self._digits}f}"


def _ticks(x_axis: _Axis, y_axis: _Axis) -> list[str]:
    parts = []
    for value in x_axis.ticks:
        x = x_axis.pixel(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HIGH:.0f}"/>')
        parts.append(
            f'<text class="faint" x="{x:.1f}" y="{_HIGH + 17:.0f}" text-anchor="middle">{x_axis.label(value)}</text>'
        )
    for value in y_axis.ticks:
        y = y_axis.pixel(value)
        parts.append(f'<line class="grid" y1="{y:.1f}" y2="{y:.1f}" x1="0" x2="{_WIDE:.0f}"/>')
        parts.append(f'<text class="faint" x="-8" y="{y + 4:.1f}" text-anchor="end">{y_axis.label(value)}</text>')
    return parts


def _frontier_line(best: Sequence[Point], places: dict[str, tuple[float, float]]) -> list[str]:
    """Steps from point to point: what lies below and to the right of them is dominated."""
    corners: list[tuple[float, float]] = []
    for point in best:
        x, y = places[point.system]
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    if len(corners) < 2:
        return []
    return [f'<polyline class="frontier" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>']


def _dots(
    points: Sequence[Point], places: dict[str, tuple[float, float]], values: dict[str, tuple[float, float]]
) -> list[str]:
    best = {point.system for point in frontier(points)}
    parts = []
    for point in points:
        (x, y), (across, up) = places[point.system], values[point.system]
        kind = "best" if point.system in best else "other"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            f"<title>{_text(point.system)}: {up:g} at {across:g}</title></circle>"
        )
    return parts


def _names(systems: Sequence[str], places: Sequence[tuple[float, float]]) -> tuple[list[str], list[str]]:
    """The systems whose name has no room, and the names of the others."""
    shown = [_cut(printable(name), _LONGEST) for name in systems]
    sizes = [(width(name) * _PLACE, _FONT + 3) for name in shown]
    boxes = place_labels(places, sizes, Box(2, 2, _WIDE - 2, _HIGH - 2))
    parts = []
    for name, box, (x, y) in zip(shown, boxes, places, strict=True):
        if box is None:
            continue
        near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
        if math.hypot(near_x - x, near_y - y) > 16:
            parts.append(f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{near_x:.1f}" y2="{near_y:.1f}"/>')
        parts.append(
            f'<text class="name" x="{(box.left + box.right) / 2:.1f}" y="{box.bottom - 4:.1f}" text-anchor="middle">'
            f"{_text(name)}</text>"
        )
    return [name for name, box in zip(systems, boxes, strict=True) if box is None], parts


def _cut(text: str, places: int) -> str:
    """A text of at most so many places."""
    if width(text) <= places:
        return text
    while width(text) > places - 1:
        text = text[:-1]
    return f"{text}…"


def _text(text: str) -> str:
    return escape(printable(text))
