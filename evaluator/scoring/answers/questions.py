"""Question answering: an answer is parsed strictly, and is right or wrong; what cannot be parsed is counted.

With choices an answer is a letter ("B", "(b)", "B.", "Answer: B"), the text of a choice, or both where they agree. Free
answers are compared as texts. Texts are compared after: lower case, white space as one space, quotes and full stops
around them dropped. `mmau_match` is the rule of MMAU's and MMAR's own scripts: the answer holds every word of the right
choice and no word that only the others have.
"""

import re
from collections.abc import Sequence

from evaluator.annotation.question_sets import AROUND, LETTERS, plain, right_choice
from evaluator.scoring.protocols.signature import sign
from evaluator.scoring.result import MetricResult, Scores
from evaluator.tasks import QA

_LEAD = re.compile(r"^(?:the )?(?:correct |right |final )?answer(?: is)?\s*:?\s*")
_LETTER = re.compile(r"\(?([a-z])(?:\)|[.:](?=\s|$)|(?=$))\s*(.*)", re.DOTALL)
_PROTOCOL = "strict: a letter, a choice's text, or both where they agree; lower case; counted, never guessed"


def score_answers(
    hypotheses: Sequence[str], references: Sequence[tuple[str, ...]], choices: Sequence[tuple[str, ...]]
) -> Scores:
    """Score the answers of a set.

    Args:
        hypotheses: N raw answers.
        references: N rows of at least one right answer: the text of a choice, or its letter where no choice is that
            text.
        choices: N rows of choices as they were asked, () for a free answer.

    Returns:
        Scores: accuracy over all rows; mmau_match over those with choices; details.unparsed counts answers to choices
        that name none or several.
    """
    rows = list(zip(hypotheses, references, choices, strict=True))
    parsed = [parse_answer(answer, options) if options else None for answer, _, options in rows]
    right = [
        _is_right(answer, answers, options, place)
        for (answer, answers, options), place in zip(rows, parsed, strict=True)
    ]
    matched = [
        mmau_match(answer, _text(answers[0], options), options) if options else None
        for answer, answers, options in rows
    ]
    unparsed = sum(bool(options) and place is None for (_, _, options), place in zip(rows, parsed, strict=True))
    signature = sign(
        (
            ("protocol", "answers"),
            ("parse", "strict"),
            ("case", "lower"),
            ("unit", "question"),
            ("rows", str(len(rows))),
        ),
        (),
    )
    metrics = [
        MetricResult(
            "accuracy",
            sum(right) / len(right),
            rows=tuple(map(float, right)),
            evidence={"right": tuple(map(int, right))},
            protocol=_PROTOCOL,
            signature=signature,
        )
    ]
    known = [found for found in matched if found is not None]
    if known:
        metrics.append(
            MetricResult(
                "mmau_match",
                sum(known) / len(known),
                rows=tuple(None if found is None else float(found) for found in matched),
                protocol="MMAU's and MMAR's own: every word of the right choice, no word that only others have",
                signature=signature.extended({"parse": "mmau"}),
            )
        )
    details = {"unparsed": unparsed, "with_choices": len(known)}
    return Scores(QA.name, len(rows), tuple(metrics), details, {metric.name: metric.rows for metric in metrics})


def parse_answer(answer: str, choices: Sequence[str]) -> int | None:
    """The place of the choice that an answer names, None where it names none, or two.

    Example:
        >>> [parse_answer(text, ["cow", "dog"]) for text in ("B", "(b) dog", "dog.", "The answer is A", "B. cow")]
        [1, 1, 1, 0, None]
    """
    said = _LEAD.sub("", plain(answer))
    texts = [plain(choice) for choice in choices]
    if said in texts:
        return texts.index(said)
    match = _LETTER.fullmatch(said)
    if match is None:
        return None
    place, rest = LETTERS.index(match[1].upper()), match[2].strip(AROUND)
    if place >= len(choices) or (rest and rest != texts[place]):
        return None
    return place


def mmau_match(answer: str, right: str, choices: Sequence[str]) -> bool:
    """Whether an answer has all words of the right choice and none that only others have."""
    said, wanted = _words(answer), _words(right)
    wrong = {word for choice in choices for word in _words(choice)} - wanted
    return bool(said) and wanted <= said and not said & wrong


def _is_right(answer: str, answers: Sequence[str], choices: Sequence[str], place: int | None) -> bool:
    if choices:
        return place is not None and place in {right_choice(each, choices) for each in answers}
    return plain(answer) in {plain(each) for each in answers}


def _text(answer: str, choices: Sequence[str]) -> str:
    place = right_choice(answer, choices)
    return answer if place is None else choices[place]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))
