"""Scripts other than the Latin one, as far as counting characters needs to know them.

In: a raw text. Out: the same text whose letters of other scripts are replaced by placeholders, so that a normaliser
made for English leaves them and their marks alone; and texts without the spaces that their script does not write.
"""

import functools
import re
import unicodedata

from evaluator.submission.invisible import is_invisible

# Private characters: no normaliser has a rule for them, and no text of a language has them.
_FIRST_PLACEHOLDER = 0xF0000
# Vowel points and tone marks that a writer may leave out; hamza and madda, which make another letter, are none.
_OPTIONAL_POINTS = ("ARABIC", "HEBREW", "SYRIAC", "SAMARITAN")
_HAMZA = frozenset("\u0653\u0654\u0655")
_TATWEEL = "\u0640"

# Scripts that put no spaces between words: Chinese, Japanese, Bopomofo, Yi, Thai, Lao, Tibetan, Burmese, Khmer, the Tai
# scripts, Balinese, Javanese. Their digits and signs are in the same blocks.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u2fdf\u3005-\u3007"
    "\u3021-\u3029\u3031-\u303c\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf"
    "\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_SPACE_BESIDE_UNSPACED = re.compile(rf"(?<=[{_UNSPACED}]) +| +(?=[{_UNSPACED}])")


def set_aside(text: str) -> tuple[str, dict[int, str]]:
    """Replace the letters of other scripts, and their marks, by placeholders.

    The letters are lower-cased and NFKC first, so that composed, decomposed and half-width text are the same. Points
    that Arabic, Hebrew and Syriac may leave out are dropped, and so is what cannot be seen.

    Args:
        text: raw text.

    Returns:
        tuple[str, dict[int, str]]: the text, and a table for `str.translate` that puts the letters back.

    Example:
        "Go, がく!" -> "Go, XY!" and {X: "が", Y: "く"}, where X and Y are private characters.
    """
    placeholders: dict[str, str] = {}
    pieces: list[str] = []
    run = ""
    for character in text:
        if is_other_letter(character) or (run and _goes_with_a_letter(character)):
            run += character
            continue
        pieces += [_replaced(run, placeholders), character]
        run = ""
    pieces.append(_replaced(run, placeholders))
    return "".join(pieces), {ord(placeholder): letter for letter, placeholder in placeholders.items()}


def without_unwritten_spaces(text: str) -> str:
    """Leave out spaces beside letters of scripts that write none: "你好 世界 in Python 3" -> "你好世界in Python 3"."""
    return _SPACE_BESIDE_UNSPACED.sub("", text)


def _replaced(run: str, placeholders: dict[str, str]) -> str:
    letters = unicodedata.normalize("NFKC", run.lower())
    kept = [letter for letter in letters if letter.isspace() or not _may_be_left_out(letter)]
    return "".join(
        letter if letter.isspace() else placeholders.setdefault(letter, chr(_FIRST_PLACEHOLDER + len(placeholders)))
        for letter in kept
    )


@functools.lru_cache(maxsize=1 << 14)
def is_other_letter(character: str) -> bool:
    """A letter of another script than the Latin one; a private character, which must not be taken for a placeholder."""
    category = unicodedata.category(character)
    if category == "Co":
        return True
    if category[0] != "L" and category != "Nl":
        return False
    name = unicodedata.name(unicodedata.normalize("NFKD", character)[0], "")
    return not name.startswith(("LATIN ", "MODIFIER LETTER "))


def _goes_with_a_letter(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


@functools.lru_cache(maxsize=1 << 14)
def _may_be_left_out(letter: str) -> bool:
    if unicodedata.category(letter) == "Co":
        return False
    if letter == _TATWEEL or is_invisible(letter):
        return True
    point = unicodedata.category(letter) == "Mn" and letter not in _HAMZA
    return point and unicodedata.name(letter, "").startswith(_OPTIONAL_POINTS)
