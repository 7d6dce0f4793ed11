"""Texts of a submission: how a model's answer becomes a cell, and what is odd about a cell.

In: one text. Out: the cleaned text, whether anything in it can be seen, or warnings as (code, detail). The writer and
the validator both use it, so a cell that is written is a cell that is accepted.
"""

import re
from collections.abc import Iterator

from evaluator.submission.invisible import is_invisible
from evaluator.wording import shown

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATES = re.compile(r"[\ud800-\udfff]")

VERY_LONG = 2000
"""Characters; 30 s of fast speech are about 600."""

# What pandas' default reader turns into a missing value, lower-cased.
_MISSING_WORDS = frozenset(
    {"#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>"}
    | {"n/a", "na", "nan", "none", "null"}
)
_LINE_BREAKS = re.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_OTHER_CONTROLS = re.compile(r"[\x01-\x08\t\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")
_BIDIRECTIONAL = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SPECIAL_TOKEN = re.compile(r"<\|[^<>|\s]{1,40}\|>|</?s>|<unk>|<pad>|\[/?(?:INST|PAD|UNK|CLS|SEP)\]", re.IGNORECASE)
_SUSPICIOUS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffd<\[]|\A[=+\-@]")


def clean_text(text: str) -> str:
    """Make one line of an answer: lower-case it, fold each run of control characters and line breaks to a
    space.

    Spaces are left as they are, at the ends too, as in the original. Halves of surrogate pairs, which no file
    can hold, become U+FFFD.

    Example:
        "Two\\r\\n dogs\\tBARK " -> "two  dogs bark "
    """
    return _CONTROLS.sub(" ", _SURROGATES.sub("\ufffd", text.lower()))


def is_blank(text: str) -> bool:
    """Whether nothing in a text can be seen: "", spaces, controls, zero-width characters, fillers (U+3164, U+2800)."""
    return all(map(is_invisible, text))


def text_warnings(text: str) -> Iterator[tuple[str, str]]:
    """What somebody should look at in a cell's text, as (code of RULES, detail)."""
    if len(text) <= 20 and text.strip().lower() in _MISSING_WORDS:
        yield "W201", f"{shown(text)} is a text here, but some programs read it as a missing value"
    if len(text) > VERY_LONG:
        yield "W208", f"{len(text)} characters"
    if not _SUSPICIOUS.search(text):
        return
    if _LINE_BREAKS.search(text):
        yield "W202", f"{shown(text)} has one inside"
    if text[0] in "=+-@" and len(text) > 1:
        yield "W203", f"{shown(text)} starts with one; spreadsheets would compute it"
    if _OTHER_CONTROLS.search(text):
        yield "W204", f"one is in {shown(text)}"
    if _BIDIRECTIONAL.search(text):
        yield "W205", f"one is in {shown(text)}"
    if "\ufffd" in text:
        yield "W206", f"U+FFFD is in {shown(text)}: bytes were lost when the text was decoded"
    special = SPECIAL_TOKEN.search(text)
    if special:
        yield "W207", f"{shown(special.group())} looks like a token of the model, not like text"
