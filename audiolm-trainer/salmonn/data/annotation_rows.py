"""The rows of an annotation file, one after the other, without ever holding all of them.

The file is JSON ({"annotation": [...]} or the bare list) or has a row a line, by any name, with a byte order mark or
without. Rows are plain values; at the end there is a digest of the file's bytes.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path
from typing import Any, BinaryIO

from salmonn.audio.regular_file import open_regular, reason
from salmonn.data.mistaken_file import not_json_cure, not_utf8_cure
from salmonn.errors import DatasetError
from salmonn.json_object import json_object

CHUNK_BYTES = 1 << 20
MAX_VALUE_CHARACTERS = 1 << 26
"""No row is this long: what does not end within it is not JSON, and the rest of the file need not be read to know."""
LINES_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
FIELD = "annotation"
_ROW_FIELDS = frozenset({"path", "text", "task", "testset_id"})
_DOCUMENT = re.compile(r'\{\s*"annotation"\s*:\s*\[')
_KEY_CHARACTERS = 200
_BLANK = " \t\r\n"
_MARK = "\ufeff"


class AnnotationRows:
    """Iterates over the rows of an annotation once.

    Args:
        path: a JSON file, or one with a row a line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()

    @property
    def content(self) -> str:
        """SHA-256 of the file's bytes, complete once the iteration has ended."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows in the file's order.

        Raises:
            DatasetError: as `placed`.
        """
        return (row for _, row in self.placed())

    def placed(self) -> Iterator[tuple[int, Any]]:
        """Yield each row with its line, from 1, or with 0 where a row has no line of its own.

        Raises:
            DatasetError: the file cannot be read, is not JSON or has not the form of an annotation.
        """
        try:
            with open_regular(self.path) as file:
                characters = _Characters(file, self._digest)
                try:
                    yield from _rows(characters, lines=self.path.suffix.lower() in LINES_SUFFIXES)
                except (UnicodeDecodeError, JSONDecodeError) as error:
                    raise DatasetError(f"annotation {self.path} is not JSON: {characters.locate(error)}") from error
                except (RecursionError, ValueError) as error:  # ValueError: more digits than Python converts
                    raise DatasetError(f"annotation {self.path} nests too deep or has a number too long") from error
                except _WrongFormError as error:
                    raise DatasetError(f"annotation {self.path} {error}") from error
        except OSError as error:
            raise DatasetError(f"annotation {self.path} {reason(error)}") from error


class _WrongFormError(Exception):
    """The file is JSON, but no annotation."""


