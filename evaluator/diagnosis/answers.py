"""Answers that went wrong as answers, whatever they score, by stated rules.

token limit        the model was cut off by its token limit
loop               the same 1 to 10 words at least 4 times in a row, or the same 1 to 10 characters at least 8 times (no
                   digits; a letter among them), where no reference has such a run
empty              nothing that can be seen, and no declared refusal
duplicate          3 clips or more with this answer, whose references are not all the same
refusal            the model declared one, or a phrase of `_REFUSALS`, which no reference has
failed             no answer at all; such a row is of no other kind
language switch    more than half of the letters are of scripts in which no reference is written
"""

import functools
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evaluator.spooled_list import SpooledList
from evaluator.submission.invisible import is_invisible

MOST_WORDS, WORD_TIMES = 10, 4
FEWEST_SAME = 3

_CHARACTER_LOOP = re.compile(r"([^\d\s](?:\D{0,9}?))\1{7}", re.DOTALL)
_REFUSALS = re.compile(
    r"\bas an ai\b|\bi(?:'|’)?m sorry,? (?:but )?i\b|\bi (?:can(?:no|'|’)t|cannot|am unable to|'m unable to) "
    r"(?:hear|listen|process|transcribe|access|assist|help|describe|identify)\b|\bunable to (?:process|transcribe)\b"
    r"|\bno audio (?:was |is |has been )?(?:provided|given|attached)\b|죄송하지만|도와드릴 수 없|들을 수 없습니다"
    r"|作为(?:一个)?人工智能|我无法|申し訳(?:ありません|ございません)が",
    re.IGNORECASE,
)
# Scripts that one language is written in.
_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "BOPOMOFO": "CJK"}


@dataclass(frozen=True, slots=True)
class Given:
    """One clip's answer.

    Attributes:
        id: its testset_id.
        references: what it is compared with.
        text: the answer, as the model gave it.
        cut_off: whether the token limit ended it; False where that is not known.
        failed: whether there was no answer at all.
        refused: whether the model declared that it will not answer.
    """

    id: str
    references: tuple[str, ...]
    text: str
    cut_off: bool = False
    failed: bool = False
    refused: bool = False

    @classmethod
    def of(cls, id: str, references: tuple[str, ...], text: str, finish_reason: str) -> "Given":
        """The answer of a prediction, which says by its finish_reason how it ended."""
        return cls(
            id, references, text, finish_reason == "length", finish_reason == "error", finish_reason == "refusal"
        )


def spooled(rows: Iterable[Given]) -> SpooledList[Given]:
    """Answers in a list that takes no memory."""
    return SpooledList(
        rows,
        pack=lambda row: (row.id, row.references, row.text, row.cut_off, row.failed, row.refused),
        unpack=lambda packed: Given(*packed),
    )


def findings(rows: Sequence[Given]) -> "dict[str, array[int]]":
    """The rows of each kind of wrong answer; kinds without any are left out. Rows without an answer are "failed"."""
    shared = _shared(rows)
    rules: dict[str, Callable[[Given], bool]] = {
        "token_limit": lambda row: row.cut_off,
        "loop": lambda row: loops(row.text) and not any(map(loops, row.references)),
        "empty": lambda row: not row.refused and all(map(is_invisible, row.text)),
        "duplicate": lambda row: bool(shared) and _folded(row.text) in shared,
        "refusal": lambda row: row.refused or (refuses(row.text) and not any(map(refuses, row.references))),
        "language_switch": lambda row: switches(row.text, row.references),
    }
    found = {name: array("q") for name in (*rules, "failed")}
    for place, row in enumerate(rows):
        if row.failed:
            found["failed"].append(place)
            continue
        for name, rule in rules.items():
            if rule(row):
                found[name].append(place)
    return {name: places for name, places in found.items() if places}


def frequent_answers(rows: Sequence[Given]) -> list[tuple[str, int]]:
    """The answers that are duplicates and how many clips have each, most first."""
    return sorted(_shared(rows).items(), key=lambda item: (-item[1], item[0]))


def loops(text: str) -> bool:
    """Whether a text repeats itself: "the dog the dog the dog the dog" does, "no no no" does not."""
    words = [word.strip(".,!?;:'\"") for word in text.lower().split()]
    return _repeats(words) or any(
        any(map(str.isalpha, match[1]))
        for part in _parts_that_may_loop(text.lower())
        for match in _CHARACTER_LOOP.finditer(part)
    )


def _parts_that_may_loop(text: str) -> Sequence[str]:
    """Where to search for the same characters 8 times in a row, which costs more than all else of a long set.

    Across white space a loop has the same word again and again; every other loop lies within a word.
    """
    words = text.split()
    return [text] if len(words) - len(set(words)) >= 3 else [word for word in words if len(word) >= 8]


def _repeats(words: Sequence[str]) -> bool:
    if len(words) - len(set(words)) < WORD_TIMES - 1:
        return False
    for period in range(1, min(MOST_WORDS, len(words) // WORD_TIMES) + 1):
        run = 0
        for place in range(period, len(words)):
            run = run + 1 if words[place] == words[place - period] else 0
            if run == period * (WORD_TIMES - 1):
                return True
    return False


def refuses(text: str) -> bool:
    """Whether a text says that it will not answer."""
    return _REFUSALS.search(text) is not None


def switches(text: str, references: Sequence[str]) -> bool:
    """Whether a text is mostly in scripts that no reference has. Languages of one script are not told apart."""
    if text.isascii() and any(character.isalpha() for row in references for character in row if character.isascii()):
        return False
    known = {_script(character) for row in references for character in row if character.isalpha()}
    letters = [_script(character) for character in text if character.isalpha()]
    return bool(known) and 2 * sum(script not in known for script in letters) > len(letters)


@functools.lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "").partition(" ")[0]
    return _TOGETHER.get(name, name)


def _shared(rows: Sequence[Given]) -> dict[str, int]:
    # By their hashes first: of a large set only texts that are there several times are kept.
    hashes = sorted(array("q", (hash(_folded(row.text)) for row in rows)))
    several = {one for one, other in zip(hashes, hashes[FEWEST_SAME - 1 :], strict=False) if one == other}
    groups: dict[str, _Same] = {}
    for row in rows if several else ():
        text = _folded(row.text)
        if hash(text) in several and not row.failed and not all(map(is_invisible, row.text)):
            groups.setdefault(text, _Same(row.references)).add(row.references)
    return {text: same.number for text, same in groups.items() if same.number >= FEWEST_SAME and same.differ}


@dataclass(slots=True)
class _Same:
    """Clips with one answer: how many, and whether their references differ."""

    references: tuple[str, ...]
    number: int = 0
    differ: bool = False

    def add(self, references: tuple[str, ...]) -> None:
        self.number += 1
        self.differ |= references != self.references


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
