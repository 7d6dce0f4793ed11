"""The diagnoses of a set: its answers and Scores in, what scores.json says below details.diagnoses out.

Rates of wrong answers, the most frequent confusions, deletions and insertions, the worst clips. What is not there has
no key.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evaluator.diagnosis.alignment import align
from evaluator.diagnosis.answers import Given, findings, frequent_answers
from evaluator.diagnosis.units import counted_splits
from evaluator.scoring.result import MetricResult, Scores
from evaluator.tasks import CLS, QA

KEY = "diagnoses"

# Tasks whose answers are some of a few: that many clips have the same is no fault.
_OF_FEW = (QA.name, CLS.name)
_MOST_IDS = 20
_MOST_FREQUENT = 10
_WORST = 5
# Words of further clips are not made anew: normalising is most of the cost of scoring.
_MOST_ALIGNED = 20_000


def diagnosed(scores: Scores, rows: Sequence[Given]) -> Scores:
    """Add the diagnoses to a set's details.

    Args:
        scores: of the set.
        rows: its answers, in the order of the scores' rows.
    """
    found: dict[str, Any] = {}
    rates = {
        name: {
            "rows": len(places),
            "rate": len(places) / len(rows),
            "ids": [rows[place].id for place in places[:_MOST_IDS]],
        }
        for name, places in findings(rows).items()
        if name != "duplicate" or scores.task not in _OF_FEW
    }
    same = frequent_answers(rows)[:_MOST_FREQUENT] if "duplicate" in rates else []
    rate = next((metric for metric in scores.metrics if metric.kind.unit and metric.evidence), None)
    found |= {"rates": rates, "frequent_answers": [{"text": text, "rows": number} for text, number in same]}
    found |= _errors(rate, rows) if rate is not None else {"worst": _lowest(scores, rows)}
    told = {name: value for name, value in found.items() if value}
    return replace(scores, details={**scores.details, KEY: told}) if told else scores


def _errors(rate: MetricResult, rows: Sequence[Given]) -> dict[str, Any]:
    """What an error rate is made of: pairs and units by count, and the clips with the most errors."""
    kinds = ("substitutions", "deletions", "insertions")
    edits = [sum(counts) for counts in zip(*(rate.evidence[kind] for kind in kinds), strict=True)]
    lengths = [sum(counts) for counts in zip(*(rate.evidence[kind] for kind in ("hits", *kinds[:2])), strict=True)]
    wrong = [place for place, number in enumerate(edits) if number]
    reference_units, answer_units = counted_splits(rate.signature.get("protocol") or "challenge", rate.kind.unit)
    confused: Counter[tuple[str, str]] = Counter()
    missing: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for place in wrong[:_MOST_ALIGNED]:
        found = align(reference_units(rows[place].references[0]), answer_units(rows[place].text))
        for word, said in zip(found.reference, found.said, strict=True):
            if said is None:
                missing[word] += 1
            elif said != word:
                confused[word, said] += 1
        inserted.update(word for words in found.inserted for word in words)
    worst = sorted(wrong, key=lambda place: (-edits[place], place))[:_WORST]
    return {
        "confusions": [{"reference": word, "answer": said, "count": count} for (word, said), count in _most(confused)],
        "deletions": [{"reference": word, "count": count} for word, count in _most(missing)],
        "insertions": [{"answer": word, "count": count} for word, count in _most(inserted)],
        "worst": [
            {"id": rows[place].id, "edits": edits[place], f"reference_{rate.kind.unit}s": lengths[place]}
            for place in worst
        ],
        "clips_aligned": _MOST_ALIGNED if len(wrong) > _MOST_ALIGNED else None,
    }


def _most(counts: "Counter[Any]") -> list[tuple[Any, int]]:
    """The most frequent ones; of equal counts the first in the alphabet."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_FREQUENT]


def _lowest(scores: Scores, rows: Sequence[Given]) -> list[dict[str, Any]]:
    """The clips with the lowest score by the first metric of captions that has rows."""
    metric = next((each for each in scores.metrics if each.kind.task == "aac" and each.rows), None)
    if metric is None:
        return []
    valued = [(value, place) for place, value in enumerate(metric.rows) if value is not None]
    return [{"id": rows[place].id, metric.name: value} for value, place in sorted(valued)[:_WORST]]
