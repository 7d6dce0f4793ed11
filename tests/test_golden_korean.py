"""Korean pairs whose errors were counted by two other programs (tests/make_golden_korean.py says which and how)."""

import json
import unicodedata
from collections import Counter
from typing import Any

import pytest
from make_golden_korean import GOLDEN, counted, make

from evaluator.config.sections import ScoringConfig
from evaluator.scoring.scoring import score
from evaluator.tasks import ASR

ITEMS: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
PROTOCOLS = ("ko-cer", "ko-cer-spaced", "ko-swer", "ko-wer")


def test_there_are_enough_of_every_kind() -> None:
    assert len(ITEMS) >= 300
    assert len({item["reference"] for item in ITEMS}) == 64
    assert min(Counter(item["change"] for item in ITEMS).values()) >= 50
    assert make() == ITEMS


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_pair_has_the_errors_that_others_count(name: str, form: str) -> None:
    references = [(unicodedata.normalize(form, item["reference"]),) for item in ITEMS]
    [metric] = score(ASR, references, [item["hypothesis"] for item in ITEMS], ScoringConfig(protocol=name)).metrics
    counts = metric.evidence
    wrong = []
    for row, item in enumerate(ITEMS):
        edits = sum(counts[kind][row] for kind in ("substitutions", "deletions", "insertions"))
        units = sum(counts[kind][row] for kind in ("substitutions", "deletions", "hits"))
        if [edits, units] != item[name]:
            wrong.append((item, edits, units))
    assert wrong == []
    edits, units = (sum(item[name][place] for item in ITEMS) for place in (0, 1))
    assert metric.value == edits / units


# Worked by hand: (reference, hypothesis, spoilt words, CER, CER with spaces, sWER, WER) as (edits, units).
BY_HAND = [
    ("비가 온다", "비가온다", 0, (0, 4), (1, 5), (0, 2), (2, 2)),
    ("비가 온다", "비 가 온다", 0, (0, 4), (1, 5), (0, 2), (2, 2)),
    ("비가 온다", "비가 왔다", 1, (1, 4), (1, 5), (1, 2), (1, 2)),
    ("비가 많이 온다", "비가 온다", 1, (2, 6), (3, 8), (1, 3), (1, 3)),
    ("비가 온다", "정말 비가 온다", 1, (2, 4), (3, 5), (1, 2), (1, 2)),
]


@pytest.mark.parametrize(("reference", "hypothesis", "spoilt", "cer", "spaced", "swer", "wer"), BY_HAND)
def test_the_counts_are_those_of_a_hand(
    reference: str, hypothesis: str, spoilt: int, cer: Any, spaced: Any, swer: Any, wer: Any
) -> None:
    expected = dict(zip(PROTOCOLS, map(list, (cer, spaced, swer, wer)), strict=True))
    assert counted(reference, hypothesis, spoilt) == {name: expected[name] for name in expected}
    for name, (edits, units) in expected.items():
        [metric] = score(ASR, [(reference,)], [hypothesis], ScoringConfig(protocol=name)).metrics
        assert metric.value == edits / units, name
