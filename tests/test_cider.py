"""Tests of CIDEr-D: aac-metrics' own loop to rounding, and one set by hand."""

import math
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from aac_metrics.functional import cider_d as aac_metrics_cider_d

from evaluator.scoring.cider import cider_d


def draw_set(seed: int) -> tuple[list[str], list[list[str]]]:
    """Captions of few words, so that many n-grams are shared; some empty, some equal to a reference."""
    rng = Random(seed)
    words = [f"w{number}" for number in range(rng.choice([3, 12, 60]))]
    longest = rng.choice([2, 6, 18])

    def caption() -> str:
        return " ".join(rng.choices(words, k=rng.randint(0, longest)))

    clips = rng.randint(2, 40)
    references = [[caption() for _ in range(rng.randint(1, 5))] for _ in range(clips)]
    references[0][0] = references[0][0] or "w0"
    hypotheses = [rng.choice([caption(), references[clip][0]]) for clip in range(clips)]
    return hypotheses, references


@pytest.mark.parametrize("seed", range(60))
def test_the_numbers_are_those_of_aac_metrics(seed: int) -> None:
    hypotheses, references = draw_set(seed)
    corpus, rows = aac_metrics_cider_d(hypotheses, references)
    found = cider_d(hypotheses, references)
    assert found.tolist() == pytest.approx(rows["cider_d"].tolist(), abs=1e-9)
    assert float(found.mean()) == pytest.approx(float(corpus["cider_d"]), abs=1e-9)


def test_a_set_by_hand() -> None:
    """Two clips, "a b" against "a b" and "a" against "c".

    idf is ln 2 for a, b, "a b" and c, each in one clip's references. Clip 1: both cosines, of unigrams and the bigram,
    are 1, lengths are equal; orders 3 and 4 have no n-grams: 10 / 4 x 2 = 5. Clip 2 shares nothing.
    """
    assert cider_d(["a b", "a"], [["a b"], ["c"]]).tolist() == pytest.approx([5.0, 0.0])


def test_counts_are_clipped_and_lengths_weigh() -> None:
    """ "a a a" against "a": unigrams min(3, 1) x 1 / (3 x 1) = 1/3; 2 bigrams against 0 cost e^(-4/72)."""
    found = cider_d(["a a a", "x"], [["a"], ["b"]])
    assert found.tolist() == pytest.approx([10 / 4 * math.exp(-4 / 72) / 3, 0.0])


def test_the_order_of_references_and_clips_is_nothing() -> None:
    hypotheses, references = draw_set(7)
    found = cider_d(hypotheses, references)
    turned = cider_d(hypotheses[::-1], [row[::-1] for row in references[::-1]])
    assert turned[::-1].tolist() == pytest.approx(found.tolist(), abs=1e-12)


def test_one_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 clips"):
        cider_d(["a"], [["a"]])


SCORED = """
import os
import random
import subprocess
import sys
from pathlib import Path
from evaluator.scoring.cider import cider_d
draw = random.Random(2)
words = "a dog barks loudly while rain falls on the tin roof of an old house near people".split()
text = lambda: " ".join(draw.choices(words, k=draw.randint(3, 12)))
print(cider_d([text() for _ in range(200)], [[text() for _ in range(3)] for _ in range(200)]).tobytes().hex())
"""


def test_every_process_has_the_same_last_digits() -> None:
    """Python orders sets by hashes that are drawn anew in each process."""
    found = {
        subprocess.run(
            [sys.executable, "-c", SCORED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            check=True,
        ).stdout
        for seed in "1234"
    }
    assert len(found) == 1
    assert found.pop().strip()
