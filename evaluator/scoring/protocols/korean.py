"""Korean transcripts: the two readings of KsponSpeech's, and the spacing of a reference put on a hypothesis.

KsponSpeech writes "(7시)/(일곱 시)" where spelling and pronunciation differ, marks noises as o/ n/ b/ l/ u/, and puts
/, + and * behind fillers, repetitions and words that are hard to hear.
"""

import re
from collections.abc import Sequence
from typing import Literal

from evaluator.errors import AnnotationError, Problem
from evaluator.wording import shown

Side = Literal["none", "spelling", "phonetic"]

_DUAL = re.compile(r"\(([^()]*)\)\s*/\s*\(([^()]*)\)")
_HALF_DUAL = re.compile(r"\)\s*/|/\s*\(")
_NOISE = re.compile(r"(?<![A-Za-z])(?:[onblu]/)+(?![A-Za-z])")
_HESITATION = re.compile(r"(?<=\w)[/+*]+(?=[\s.,?!]|$)")


def read_references(references: Sequence[str], side: Side) -> list[str]:
    """Take one side of dual transcripts, without marks of noise and hesitation.

    Args:
        references: raw references.
        side: "spelling" for the first of each pair, "phonetic" for the second, "none" for plain text.

    Returns:
        list[str]: the references to be normalised.

    Raises:
        AnnotationError: a pair is not complete; or `side` is "none" and there are pairs, whose words the normaliser
            would drop with their brackets. Every row is named.

    Example:
        "b/ 아/ 모+ 몬 소리야 (70%)/(칠 십 퍼센트) n/", "phonetic" -> "아 모 몬 소리야 칠 십 퍼센트"
    """
    if side == "none":
        _refuse([number for number, text in enumerate(references, start=1) if _DUAL.search(text)])
        return list(references)
    read = [_DUAL.sub(r"\1" if side == "spelling" else r"\2", text) for text in references]
    problems = [
        Problem(f"row {number}", f"a dual transcript is not complete: {shown(references[number - 1])}")
        for number, text in enumerate(read, start=1)
        if _HALF_DUAL.search(text)
    ]
    if problems:
        raise AnnotationError("References cannot be read as (spelling)/(pronunciation):", problems)
    return [" ".join(_HESITATION.sub("", _NOISE.sub(" ", text)).split()) for text in read]


def _refuse(rows: Sequence[int]) -> None:
    if not rows:
        return
    problems = [Problem(f"row {number}", "(spelling)/(pronunciation)") for number in rows[:10]]
    if len(rows) > len(problems):
        problems.append(Problem("", f"and {len(rows) - len(problems)} more"))
    raise AnnotationError(
        f"{len(rows)} reference(s) have dual transcripts; say which side counts: scoring.dual_transcripts: spelling or "
        "phonetic.",
        problems,
    )


def spaced_as(reference: Sequence[str], hypothesis: Sequence[str], pairs: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The hypothesis's characters, divided into words as the reference is where the two align.

    Between two neighbouring characters that both align there is a space if the reference has one between their
    partners. Beside a character that is too many the hypothesis keeps its own spacing.

    Args:
        reference: its words.
        hypothesis: its words.
        pairs: (place in the reference, place in the hypothesis) of characters that align, spaces not counted.

    Returns:
        tuple[str, ...]: words.

    Example:
        ("나는", "집에"), ("나는집에",), the four pairs (0, 0) ... (3, 3) -> ("나는", "집에")
    """
    partner = {place: origin for origin, place in pairs}
    reference_starts, own_starts = _word_starts(reference), _word_starts(hypothesis)
    characters = "".join(hypothesis)
    words: list[str] = []
    for place, character in enumerate(characters):
        before, here = partner.get(place - 1), partner.get(place)
        if before is None or here is None:
            starts = place in own_starts
        else:
            starts = any(start in reference_starts for start in range(before + 1, here + 1))
        if starts or not words:
            words.append(character)
        else:
            words[-1] += character
    return tuple(words)


def _word_starts(words: Sequence[str]) -> set[int]:
    starts, place = set(), 0
    for word in words:
        starts.add(place)
        place += len(word)
    return starts