class _Characters:
    """The characters of a file with a place in them; what lies before the place is forgotten."""

    def __init__(self, file: BinaryIO, digest: "hashlib._Hash") -> None:
        self._file = file
        self._digest = digest
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._scan = json.JSONDecoder(object_pairs_hook=json_object).raw_decode
        self._text = ""
        self._place = 0
        self._lines_before = 0
        self._column_before = 0
        self._ended = False
        self._marked: bool | None = None

    @property
    def line_number(self) -> int:
        """The line of the place, from 1."""
        return self._lines_before + self._text.count("\n", 0, self._place) + 1

    def peek(self) -> str:
        """The next character that is not blank, "" at the end of the file."""
        while True:
            text, place = self._text, self._place
            while place < len(text) and text[place] in _BLANK:
                place += 1
            self._place = place
            if place < len(text):
                return text[place]
            if not self._more():
                return ""

    def take(self, wanted: str) -> None:
        """Step over the next character, which must be this one."""
        if self.peek() != wanted:
            raise self.error(f"Expecting {wanted!r}")
        self._place += 1

    def value(self) -> Any:
        """Read the next value."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except JSONDecodeError:
                if self._ended or len(self._text) - self._place > MAX_VALUE_CHARACTERS:
                    raise
                self._more()
                continue
            # A number may go on in the next chunk ("12" of "12.5e+3"); everything else ends where it ends.
            if not self._ended and len(self._text) - end < 3 and self._text[end : end + 1] in ".eE":
                self._more()
                continue
            self._place = end
            return value

    def line(self) -> str | None:
        """Read to the end of the line, None at the end of the file."""
        while (end := self._text.find("\n", self._place)) < 0:
            if not self._more():
                end = len(self._text)
                break
        if self._place == len(self._text):
            return None
        found = self._text[self._place : end + 1]
        self._place += len(found)
        return found

    def error(self, message: str) -> JSONDecodeError:
        """What is to be raised when the next character is wrong."""
        return JSONDecodeError(message, self._text, self._place)

    def error_in(self, line: str, message: str) -> JSONDecodeError:
        """What is to be raised when the rest of a line, which was just read, should not be there."""
        return JSONDecodeError(message, line, len(line) - len(line.lstrip()))

    def begins_document(self) -> bool:
        """Whether the first object is {"annotation": [...]}, as far as its first key tells."""
        self.peek()
        while len(self._text) - self._place < _KEY_CHARACTERS and self._more():
            pass
        return _DOCUMENT.match(self._text, self._place) is not None

    def locate(self, error: UnicodeDecodeError | JSONDecodeError) -> str:
        """Describe an error with its line in the whole file."""
        if isinstance(error, UnicodeDecodeError):
            return f"it is not UTF-8 text ({error.reason}); {not_utf8_cure(error.object)}"
        # A line of JSON Lines was stepped over before it was parsed.
        start = 0 if error.doc is self._text else self._place - len(error.doc)
        line = self._lines_before + self._text.count("\n", 0, start) + error.doc.count("\n", 0, error.pos) + 1
        column = error.pos - error.doc.rfind("\n", 0, error.pos)
        if error.doc is self._text and "\n" not in error.doc[: error.pos]:
            column += self._column_before
        cure = not_json_cure(error.doc[:_KEY_CHARACTERS]) if line == 1 else ""
        return f"{error.msg}: line {line} column {column}{cure}"

    def _more(self) -> bool:
        """Read further, twice as much each time that one value needs it; False at the end of the file."""
        if self._ended:
            return False
        data = self._file.read(max(CHUNK_BYTES, len(self._text) - self._place))
        self._digest.update(data)
        self._ended = not data
        newline = self._text.rfind("\n", 0, self._place)
        self._column_before = self._place - newline - 1 + (self._column_before if newline < 0 else 0)
        self._lines_before += self._text.count("\n", 0, self._place)
        if self._marked is None and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise _WrongFormError("is UTF-16; save it as UTF-8")
        self._text = self._text[self._place :] + self._decoder.decode(data, final=self._ended)
        self._place = 0
        if self._marked is None and self._text:
            self._marked = self._text.startswith(_MARK)
            self._text = self._text.removeprefix(_MARK)
        return bool(data)


def _rows(characters: _Characters, *, lines: bool) -> Iterator[tuple[int, Any]]:
    """Yield (line or 0, row) of a document, or of a file of lines, which its name or its first object tells."""
    first = characters.peek()
    if lines and first != "[" and not characters.begins_document():
        yield from _lines(characters)
        return
    if first == "{":
        yield from _object(characters)
    elif first == "[":
        yield from _elements(characters)
    else:
        characters.value()
        raise _WrongFormError(_FORM)
    if characters.peek():
        raise characters.error("Extra data")


_FORM = f'must hold {{"{FIELD}": [...]}}, a list, or a row a line'


def _object(characters: _Characters) -> Iterator[tuple[int, Any]]:
    """Yield the rows in an object's field "annotation"; an object that is a row itself begins a file of lines."""
    found = False
    start = characters.line_number
    fields: list[tuple[str, Any]] = []
    for key in _keys(characters):
        if key != FIELD or characters.peek() != "[":
            fields.append((key, characters.value()))
            continue
        if found:
            raise _WrongFormError(f'holds "{FIELD}" twice')
        found = True
        yield from _elements(characters)
    if found:
        return
    row = json_object(fields)
    if FIELD in row or not _ROW_FIELDS & row.keys():
        raise _WrongFormError(_FORM)
    yield start, row
    rest = characters.line()
    if rest is not None and rest.strip():
        raise characters.error_in(rest, "Extra data")
    yield from _lines(characters)


def _elements(characters: _Characters) -> Iterator[tuple[int, Any]]:
    characters.take("[")
    if characters.peek() == "]":
        characters.take("]")
        return
    while True:
        yield 0, characters.value()
        if characters.peek() == "]":
            characters.take("]")
            return
        characters.take(",")


def _keys(characters: _Characters) -> Iterator[str]:
    """Yield the keys of an object; the caller reads each one's value before the next."""
    characters.take("{")
    if characters.peek() == "}":
        characters.take("}")
        return
    while True:
        if characters.peek() != '"':
            characters.take('"')
        key: str = characters.value()
        characters.take(":")
        yield key
        if characters.peek() == "}":
            characters.take("}")
            return
        characters.take(",")


def _lines(characters: _Characters) -> Iterator[tuple[int, Any]]:
    """Yield the rows of lines; blank lines are none."""
    number = characters.line_number
    while (line := characters.line()) is not None:
        if line.strip():
            yield number, json.loads(line, object_pairs_hook=json_object)
        number += 1
