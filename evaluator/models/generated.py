"""From the ids that transformers generates to answers."""

from collections.abc import Callable, Sequence
from typing import Any

from evaluator.model import Answer, Request


def end_ids(settings: Any) -> set[int]:
    """The ids that end an answer, of a generation configuration."""
    found = settings.eos_token_id
    return set(found) if isinstance(found, (list, tuple)) else {found} - {None}


def answers_of(
    batch: Sequence[Request],
    rows: Sequence[Sequence[int]],
    *,
    ends: set[int],
    pad: int | None,
    most: int,
    decode: Callable[[list[int]], str],
) -> list[Answer]:
    """One answer a request.

    Args:
        batch: the requests.
        rows: for each the new ids, filled up behind its end.
        ends: ids that end an answer.
        pad: what rows are filled up with; None where nothing is.
        most: the most new ids an answer may have.
        decode: ids -> text.
    """
    answers = []
    for request, row in zip(batch, rows, strict=True):
        end = next((at for at, token in enumerate(row) if token in ends), None)
        ids = list(row if end is None else row[: end + 1])
        while end is None and ids and ids[-1] == pad:
            ids.pop()
        cut = end is None and len(ids) >= most
        answers.append(Answer(request.index, decode(ids).strip(), len(ids), "length" if cut else "stop"))
    return answers
