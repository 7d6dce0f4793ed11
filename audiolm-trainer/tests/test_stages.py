"""Tests of a clip's stages: together they are the model, and their weights and memory are counted."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from salmonn.inference.stages import ClipStages, peak_activations
from salmonn.model.salmonn import SALMONN
from salmonn.quantization.layers import tensor_bytes

PROMPT = "USER: <Speech><SpeechHere></Speech> What do you hear?\nASSISTANT:"


class Clip(NamedTuple):
    audio: NDArray[np.float32]
    prompt: str


@pytest.fixture(scope="module")
def clip() -> Clip:
    noise = np.random.default_rng(0).standard_normal(16000 * 3).astype(np.float32)
    return Clip(noise, PROMPT)


def test_the_stages_together_are_the_model(tiny: SALMONN, clip: Clip) -> None:
    staged = ClipStages(tiny, *clip)
    for stage in staged.stages():
        stage.run()
    with torch.no_grad():
        embeds = tiny.wrap(tiny.embed(tiny.encode([clip.audio]))[0], clip.prompt)
        first = tiny.llm(inputs_embeds=embeds[None], use_cache=True)
        token = first.logits[:, -1:].argmax(dim=-1)
        second = tiny.llm(input_ids=token, past_key_values=first.past_key_values)
    assert torch.equal(staged._output.logits, second.logits)


def test_every_weight_belongs_to_one_stage(tiny: SALMONN, clip: Clip) -> None:
    stages = ClipStages(tiny, *clip).stages()
    names = ["features", "whisper", *(["beats"] if tiny.speech_encoder.beats else []), "qformer", "projection"]
    assert [stage.name for stage in stages] == [*names, "prompt", "step"]
    whole = tensor_bytes([*tiny.parameters(), *tiny.buffers()])
    assert sum(stage.weights_bytes for stage in stages) == whole


def test_shared_storage_counts_once() -> None:
    whole = torch.zeros(10, 10)
    assert tensor_bytes([whole, whole[:5], whole.T]) == 400
    assert tensor_bytes([whole, torch.zeros(3, dtype=torch.int8)]) == 403


def test_the_peak_of_what_runs_is_counted() -> None:
    kept = torch.zeros(1000, 1000)

    def run() -> None:
        first = kept + 1
        del first
        second, third = kept * 2, kept * 3
        assert second is not third

    # The scalars of the products are tensors, too.
    assert 8_000_000 <= peak_activations(run, torch.device("cpu")) < 8_000_100
