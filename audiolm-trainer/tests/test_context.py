"""Tests of a shortened context: Whisper hears the first seconds of its window, and everything after it gets smaller."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

import salmonn
from salmonn.config.config import load_config
from salmonn.config.schema import ModelConfig
from salmonn.errors import ConfigError
from salmonn.inference.inference import load_language_model
from salmonn.model.assembly import build_speech_encoder, shorten_context
from salmonn.model.speech_encoder import SpeechEncoder

ROOT = Path(__file__).resolve().parents[2]


def whisper() -> WhisperEncoder:
    torch.manual_seed(0)
    sizes = {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 128}
    return WhisperEncoder(WhisperConfig(**sizes)).eval()


def encoder(**changes: Any) -> SpeechEncoder:
    torch.manual_seed(1)
    parts = ModelConfig(llama_path="", whisper_path="", **changes)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 1}
    return build_speech_encoder(
        parts,
        whisper=whisper(),
        beats=None,
        extractor=WhisperFeatureExtractor(),
        output_width=16,
        qformer_sizes=sizes,
    ).eval()


def noise(seconds: float) -> Any:
    return np.random.default_rng(0).standard_normal(round(16000 * seconds)).astype(np.float32)


def test_thirty_seconds_are_the_original() -> None:
    assert encoder(context_seconds=30.0).whisper.embed_positions.num_embeddings == 1500
    assert torch.equal(encoder().encode([noise(3)]).whisper, encoder(context_seconds=30.0).encode([noise(3)]).whisper)


@torch.no_grad()
def test_ten_seconds_are_whisper_on_ten_seconds() -> None:
    """Equal to transformers' own extractor and encoder on the first 10 s, with the first 500 positions."""
    short = encoder(context_seconds=10.0)
    mel = WhisperFeatureExtractor(chunk_length=10)(noise(7), sampling_rate=16000, return_tensors="pt").input_features
    reference = whisper()
    hidden = torch.nn.functional.gelu(reference.conv1(mel))
    hidden = torch.nn.functional.gelu(reference.conv2(hidden)).transpose(1, 2) + reference.embed_positions.weight[:500]
    for layer in reference.layers:
        hidden = layer(hidden, None)
    expected = reference.layer_norm(hidden)
    assert mel.shape[-1] == 1000
    encoded = short.encode([noise(7)])
    assert torch.allclose(encoded.whisper, expected, atol=1e-5)
    # (500 - 17) / 17 + 1 windows; 88 of 30 s.
    assert short.bridge(encoded).shape == (1, 29, 16)


def test_a_longer_clip_is_cut() -> None:
    short = encoder(context_seconds=5.0)
    long, cut = noise(9), noise(9)[: 5 * 16000]
    assert torch.equal(short.encode([long]).whisper, short.encode([cut]).whisper)


def test_a_whisper_that_hears_less_stays_as_it_is() -> None:
    once = whisper()
    extractor = shorten_context(once, WhisperFeatureExtractor(), 4.0)
    assert shorten_context(once, extractor, 8.0) is extractor
    assert once.embed_positions.num_embeddings == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.context_seconds=0.5"], "context_seconds"),
        (["model.context_seconds=31"], "context_seconds"),
        (["model.context_seconds=2.505"], "no whole number of frames"),
        (["model.context_seconds=2", "model.second_per_window=3.0"], "a clip has 2 s at most"),
    ],
)
def test_contexts_that_cannot_be_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(ROOT / "configs/salmonn_eval_config.yaml", options)


def test_the_nano_model_with_four_seconds(caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(ROOT / "configs/salmonn_eval_config.yaml", ["model.context_seconds=4"])
    assert load_language_model(config, "cpu").max_seconds == 4.0
    assert "was trained with model.context_seconds 30, and hears 4 s now" in caplog.text
    assert salmonn.max_seconds(config.model_dump()) == 4.0
    whole = load_config(ROOT / "configs/salmonn_eval_config.yaml")
    assert salmonn.max_seconds(whole.model_dump()) == 10.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_bridge_in_sixteen_bits_answers_almost_alike(dtype: str) -> None:
    wave = noise(3)
    plain, half = (
        load_language_model(load_config(ROOT / "configs/salmonn_eval_config.yaml", options), "cpu")
        for options in ([], [f"model.bridge_dtype={dtype}"])
    )
    embedded = [lm.model.embed(lm.model.encode([wave])) for lm in (plain, half)]
    assert str(embedded[1].dtype) == f"torch.{dtype}"
    difference = (embedded[0] - embedded[1].float()).norm() / embedded[0].norm()
    assert 0 < float(difference.detach()) < 0.02
    with pytest.raises(ConfigError, match="the bridge is trained in float32"):
        load_config(ROOT / "configs/salmonn_eval_config.yaml", [f"model.bridge_dtype={dtype}"], purpose="train")
