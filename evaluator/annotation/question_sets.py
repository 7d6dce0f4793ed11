"""Rows of question-answering sets: their choices, what is asked, and the layout of MMAU and MMAR.

In: a row. Out: the row in this project's own fields, and the question as it is asked with its choices. MMAU and MMAR
rows have id, audio_id or audio_path, question, choices and answer in place of testset_id, path, Q, choices and text.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from evaluator.annotation.file import Row
from evaluator.tasks import QA
from evaluator.wording import shown

CHOICES = "choices"
LETTERS = string.ascii_uppercase
AROUND = " \t\n\"'`.!?,;:“”‘’。"
_THEIRS = {"testset_id": ("id",), "path": ("audio_id", "audio_path"), "Q": ("question",), "text": ("answer",)}


def in_own_fields(row: Row) -> Row:
    """Rename the fields of a row of MMAU or MMAR; any other row stays as it is.

    Example:
        {"id": "a", "audio_id": "x.wav", "question": "What?", "choices": ["cow", "dog"], "answer": "dog"}
        -> {"testset_id": "a", "path": "x.wav", "Q": "What?", "choices": ["cow", "dog"], "text": "dog", "task": "QA"}
    """
    value = row.value
    if not isinstance(value, dict) or "path" in value or not {"question", "answer"} <= value.keys():
        return row
    renamed = {key: own for own, names in _THEIRS.items() for key in names}
    # Their "task" says what kind of audio it is.
    kept = {renamed.get(key, key): item for key, item in value.items() if key != "task"}
    return replace(row, value=kept | {"task": QA.labels[0]})


def choices_of(value: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """A row's choices, () where the answer is free; and what is wrong with them."""
    found = value.get(CHOICES)
    if found is None:
        return (), None
    expected = f"{CHOICES}: expected a list of 2 to {len(LETTERS)} different texts"
    if not isinstance(found, list) or not all(isinstance(each, str) and each.strip() for each in found):
        return (), f"{expected}, found {shown(found)}"
    if not 2 <= len(found) <= len(LETTERS) or len({each.strip().casefold() for each in found}) < len(found):
        return (), f"{expected}, found {shown(found)}"
    return tuple(found), None


def shuffled(choices: Sequence[str], *, seed: int | None, identifier: str) -> tuple[str, ...]:
    """The choices in an order of the row's own, always the same for a seed; as they are without one."""
    mixed = list(choices)
    if seed is not None:
        Random(f"{seed}:{identifier}").shuffle(mixed)
    return tuple(mixed)


def with_choices(question: str, choices: Sequence[str]) -> str:
    """The question as it is asked.

    Example:
        ("What barks?", ["cow", "dog"]) -> "What barks?\\n(A) cow\\n(B) dog\\nAnswer with the letter of one choice."
    """
    if not choices:
        return question
    lines = [f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question.rstrip(), *lines, "Answer with the letter of one choice."])


def plain(text: str) -> str:
    """A text as it is compared: lower case, white space as one space, nothing of AROUND at its ends."""
    return " ".join(text.lower().split()).strip(AROUND)


def right_choice(answer: str, choices: Sequence[str]) -> int | None:
    """The place of the right choice: by its text, else by its letter; None where it is none."""
    texts = [plain(choice) for choice in choices]
    if plain(answer) in texts:
        return texts.index(plain(answer))
    letter = answer.strip(" ().").upper()
    return LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS[: len(choices)] else None
