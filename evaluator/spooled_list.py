"""A list that grows on disk: what a run knows of its rows, whose number has no bound, takes no memory.

In: values, appended one after the other. Out: a sequence of them. Up to MEMORY_BYTES stay in memory, so that a small
set touches no disk; more goes to a file without a name, which is gone when the list is.
"""

import pickle
import tempfile
import threading
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from evaluator.errors import ResultError

Item = TypeVar("Item")
Value = TypeVar("Value")

MEMORY_BYTES = 8 << 20
_CHUNK = 32
"""Values that are written and read together: what finding a single one costs."""


class SpooledList(Sequence[Item], Generic[Item]):
    """A list of values that can be pickled; nothing in it can be replaced.

    Args:
        items: to begin with.
        pack: makes a value small and quick to pickle.
        unpack: the inverse.

    Raises:
        ResultError: (from every way of adding) the folder for temporary files is full or cannot be written.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        *,
        pack: Callable[[Item], Any] = lambda item: item,
        unpack: Callable[[Any], Item] = lambda packed: packed,
    ) -> None:
        self._pack, self._unpack = pack, unpack
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - it lives as long as this
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._ends = array("q", [0])
        self._open: list[Any] = []
        self._kept: tuple[int, list[Any]] = (-1, [])
        self.extend(items)

    def append(self, item: Item) -> None:
        """Add a value."""
        self._open.append(self._pack(item))
        if len(self._open) == _CHUNK:
            data = pickle.dumps(self._open, pickle.HIGHEST_PROTOCOL)
            try:
                with self._lock:
                    self._file.seek(self._ends[-1])
                    self._file.write(data)
            except OSError as error:
                raise ResultError(f"Cannot write to {tempfile.gettempdir()}: {error.strerror}; see TMPDIR.") from error
            self._ends.append(self._ends[-1] + len(data))
            self._open = []

    def extend(self, items: Iterable[Item]) -> None:
        """Add values."""
        for item in items:
            self.append(item)

    def __len__(self) -> int:
        return (len(self._ends) - 1) * _CHUNK + len(self._open)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = place + len(self) if place < 0 else place
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self._unpack(self.packed_at(place))

    def __iter__(self) -> Iterator[Item]:
        return map(self._unpack, self.packed())

    def packed(self) -> Iterator[Any]:
        """The values as `pack` made them, which is much quicker where a part of each is enough."""
        number = 0
        while number * _CHUNK < len(self):
            yield from self._chunk(number)
            number += 1

    def packed_at(self, place: int) -> Any:
        """A value as `pack` made it."""
        return self._chunk(place // _CHUNK)[place % _CHUNK]

    def _chunk(self, number: int) -> list[Any]:
        if number == len(self._ends) - 1:
            return self._open
        kept, items = self._kept
        if kept != number:
            start, end = self._ends[number], self._ends[number + 1]
            with self._lock:
                self._file.seek(start)
                data = self._file.read(end - start)
            items = pickle.loads(data)
            self._kept = (number, items)
        return items


class Column(Sequence[Value], Generic[Value]):
    """A part of each value of a spooled list.

    Args:
        items: the list.
        read: gives the part, of a value as `pack` made it.
    """

    def __init__(self, items: SpooledList[Any], read: Callable[[Any], Value]) -> None:
        self._items, self._read = items, read

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> Value: ...
    @overload
    def __getitem__(self, place: slice) -> list[Value]: ...
    def __getitem__(self, place: int | slice) -> Value | list[Value]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = place + len(self) if place < 0 else place
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self._read(self._items.packed_at(place))

    def __iter__(self) -> Iterator[Value]:
        return map(self._read, self._items.packed())
