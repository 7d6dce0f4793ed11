"""The number of slots from free memory; what a slot takes against what is really allocated."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn.decoding import memory_plan
from salmonn.decoding.decoder import Decoder
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.memory_plan import plan_slots, slot_bytes
from salmonn.decoding.slots import Slots
from salmonn.decoding.token_search import Prompt


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "vocab_size": 40}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()


SETTINGS = DecoderSettings(eos_ids=(2,), max_new_tokens=50, num_beams=4)


def test_a_slot_takes_what_is_counted(llm: LlamaForCausalLM) -> None:
    """Keys, values and mask are exact for a prompt that fills its columns; scores are an estimate and are left out."""
    slots = Slots(llm, SETTINGS, slots=3, score_rule=None, record=None)
    with torch.no_grad():
        slots.admit(0, [Prompt(0, torch.randn(64, 32))], None)
        slots.shape(rows=1, prompt=64, steps=50)
    cache = slots.cache
    really = sum(t.numel() * t.element_size() for t in [cache.bias, *cache._buffers.tensors]) / 3
    vocabulary = memory_plan.SCORE_COPIES * 4 * 40 * 4
    tokens = 3 * 4 * 50 * 8
    assert slot_bytes(llm, SETTINGS, prompt_length=64) == really + vocabulary + tokens


def test_the_docstrings_example() -> None:
    config = LlamaConfig(
        hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8, vocab_size=128256
    )
    with torch.device("meta"):
        llm = LlamaForCausalLM(config).to(torch.bfloat16)
    settings = DecoderSettings(eos_ids=(2,), max_new_tokens=200, num_beams=4)
    assert round(slot_bytes(llm, settings, prompt_length=115) / 1e6) == 115


@pytest.mark.parametrize(
    ("beams", "free_slots", "planned", "words"),
    [(4, 1000, 16, "no more are faster"), (4, 10, 5, "16 would be faster"), (4, 0, 1, "16"), (1, 1000, 64, "no more")],
)
def test_as_many_slots_as_fit_and_help(
    llm: LlamaForCausalLM,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    beams: int,
    free_slots: int,
    planned: int,
    words: str,
) -> None:
    """Half of the free memory is planned with."""
    settings = DecoderSettings(eos_ids=(2,), max_new_tokens=50, num_beams=beams)
    each = slot_bytes(llm, settings, prompt_length=20)
    monkeypatch.setattr(memory_plan, "free_memory", lambda: free_slots * each)
    with caplog.at_level(logging.INFO):
        assert plan_slots(llm, settings, prompt_length=20) == planned
    assert f"decoding {planned} clips at a time, {beams} beams each" in caplog.text
    assert words in caplog.text


def test_the_decoder_plans_with_its_first_prompt(llm: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def plan(llm: Any, settings: DecoderSettings, *, prompt_length: int) -> int:
        asked.append(prompt_length)
        return 2

    monkeypatch.setattr("salmonn.decoding.decoder.plan_slots", plan)
    decoder = Decoder(llm, SETTINGS)
    prompts = [(index, torch.randn(length, 32)) for index, length in enumerate((9, 20, 3))]
    assert len(list(decoder.decode(prompts))) == len(list(decoder.decode(prompts))) == 3
    assert (asked, decoder.slots) == ([9], 2)


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"memory.max": "5000", "memory.current": "2000"}
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: texts[self.name])
    assert memory_plan.free_memory() == 3000
    texts["memory.max"] = "max"
    assert memory_plan.free_memory() > 3000
