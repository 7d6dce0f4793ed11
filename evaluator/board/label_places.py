"""Where the names of points stand on a plot: near their points, inside the panel, on no other name and on no point."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle in pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether two rectangles overlap."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, other: "Box") -> bool:
        """Whether the other rectangle is inside this one."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )


_DOT = 6.0
_RADII = (9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 64.0, 80.0, 100.0, 130.0, 170.0, 220.0)
# To the right and above first, where a reader looks.
_ANGLES = tuple(
    math.radians(angle) for angle in (0, 315, 45, 180, 225, 135, 270, 90, 337, 22, 203, 158, 292, 247, 68, 113)
)


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], panel: Box
) -> list[Box | None]:
    """Find a place for each name.

    Args:
        points: pixels of each point; the first ones choose first.
        sizes: width and height of each name in pixels.
        panel: where names may stand.

    Returns:
        list[Box | None]: None where there is no room.
    """
    taken = [Box(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in points]
    found: list[Box | None] = []
    for point, size in zip(points, sizes, strict=True):
        box = next(
            (each for each in _candidates(point, size) if panel.holds(each) and not any(map(each.meets, taken))), None
        )
        found.append(box)
        if box is not None:
            taken.append(box)
    return found


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> list[Box]:
    """Rectangles around a point, the nearest first."""
    (x, y), (wide, high) = point, size
    boxes = []
    for radius in _RADII:
        for angle in _ANGLES:
            across, down = math.cos(angle), math.sin(angle)
            # The side of the name that faces the point touches the circle.
            middle_x = x + across * (radius + wide / 2)
            middle_y = y + down * (radius + high / 2)
            boxes.append(Box(middle_x - wide / 2, middle_y - high / 2, middle_x + wide / 2, middle_y + high / 2))
    return boxes
