"""Pieces of sentences that several files write: a count with its noun, the name that was probably meant."""

import difflib
from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """Count things: "1 problem", "3 problems"."""
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the nearest of the known words: "; did you mean seed?", or "" where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
