"""The probe and the model's figures: counts against arithmetic, first tokens against answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from salmonn.decoding.decoder import Decoder
from salmonn.inference import probe as probe_module
from salmonn.inference.inference import SalmonnLM
from salmonn.model.figures import model_figures


class Asked:
    """A request of two seconds."""

    index = 3
    audio = (0.1 * np.random.default_rng(0).standard_normal(32000)).astype(np.float32)
    task = "asr"
    question = ""


def prompt_of(lm: SalmonnLM) -> str:
    return lm.prompts.prompt(Asked.task, Asked.question)


def llama_macs(llm: Any, *, tokens: int, attended: int) -> int:
    """MACs of a Llama with LoRA: `tokens` new positions that see `attended` places, and the scores of one token."""
    sizes = llm.config
    width, head = sizes.hidden_size, sizes.head_dim
    query, kv = sizes.num_attention_heads * head, sizes.num_key_value_heads * head
    layer = 2 * width * query + 2 * width * kv + 3 * width * sizes.intermediate_size
    adapters = sum(p.numel() for name, p in llm.named_parameters() if ".lora_" in name)
    attention = 2 * query * attended
    return int(tokens * (sizes.num_hidden_layers * (layer + attention) + adapters) + width * sizes.vocab_size)


def test_language_model_counts_are_those_of_arithmetic(nano: SalmonnLM) -> None:
    figures = model_figures(nano.model, Asked.audio, prompt_of(nano))
    length = int(figures["prompt_tokens"])
    assert length > 40
    assert figures["macs_prompt"] == llama_macs(nano.model.llm, tokens=length, attended=length)
    assert figures["macs_token"] == llama_macs(nano.model.llm, tokens=1, attended=length + 1)


def test_encoders_count_whisper_whole_and_beats_by_length(nano: SalmonnLM) -> None:
    sizes: Any = nano.model.speech_encoder.whisper.config
    width, frames = sizes.d_model, sizes.max_source_positions
    layer = 4 * width**2 + 2 * width * sizes.encoder_ffn_dim + 2 * frames * width
    convolutions = 2 * frames * width * 3 * sizes.num_mel_bins + frames * width * 3 * width
    whisper = convolutions + sizes.encoder_layers * frames * layer
    short, long = (model_figures(nano.model, np.tile(Asked.audio, times), prompt_of(nano)) for times in (1, 3))
    assert whisper < short["macs_encoders"] < long["macs_encoders"]
    for name in ("macs_bridge", "macs_prompt", "macs_token"):
        assert short[name] == long[name]


def test_parameters_are_all_and_those_of_a_checkpoint(nano: SalmonnLM) -> None:
    figures = model_figures(nano.model, Asked.audio, prompt_of(nano))
    assert figures["parameters_total"] == sum(p.numel() for p in nano.model.parameters())
    assert figures["parameters_trained"] == sum(t.numel() for t in nano.model.trained_state_dict().values())


def test_counting_leaves_no_gradient_and_no_changed_answer(nano: SalmonnLM) -> None:
    before = list(nano.generate([Asked()]))
    nano.probe().figures(Asked())
    assert list(nano.generate([Asked()])) == before
    assert all(parameter.grad is None for parameter in nano.model.parameters())


@pytest.mark.parametrize("engine", ["own", "transformers"])
@pytest.mark.parametrize("num_beams", [1, 4])
def test_the_first_token_is_computed_by_the_engine_that_answers(
    nano: SalmonnLM, monkeypatch: pytest.MonkeyPatch, engine: Any, num_beams: int
) -> None:
    lm = with_beams(nano, num_beams, engine)
    seen: list[tuple[str, int]] = []

    def first_token(self: Decoder, prompt: Any) -> int:
        seen.append(("own", 1))
        return first(self, prompt)

    def generate_ids(*args: Any) -> list[list[int]]:
        ids = original(*args)
        seen.extend(("transformers", len(row)) for row in ids)
        return ids

    original, first = probe_module.generate_ids, Decoder.first_token
    monkeypatch.setattr(Decoder, "first_token", first_token)
    monkeypatch.setattr(probe_module, "generate_ids", generate_ids)
    answers = list(lm.generate([Asked()]))
    certain = lm.probe().first_token(Asked())
    assert seen == [(engine, 1)]
    assert certain is (num_beams == 1)
    assert list(lm.generate([Asked()])) == answers
    assert answers[0].num_tokens > 1


def test_settings_name_what_figures_hold_for(nano: SalmonnLM) -> None:
    found = nano.probe().settings()
    assert found["device"] == "cpu"
    assert (found["encoder_dtype"], found["bridge_dtype"], found["llm_dtype"]) == ("float32",) * 3
    assert (found["num_beams"], found["batch_size"]) == (nano.settings.num_beams, nano.batch_size)
    assert found["engine"] == "own"
    assert found["slots"] == (nano.decoder.slots or 0 if nano.decoder else None)
    assert found["threads"] == torch.get_num_threads()


def test_a_cpu_needs_no_waiting(nano: SalmonnLM) -> None:
    probe = nano.probe()
    probe.synchronize()
    probe.reset_peak_memory()
    assert nano.peak_memory() is None


def with_beams(lm: SalmonnLM, num_beams: int, engine: Any) -> SalmonnLM:
    """The same model, answering with other settings."""
    settings = replace(lm.defaults, num_beams=num_beams)
    return SalmonnLM(lm.model, prompts=lm.prompts, settings=settings, end_sym="</s>", batch_size=2, engine=engine)
