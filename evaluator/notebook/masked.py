"""Errors that leave these functions, without the access tokens that they may have picked up.

A notebook keeps what it shows, so a token in a message would be saved with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from evaluator.errors import AudioLMError, Problem
from evaluator.redaction import Redactor


@contextmanager
def masked() -> Iterator[Redactor]:
    """Mask the texts of what is raised in the block, and of what it was raised from; `add` further secrets to it."""
    redact = Redactor()
    try:
        yield redact
    except BaseException as error:
        seen: list[BaseException] = []
        each: BaseException | None = error
        while each is not None and each not in seen:
            _mask(each, redact)
            seen.append(each)
            each = each.__cause__ or each.__context__
        raise


def _mask(error: BaseException, redact: Redactor) -> None:
    error.args = tuple(redact(each) if isinstance(each, str) else each for each in error.args)
    if isinstance(error, AudioLMError):
        error.message = redact(error.message)
        error.problems = tuple(Problem(redact(each.where), redact(each.message)) for each in error.problems)
