"""Normalisation for any script: raw text in, words of letters and digits out, marks kept as the letters they make.

Whisper's basic normaliser with two differences: text is composed first, so that composed and decomposed input are the
same, and marks (voicing marks, vowel signs, accents) stay with their letter instead of becoming spaces.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator

from evaluator.submission.invisible import is_invisible

# One after the other, as Whisper does it: where brackets of two kinds overlap the order decides.
_BRACKETED = (re.compile(r"[<\[][^>\]]*[>\]]"), re.compile(r"\([^)]+?\)"))
# Broken, private and unassigned characters are not seen either, but they are part of an answer and count.
_COUNTED = ("Cs", "Co", "Cn")


# References are normalised again for every metric and every system that is scored.
@functools.lru_cache(maxsize=1 << 16)
def basic_text(text: str) -> str:
    """Normalise a raw text of any language.

    Args:
        text: raw text; not yet normalised by anything.

    Returns:
        str: NFC, lower case, words separated by one space; "" for text that says nothing.

    Example:
        "「がくせい」 [noise] Ünïted (laughs) 50%" -> "がくせい ünïted 50"
    """
    composed = unicodedata.normalize("NFC", text).lower()
    for bracketed in _BRACKETED:
        composed = bracketed.sub("", composed)
    letters = unicodedata.normalize("NFKC", composed).lower()
    return " ".join(unicodedata.normalize("NFC", "".join(_kept(letters))).split())


def unspaced_text(text: str) -> str:
    """As `basic_text`, without any space: "나는 집에 간다." -> "나는집에간다"."""
    return basic_text(text).replace(" ", "")


def basic_words(text: str) -> tuple[str, ...]:
    """The words of `basic_text`."""
    return tuple(basic_text(text).split())


def _kept(text: str) -> Iterator[str]:
    """Letters, digits and the marks behind them; a space for symbols, punctuation and controls."""
    behind_letter = False
    for character in text:
        category = unicodedata.category(character)
        if category[0] in "SPZ" or category == "Cc":
            behind_letter = False
            yield " "
        elif category[0] == "M":
            if behind_letter and not is_invisible(character):
                yield character
        elif not is_invisible(character) or category in _COUNTED:
            behind_letter = True
            yield character
