"""What the journals of a run hold: where each row's answer is, and predictions.jsonl made of them.

In: journals of all attempts and processes. Out: for each row whether it has an answer; the predictions in annotation
order, as a list that takes no memory. Of two answers to a row the first stands, and an answer stands above a failure;
that two differ is counted, for a row's text should not depend on who is asked.
"""

import contextlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import BinaryIO

from evaluator.annotation.annotation import Samples
from evaluator.errors import JournalError
from evaluator.run.clip_record import drop_clips
from evaluator.run.folder import RunPaths, journals, missing_rows, remove_parts
from evaluator.run.journal import Prediction, parse_line, read_lines, reference_of, write_lines
from evaluator.spooled_list import Column, SpooledList

_NONE = -1


class Predictions(SpooledList[Prediction]):
    """The predictions of a run in a list that takes no memory."""

    def __init__(self) -> None:
        super().__init__(pack=_packed, unpack=_unpacked)

    @property
    def texts(self) -> Column[str]:
        """The answers."""
        return Column(self, itemgetter(3))


@dataclass(slots=True)
class Twice:
    """Rows that were answered twice, and those of them whose texts differ."""

    rows: int = 0
    differing: int = 0


class Answers:
    """Where each row's line is.

    Args:
        paths: of the run.
        samples: all rows of the run.

    Raises:
        JournalError: a journal has broken lines, or names rows that the annotation does not have.
    """

    def __init__(self, paths: RunPaths, samples: Samples) -> None:
        self.twice = Twice()
        self._paths, self._samples = paths, samples
        self._files = journals(paths)
        self._offsets = array("q", [_NONE]) * len(samples)
        self._numbers = array("i", [0]) * len(samples)
        # 1 for an answer, 0 for a failure.
        self._answered = bytearray(len(samples))
        # Whether lines are in annotation order and say of each row what the annotation says now.
        self._in_order = len(self._files) == 1
        self._changed = bytearray(len(samples))
        places, ids = _places(samples.rows), samples.ids
        last = -1
        for number, path in enumerate(self._files):
            for offset, prediction in read_lines(path):
                place = places[prediction.index] if 0 <= prediction.index < len(places) else _NONE
                if place == _NONE or ids[place] != prediction.id:
                    raise JournalError(
                        f"{path} holds a prediction for row {prediction.index + 1} ({prediction.id}), which the "
                        "annotation does not have; it is of another run."
                    )
                self._in_order &= place == last + 1
                last = place
                self._note(place, number, offset, prediction)

    def _note(self, place: int, number: int, offset: int, prediction: Prediction) -> None:
        if self._offsets[place] != _NONE and self._answered[place]:
            if prediction.error is None:
                self.twice.rows += 1
                self.twice.differing += self._read_at(place).text != prediction.text
            return
        self._numbers[place], self._offsets[place] = number, offset
        self._answered[place] = prediction.error is None
        same = (prediction.path, prediction.reference) == self._said(place)
        self._changed[place] = not same

    def has_line(self, place: int) -> bool:
        """Whether a row has an answer, or the reason why it has none."""
        return self._offsets[place] != _NONE

    def is_answered(self, place: int) -> bool:
        """Whether a row has an answer. Whoever goes on with the run asks for the others again."""
        return bool(self._answered[place])

    def missing(self) -> list[str]:
        """Ids of the rows that no journal has."""
        return [self._samples.ids[place] for place in range(len(self._samples)) if not self.has_line(place)]

    def failed(self) -> int:
        """How many rows have the reason why they have no answer."""
        return sum(self.has_line(place) and not self.is_answered(place) for place in range(len(self._samples)))

    def merge(self) -> Predictions:
        """Make predictions.jsonl whole, in annotation order, and remove the parts it was made of.

        Raises:
            JournalError: a row has no line; every journal then stays as it is.
        """
        missing = self.missing()
        if missing:
            raise JournalError(f"{missing_rows(missing, len(self._samples))}.")
        predictions = Predictions()
        drop_clips(self._paths.parts)
        if self._in_order and not any(self._changed):
            for line in self._lines():
                predictions.append(parse_line(line))
        else:
            write_lines(self._paths.predictions, self._written(predictions))
        remove_parts(self._paths)
        return predictions

    def _written(self, predictions: Predictions) -> Iterator[bytes | Prediction]:
        """Each row's line, as it is or made anew; the predictions are gathered meanwhile."""
        for place, line in enumerate(self._lines()):
            prediction = parse_line(line)
            if self._changed[place]:
                path, reference = self._said(place)
                prediction = replace(prediction, path=path, reference=reference)
            predictions.append(prediction)
            yield prediction if self._changed[place] else line

    def _lines(self) -> Iterator[bytes]:
        """Each row's line, in annotation order."""
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self._files]
            for place in range(len(self._samples)):
                yield _line_at(files[self._numbers[place]], self._offsets[place])

    def _said(self, place: int) -> tuple[str, str | tuple[str, ...] | None]:
        """What the annotation says of a row: the clip's file, and what the answer is compared with."""
        return self._samples.files[place][0], reference_of(self._samples.references[place])

    def _read_at(self, place: int) -> Prediction:
        with self._files[self._numbers[place]].open("rb") as file:
            return parse_line(_line_at(file, self._offsets[place]))


def _line_at(file: BinaryIO, offset: int) -> bytes:
    if file.tell() != offset:
        file.seek(offset)
    return file.readline()


def _places(rows: Iterable[int]) -> "array[int]":
    """Row of the annotation -> place among the samples; _NONE for a row that is part of another's clip."""
    places = array("q")
    for place, row in enumerate(rows):
        if row >= len(places):
            places.extend([_NONE] * (row + 1 - len(places)))
        places[row] = place
    return places


def _packed(prediction: Prediction) -> tuple[object, ...]:
    return tuple(getattr(prediction, name) for name in Prediction.__slots__)


def _unpacked(packed: tuple[object, ...]) -> Prediction:
    return Prediction(*packed)  # type: ignore[arg-type]
