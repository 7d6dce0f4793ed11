"""JSON objects that remember which of their keys were given twice: JSON readers silently keep the last."""

from typing import Any


class RowObject(dict[str, Any]):
    """A JSON object in which keys were given twice; a reader keeps the last value."""

    repeated: tuple[str, ...] = ()


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object, a `RowObject` where keys are repeated: an `object_pairs_hook`."""
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    row = RowObject(plain)
    keys = [key for key, _ in pairs]
    row.repeated = tuple(key for key in plain if keys.count(key) > 1)
    return row
