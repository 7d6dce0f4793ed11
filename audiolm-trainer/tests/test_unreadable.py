"""Unreadable clips: one warning each, counted once, an error when they are too many."""

import logging

import pytest

from salmonn.data.unreadable import SHOWN_CLIPS, UnreadableClips
from salmonn.errors import AudioError


def test_a_clip_counts_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    clips = UnreadableClips(2)
    with caplog.at_level(logging.WARNING):
        for name in ("b", "a", "b", "b"):
            clips.add(name, f"{name} is broken")
    assert (len(clips), clips.names, clips.reason("a")) == (2, ["a", "b"], "a is broken")
    assert [record.getMessage() for record in caplog.records] == [
        "left out b (1 of at most 2): b is broken",
        "left out a (2 of at most 2): a is broken",
    ]


def test_one_more_than_allowed_stops_and_names_them() -> None:
    clips = UnreadableClips(1)
    clips.add("a", "why a")
    with pytest.raises(AudioError, match=r"2 clips cannot be read, run\.max_unreadable allows 1: a, b\. .*why b"):
        clips.add("b", "why b")
    with pytest.raises(AudioError, match=r"1 clip cannot be read, run\.max_unreadable allows 0: x"):
        UnreadableClips(0).add("x", "why")


def test_a_long_list_is_cut_and_counted() -> None:
    clips = UnreadableClips(SHOWN_CLIPS + 4)
    for number in range(SHOWN_CLIPS + 4):
        clips.add(f"{number:03}", "why")
    with pytest.raises(AudioError, match=f"{SHOWN_CLIPS - 1:03}, and 5 more"):
        clips.add("zzz", "why")
