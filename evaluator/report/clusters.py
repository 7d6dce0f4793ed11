"""Where the errors of a run are: clips of one kind together, by how much worse they are than the set.

In: a run, what its annotation says of speakers. Out: clusters, those first that cost the score most; suspect
references.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluator.diagnosis.answers import Given, findings
from evaluator.report.annotation_facts import AnnotationFacts
from evaluator.report.runs import Run
from evaluator.run.journal import Prediction
from evaluator.tasks import CLS, QA

FINDINGS: Mapping[str, str] = {
    "failed": "no answer",
    "token_limit": "cut off by the token limit",
    "loop": "loops",
    "empty": "empty answer",
    "duplicate": "answer given to 3 clips or more",
    "refusal": "refuses to answer",
    "language_switch": "in another script",
}
"""Kinds of wrong answers, as a person reads them."""
_MOST_SPEAKERS, _FEWEST_CLIPS = 5, 3
_FEWEST_WORDS = 3
_LONG_SHARE, _FEWEST_FOR_LONG = 0.1, 20
_NUMBER = re.compile(
    r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)"
    r"teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Clips of one kind.

    Attributes:
        key: what the page filters by.
        title: for a person.
        rows: which they are.
        value: the metric over them.
        rest: the metric over all others; None where there are none.
        share: their part of the set's errors, or of what is missing to a better score; 0 to 1.
        excess: how much of that they have more than as many clips like the others would; 0 and less is no cluster.
    """

    key: str
    title: str
    rows: tuple[int, ...]
    value: float
    rest: float | None
    share: float
    excess: float

    @property
    def filter(self) -> str:
        """What shows its clips in the page's table."""
        return self.key if self.key.startswith("speaker ") else f"flag:{self.key}"


def findings_of(run: Run) -> dict[str, list[int]]:
    """Finding -> rows; that many clips have one answer is no fault where answers are some of a few."""
    given = [_given(each) for each in run.predictions]
    found = {key: list(rows) for key, rows in findings(given).items()}
    if run.system.task in (QA.name, CLS.name):
        found.pop("duplicate", None)
    return {key: rows for key in FINDINGS if (rows := found.get(key, []))}


def _given(each: Prediction) -> Given:
    told = each.reference
    references = () if told is None else (told,) if isinstance(told, str) else told
    return Given.of(each.id, references, each.text, each.finish_reason)


def clusters(run: Run, found: Mapping[str, Sequence[int]], facts: AnnotationFacts) -> list[Cluster]:
    """The clusters of a run, those first that cost the score most.

    Args:
        run: whose metric has rows; else there are none.
        found: of `findings_of`.
        facts: of `annotation_facts`.
    """
    if run.metric is None:
        return []
    kinds = [(key, FINDINGS[key], rows) for key, rows in found.items()]
    kinds += _by_length(run)
    kinds += _with_numbers(run)
    told = [_cluster(run, *kind) for kind in kinds if kind[2]]
    return sorted(told, key=lambda each: -each.excess) + _speakers(run, facts)


def _by_length(run: Run) -> list[tuple[str, str, list[int]]]:
    seconds = [each.audio_seconds for each in run.predictions]
    kinds: list[tuple[str, str, list[int]]] = []
    heard = run.record.heard_seconds
    if heard:
        cut = [row for row, each in enumerate(seconds) if each >= heard - 0.001]
        kinds.append(("long", f"as long as the model hears ({heard:g} s), or longer", cut))
    if len(seconds) >= _FEWEST_FOR_LONG:
        bound = sorted(seconds)[-max(1, round(_LONG_SHARE * len(seconds)))]
        longest = [row for row, each in enumerate(seconds) if each >= bound > 0]
        if len(longest) < len(seconds) // 2:
            kinds.append(("longest", f"the longest clips ({bound:.1f} s and more)", longest))
    return kinds


def _with_numbers(run: Run) -> list[tuple[str, str, list[int]]]:
    """Rows whose reference has digits or English number words."""
    rows = [
        row
        for row, told in enumerate(run.system.references)
        if run.system.task in ("asr", "st") and told and _NUMBER.search(told[0])
    ]
    return [("numbers", "numbers in the reference", rows)]


def _speakers(run: Run, facts: AnnotationFacts) -> list[Cluster]:
    """The speakers that cost most; at most five, each of three clips or more."""
    by_speaker: dict[str, list[int]] = {}
    for row, speaker in enumerate(facts.speakers):
        by_speaker.setdefault(speaker, []).append(row)
    if len(by_speaker) < 2:
        return []
    told = [
        _cluster(run, f"speaker {name}", f"speaker {name}", rows)
        for name, rows in by_speaker.items()
        if len(rows) >= _FEWEST_CLIPS
    ]
    costly = [each for each in told if each.excess > 0]
    return sorted(costly, key=lambda each: -each.excess)[:_MOST_SPEAKERS]


def _cluster(run: Run, key: str, title: str, rows: Sequence[int]) -> Cluster:
    kind = run.kind
    assert kind is not None  # a run without a metric has no clusters
    above, below = run.sums
    # Of a metric where more is better, what is lost is what the best row has more than these.
    best = 0.0 if not kind.higher_is_better else max(above, default=0.0)
    lost = [abs(best * under - over) for over, under in zip(above, below, strict=True)]
    own_above, own_below, own_lost = (sum(column[row] for row in rows) for column in (above, below, lost))
    rest_below, whole_lost = sum(below) - own_below, sum(lost)
    rest_rate = (whole_lost - own_lost) / rest_below if rest_below else None
    excess = own_lost - (rest_rate or 0.0) * own_below
    return Cluster(
        key=key,
        title=title,
        rows=tuple(rows),
        value=own_above / own_below if own_below else 0.0,
        rest=(sum(above) - own_above) / rest_below if rest_below else None,
        share=own_lost / whole_lost if whole_lost else 0.0,
        excess=excess,
    )


def suspects_of(run: Run, wrong: Sequence[int]) -> list[int]:
    """Rows whose answer has words, and none of the reference's: perhaps the reference is of another clip.

    Args:
        run: of a task whose answers are aligned.
        wrong: rows whose answer went wrong as an answer (a loop, a refusal, nothing at all); they are no suspects.
    """
    kind = run.kind
    if kind is None or not kind.unit:
        return []
    left_out = set(wrong)
    found = []
    for row, (told, text) in enumerate(zip(run.system.references, run.system.texts, strict=True)):
        reference, answer = set(_words(told[0] if told else "")), set(_words(text))
        if row not in left_out and min(len(reference), len(answer)) >= _FEWEST_WORDS and not reference & answer:
            found.append(row)
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
