"""The rows of a compression as an SVG picture: quality against memory and against latency, the Pareto frontier marked.

Better is down and to the left. Rows are numbered as in the table; their names are below the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from salmonn.compress.figures import Row

_WIDE, _HIGH, _LEFT, _TOP, _GAP, _BOTTOM = 300.0, 210.0, 62.0, 40.0, 96.0, 58.0
_LINE = 18.0
_TICKS = 5
_STYLE = """
  :root { --paper: #fff; --ink: #1f2328; --faint: #6a737d; --grid: #e3e6ea; --mark: #0b62c4; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #15181c; --ink: #e8eaed; --faint: #a5adb6; --grid: #31363d; --mark: #6cb2ff; }
  }
  text { font: 12px "DejaVu Sans", sans-serif; fill: var(--ink); } .faint { fill: var(--faint); font-size: 11px; }
  .paper { fill: var(--paper); } .grid { stroke: var(--grid); }
  .frontier { fill: none; stroke: var(--mark); stroke-dasharray: 5 3; }
  circle { fill: var(--paper); stroke: var(--faint); stroke-width: 1.5; }
  .best circle { fill: var(--mark); stroke: var(--mark); } .best text { fill: var(--paper); }
  .point text { text-anchor: middle; font-size: 10px; }
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """What is drawn along one side.

    Attributes:
        title: with its unit.
        values: one a row.
    """

    title: str
    values: tuple[float, ...]

    def ticks(self) -> list[float]:
        """Round values from below the least to above the largest."""
        low, high = min(self.values), max(self.values)
        rough = (high - low or abs(high) or 1.0) / (_TICKS - 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
        first = math.floor(low / step)
        return [step * place for place in range(first, max(math.ceil(high / step), first + 1) + 1)]


def frontier(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Find the rows than which no other is at least as good in both and better in one; the cheapest first."""
    rows = range(len(costs))
    beaten = {
        row
        for row in rows
        for other in rows
        if (costs[other], losses[other]) != (costs[row], losses[row])
        and costs[other] <= costs[row]
        and losses[other] <= losses[row]
    }
    return sorted(set(rows) - beaten, key=lambda row: (costs[row], losses[row]))


def as_svg(rows: Sequence[Row]) -> str:
    """Draw the rows of a table.

    Args:
        rows: at least one. Their quality is the word error rate where all have one, else the loss.
    """
    rates = [row.wer for row in rows if row.wer is not None]
    whole = len(rates) == len(rows)
    quality = (
        Axis("WER (%)", tuple(100 * rate for rate in rates)) if whole else Axis("loss", tuple(row.loss for row in rows))
    )
    costs = (
        Axis("memory (MB)", tuple(row.memory_bytes / 1e6 for row in rows)),
        Axis("TTFT + TPOT (ms)", tuple(1000 * (row.ttft_seconds + row.tpot_seconds) for row in rows)),
    )
    width = _LEFT + 2 * _WIDE + _GAP + 24
    height = _TOP + _HIGH + _BOTTOM + _LINE * len(rows)
    panels = [_panel(cost, quality, _LEFT + place * (_WIDE + _GAP)) for place, cost in enumerate(costs)]
    names = [
        f'<text x="{_LEFT:.0f}" y="{_TOP + _HIGH + _BOTTOM + _LINE * place:.0f}">{place + 1}  {escape(row.step)}</text>'
        for place, row in enumerate(rows)
    ]
    title = "Quality against memory and latency; filled points are on the frontier"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img"><title>{title}</title>',
            f'<style>{_STYLE}</style><rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
            *panels,
            *names,
            "</svg>\n",
        ]
    )


def _panel(cost: Axis, quality: Axis, left: float) -> str:
    """One picture, its upper left corner at (left, _TOP)."""
    across, up = cost.ticks(), quality.ticks()
    bottom = _TOP + _HIGH

    def x(value: float) -> float:
        return left + _WIDE * (value - across[0]) / (across[-1] - across[0])

    def y(value: float) -> float:
        return bottom - _HIGH * (value - up[0]) / (up[-1] - up[0])

    parts = [
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text class="faint" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in across
    ]
    parts += [
        f'<line class="grid" x1="{left}" x2="{left + _WIDE}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="faint" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in up
    ]
    parts.append(f'<text x="{left + _WIDE}" y="{bottom + 34}" text-anchor="end">{cost.title}</text>')
    parts.append(f'<text x="{left - 6}" y="{_TOP - 14}">{quality.title}</text>')
    best = frontier(cost.values, quality.values)
    line = " ".join(f"{x(cost.values[row]):.1f},{y(quality.values[row]):.1f}" for row in best)
    parts.append(f'<polyline class="frontier" points="{line}"/>')
    for row, (along, high) in enumerate(zip(cost.values, quality.values, strict=True)):
        kind = "point best" if row in best else "point"
        parts.append(
            f'<g class="{kind}"><circle cx="{x(along):.1f}" cy="{y(high):.1f}" r="8"/>'
            f'<text x="{x(along):.1f}" y="{y(high) + 3.5:.1f}">{row + 1}</text></g>'
        )
    return "\n".join(parts)
