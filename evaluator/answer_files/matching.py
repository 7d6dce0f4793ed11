"""Which answer is for which clip: answers in any order in, one text a clip out, or a report of what does not fit.

Clips and answers of one testset_id, where there are several, belong together in their order.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.answer_files.file import Answer
from evaluator.errors import Problem, ResultError
from evaluator.wording import named

_NAMED = 50


def match(answers: Sequence[Answer], samples: Sequence[Sample], *, path: Path | str, annotation: Path) -> list[Answer]:
    """Find the answer of each clip.

    Args:
        answers: of a file, in its order.
        samples: of an annotation, one a clip.
        path: the file, or what else the answers are called, for messages.
        annotation: the annotation, for messages.

    Returns:
        list[Answer]: one a clip, in the annotation's order.

    Raises:
        ResultError: clips have no answer, answers are for no clip, or several are for one; all of them are named.
    """
    if len(answers) == len(samples) and all(map(_is_for, answers, samples)):
        return list(answers)  # as most files are; a large one needs no tables then
    given: dict[str, list[Answer]] = {}
    for answer in answers:
        given.setdefault(answer.id, []).append(answer)
    wanted: dict[str, int] = {}
    for sample in samples:
        wanted[sample.id] = wanted.get(sample.id, 0) + 1
    missing = [name for name, times in wanted.items() if len(given.get(name, ())) < times]
    extra = [f"{name} ({_places(found)})" for name, found in given.items() if name not in wanted]
    twice = [f"{name} ({_places(found)})" for name, found in given.items() if len(found) > wanted.get(name, len(found))]
    problems = [
        Problem(kind, f"{len(names)}: {named(names, _NAMED)}")
        for kind, names in (
            ("clips without an answer", missing),
            ("answers for no clip of the annotation", extra),
            ("clips with more answers than one", twice),
        )
        if names
    ]
    if problems:
        raise ResultError(f"The answers {path} and the annotation {annotation} do not fit:", problems)
    left = {name: iter(found) for name, found in given.items()}
    return [next(left[sample.id]) for sample in samples]


def _is_for(answer: Answer, sample: Sample) -> bool:
    return answer.id == sample.id


def _places(answers: Iterable[Answer]) -> str:
    return ", ".join(answer.place for answer in answers)
