"""Clips are run through BEATs with clips of similar length, which changes nothing that is heard."""

import numpy as np
import pytest
import torch

from salmonn.inference import SalmonnLM
from salmonn.speech_encoder import similar_lengths


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([100, 10, 90, 9], [[0, 2], [1, 3]]),
        ([5, 5, 5], [[0, 1, 2]]),
        ([100, 74, 75], [[0, 2], [1]]),
        ([0, 16], [[1], [0]]),
    ],
)
def test_groups_hold_no_clip_much_shorter_than_their_longest(lengths: list[int], groups: list[list[int]]) -> None:
    assert similar_lengths(lengths) == groups


def test_grouped_clips_are_heard_as_alone(nano: SalmonnLM) -> None:
    rng = np.random.default_rng(0)
    waves = [0.1 * rng.standard_normal(n).astype(np.float32) for n in (16_000, 90_000, 20_000, 84_000)]
    together = nano.model.encode(waves)
    for place, wave in enumerate(waves):
        alone = nano.model.encode([wave])
        count = int(alone.beats_tokens[0])
        assert int(together.beats_tokens[place]) == count
        torch.testing.assert_close(together.beats[place, :count], alone.beats[0, :count], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.whisper[place], alone.whisper[0], atol=1e-5, rtol=0)
