"""The decoder's settings as transformers understands them; its score rules against transformers' own, bit by bit."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.score_rules import ScoreRules
from salmonn.decoding.transformers_decoding import GenerationSettings
from salmonn.errors import ConfigError


@pytest.fixture
def llm() -> LlamaForCausalLM:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=12))


def test_settings_of_the_configuration(llm: LlamaForCausalLM) -> None:
    config = GenerationSettings(num_beams=3, length_penalty=-0.5).for_transformers(eos_ids=[2, 7], bos_id=1)
    settings = DecoderSettings.from_transformers(config, llm)
    assert settings == DecoderSettings(eos_ids=(2, 7), num_beams=3, length_penalty=-0.5, min_length=1, top_k=50)
    assert [DecoderSettings(eos_ids=(2,), min_length=2).eos_from(n) for n in (0, 1, 2, 100)] == [2, 1, 0, 0]
    longer = DecoderSettings.from_transformers(
        GenerationSettings(min_length=2).for_transformers(eos_ids=[2], bos_id=1), llm
    )
    assert [longer.eos_from(length) for length in (0, 1, 100)] == [2, 2, 2]
    assert DecoderSettings(eos_ids=(2,), min_length=5, min_new_tokens=3).eos_from(100) == 3


def test_what_is_left_open_is_the_language_models_own(llm: LlamaForCausalLM) -> None:
    config = GenerationSettings(num_beams=1, do_sample=True, top_p=0.8).for_transformers(eos_ids=[2], bos_id=1)
    llm.generation_config = GenerationConfig(top_k=7, top_p=0.5, do_sample=True)
    settings = DecoderSettings.from_transformers(config, llm, seed=3)
    assert (settings.top_k, settings.top_p, settings.seed) == (7, 0.8, 3)


def test_settings_that_are_not_carried_out_are_named(llm: LlamaForCausalLM) -> None:
    config = GenerationSettings().for_transformers(eos_ids=[2], bos_id=1)
    llm.generation_config = GenerationConfig(no_repeat_ngram_size=3, suppress_tokens=[4], min_p=0.1, do_sample=True)
    with pytest.raises(ConfigError, match=r"generate\.engine: transformers") as caught:
        DecoderSettings.from_transformers(config, llm)
    # min_p counts only when sampling, and the configuration does not sample.
    assert [name for name, _ in caught.value.problems] == ["no_repeat_ngram_size", "suppress_tokens"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"eos_ids": ()}, "eos_ids"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_beams": 0}, "num_beams"),
        ({"temperature": 0.0}, "temperature"),
        ({"repetition_penalty": -1.0}, "repetition_penalty"),
        ({"early_stopping": "sometimes"}, "early_stopping"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DecoderSettings(**({"eos_ids": (2,)} | changes))
    assert [problem for problem, _ in caught.value.problems] == [name]


def test_settings_without_end_or_length(llm: LlamaForCausalLM) -> None:
    llm.generation_config = GenerationConfig()
    with pytest.raises(ConfigError) as caught:
        DecoderSettings.from_transformers(GenerationConfig(), llm)
    assert [problem for problem, _ in caught.value.problems] == ["eos_ids", "max_new_tokens"]


@pytest.mark.parametrize("beams", [1, 3])
def test_rules_change_scores_as_transformers_does(beams: int) -> None:
    """Three clips, each at its own place in its answer, all rules at once."""
    torch.manual_seed(0)
    settings = DecoderSettings(
        eos_ids=(2, 5),
        num_beams=beams,
        do_sample=True,
        repetition_penalty=1.3,
        temperature=0.7,
        top_k=20,
        top_p=0.6,
        min_new_tokens=4,
    )
    scores, tokens = 3 * torch.randn(3, beams, 50), torch.randint(0, 50, (3, beams, 9))
    steps = torch.tensor([0, 3, 8])
    changed = ScoreRules(settings, torch.device("cpu")).apply(scores, tokens, steps=steps, eos_from=torch.full((3,), 4))
    for clip, step in enumerate(steps.tolist()):
        expected = theirs(settings)(tokens[clip, :, :step], scores[clip].clone())
        assert torch.equal(changed[clip], expected), step
        assert step >= 4 or torch.isinf(changed[clip][:, [2, 5]]).all()


def theirs(settings: DecoderSettings) -> Any:
    kept = 1 if settings.num_beams == 1 else 3
    return LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(settings.repetition_penalty),
            MinNewTokensLengthLogitsProcessor(0, 4, list(settings.eos_ids)),
            TemperatureLogitsWarper(settings.temperature),
            TopKLogitsWarper(settings.top_k, min_tokens_to_keep=kept),
            TopPLogitsWarper(settings.top_p, min_tokens_to_keep=kept),
        ]
    )


def test_rules_that_are_off_return_the_scores_themselves() -> None:
    scores: Tensor = torch.randn(1, 2, 10)
    rules = ScoreRules(DecoderSettings(eos_ids=(2,)), torch.device("cpu"))
    tokens = torch.zeros(1, 2, 4, dtype=torch.int64)
    assert rules.apply(scores, tokens, steps=torch.tensor([1]), eos_from=torch.zeros(1, dtype=torch.int64)) is scores
