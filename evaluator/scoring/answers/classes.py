"""Classification: emotion, gender and the like, a word or two each. An answer is a class, or it is none and counted.

The classes are the texts of the set's references. Texts are compared as those of questions are: lower case, white space
as one space, quotes and stops around them dropped; nothing is searched for inside a longer answer.
"""

from array import array
from collections import Counter
from collections.abc import Sequence

from evaluator.annotation.question_sets import plain
from evaluator.scoring.protocols.signature import sign
from evaluator.scoring.result import MetricResult, Scores
from evaluator.tasks import CLS

MOST_CLASSES = 100
"""Classes of a set whose macro-F1 has an interval."""

_PROTOCOL = "whole answers; lower case, white space as one, quotes and stops around them dropped"


def score_classes(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Score the classes of a set.

    Args:
        hypotheses: N raw answers.
        references: N classes.

    Returns:
        Scores: accuracy, and macro_f1, the unweighted mean of the classes' F1; details.classes has each class's rows,
        answers and right ones, details.unparsed counts answers that are none of the classes.
    """
    said, wanted = [plain(text) for text in hypotheses], [plain(text) for text in references]
    right = Counter(a for a, b in zip(said, wanted, strict=True) if a == b)
    answered, there = Counter(said), Counter(wanted)
    f1 = {name: 2 * right[name] / (answered[name] + there[name]) for name in there}
    hits = tuple(int(a == b) for a, b in zip(said, wanted, strict=True))
    fields = (("protocol", "classes"), ("case", "lower"), ("unit", "clip"), ("rows", str(len(said))))
    signature = sign(fields, ())
    metrics = (
        MetricResult(
            "class_accuracy",
            sum(hits) / len(hits),
            rows=tuple(map(float, hits)),
            evidence={"right": hits},
            protocol=_PROTOCOL,
            signature=signature,
        ),
        MetricResult(
            "macro_f1",
            sum(f1.values()) / len(f1),
            evidence=_class_counts(said, wanted),
            protocol=_PROTOCOL,
            signature=signature,
        ),
    )
    details = {
        "classes": {
            name: {"rows": count, "answered": answered[name], "right": right[name], "f1": f1[name]}
            for name, count in there.items()
        },
        "unparsed": sum(count for name, count in answered.items() if name not in there),
        "with_choices": len(said),
    }
    return Scores(CLS.name, len(said), metrics, details, {"class_accuracy": metrics[0].rows})


def _class_counts(said: Sequence[str], wanted: Sequence[str]) -> "dict[str, array[int]]":
    """What macro-F1 is computed from: of each class right answers, answers and rows, a count a row.

    Empty for more than 100 classes, of which the counts would be larger than the set.
    """
    names = sorted(set(wanted))
    if len(names) > MOST_CLASSES:
        return {}
    right = [a if a == b else None for a, b in zip(said, wanted, strict=True)]
    columns = (("right", right), ("answered", said), ("rows", wanted))
    return {f"{kind} {name}": array("b", (each == name for each in told)) for kind, told in columns for name in names}
