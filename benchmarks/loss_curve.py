"""Curves as an SVG file: `draw` takes named points (step, value) and the names of both axes."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, MARGIN = 640, 320, 48
COLOURS = ("#2563eb", "#dc2626", "#059669")
TICKS = 5


def draw(curves: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Draw curves over a common range that begins at 0; every curve has at least one point."""
    right = max(x for points in curves.values() for x, _ in points)
    top = max(y for points in curves.values() for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        inner = (WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN)
        return MARGIN + x / right * inner[0], HEIGHT - MARGIN - y / top * inner[1]

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tick in range(TICKS + 1):
        x, y = right * tick / TICKS, top * tick / TICKS
        (left, level), (column, bottom) = place(0, y), place(x, 0)
        lines += [
            f'<line x1="{left}" y1="{level:.1f}" x2="{WIDTH - MARGIN}" y2="{level:.1f}" stroke="#ddd"/>',
            f'<text x="{left - 6}" y="{level + 4:.1f}" text-anchor="end">{y:.1f}</text>',
            f'<text x="{column:.1f}" y="{bottom + 16}" text-anchor="middle">{x:.0f}</text>',
        ]
    lines += [
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{across}</text>',
        f'<text x="{MARGIN}" y="16">{up}</text>',
    ]
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        lines += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<text x="{WIDTH - MARGIN}" y="{MARGIN + 16 * number}" text-anchor="end" fill="{colour}">{name}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
