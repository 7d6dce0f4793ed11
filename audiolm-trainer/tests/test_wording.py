"""Pieces of sentences: counts, and names that were probably meant."""

from salmonn.wording import counted, did_you_mean


def test_one_thing_has_no_plural() -> None:
    assert [counted(number, "clip") for number in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]


def test_only_a_near_name_is_suggested() -> None:
    assert did_you_mean("sed", {"seed": 1, "device": 2}) == "; did you mean seed?"
    assert did_you_mean("zzz", {"seed": 1}) == did_you_mean("seed", ()) == ""
