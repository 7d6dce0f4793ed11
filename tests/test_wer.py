"""Tests of word and character error rates."""

import random

import pytest

from evaluator.scoring.wer import ErrorCounts, character_errors, word_errors

# (reference, hypothesis, (hits, substitutions, deletions, insertions), rate)
PAIRS = [
    ("a b c", "a b c", (3, 0, 0, 0), 0.0),
    ("a b c", "a x c", (2, 1, 0, 0), 1 / 3),
    ("a b c", "a c", (2, 0, 1, 0), 1 / 3),
    ("a b", "a b c d e", (2, 0, 0, 3), 1.5),
    ("a b", "", (0, 0, 2, 0), 1.0),
    ("", "x y", (0, 0, 0, 2), None),
    ("", "", (0, 0, 0, 0), None),
    ("a b c d", "b x d y", (2, 1, 1, 1), 0.75),
]


@pytest.mark.parametrize(("reference", "hypothesis", "counts", "rate"), PAIRS)
def test_one_pair(reference: str, hypothesis: str, counts: tuple[int, ...], rate: float | None) -> None:
    errors = word_errors([reference.split()], [hypothesis.split()])
    assert errors.total == ErrorCounts(*counts)
    assert errors.rows == (errors.total,)
    assert errors.total.rate == rate
    assert errors.total.reference_length == len(reference.split())
    assert errors.total.hypothesis_length == len(hypothesis.split())


def test_a_set_sums_edits_and_words() -> None:
    references = [pair[0].split() for pair in PAIRS]
    hypotheses = [pair[1].split() for pair in PAIRS]
    errors = word_errors(references, hypotheses)
    assert errors.total.edits == sum(row.edits for row in errors.rows) == sum(sum(pair[2][1:]) for pair in PAIRS)
    assert errors.total.rate == errors.total.edits / sum(len(reference) for reference in references)


def test_empty_references_add_insertions_and_no_words() -> None:
    errors = word_errors([(), ("a", "b")], [("x",), ("a", "b")])
    assert errors.total.rate == 0.5


def test_no_rows_have_no_rate() -> None:
    assert word_errors([], []).total.rate is None
    assert word_errors([], []).rows == ()


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 references cannot be compared with 1 hypotheses"):
        word_errors([("a",), ("b",)], [("a",)])


def test_characters_count_spaces() -> None:
    errors = character_errors(["ab c"], ["abc"])
    assert errors.total == ErrorCounts(hits=3, substitutions=0, deletions=1, insertions=0)
    assert errors.total.rate == 0.25


def test_against_a_table_of_distances() -> None:
    """An edit distance written down from its definition, on random words."""
    draw = random.Random(7)
    rows = [
        (
            [draw.choice("abcd") for _ in range(draw.randrange(8))],
            [draw.choice("abcd") for _ in range(draw.randrange(8))],
        )
        for _ in range(200)
    ]
    errors = word_errors([row[0] for row in rows], [row[1] for row in rows])
    assert [row.edits for row in errors.rows] == [_distance(*row) for row in rows]


def _distance(first: list[str], second: list[str]) -> int:
    above = list(range(len(second) + 1))
    for i, left in enumerate(first, start=1):
        line = [i]
        for j, right in enumerate(second, start=1):
            line.append(min(above[j] + 1, line[-1] + 1, above[j - 1] + (left != right)))
        above = line
    return above[-1]
