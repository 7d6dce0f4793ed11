"""The speech encoder is put together in the same way where a model is loaded, measured and rehearsed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from salmonn.config.config import from_mapping
from salmonn.config.schema import Config
from salmonn.model.assembly import build_speech_encoder
from salmonn.model.meta import build_meta_model
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import SpeechEncoder
from salmonn.model.tiny import build_tiny_model


def configure(sections: dict[str, Any], folder: Path, **changes: Any) -> Config:
    return from_mapping({**sections, "model": {**sections["model"], **changes}}, folder)


def sizes(encoder: SpeechEncoder) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in encoder.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"beats_path": ""}, {"window_level_Qformer": False, "num_speech_query_token": 5}, {"second_stride": 0.166667}],
    ids=["default", "whisper-alone", "no-windows", "overlap"],
)
def test_a_loaded_a_measured_and_a_rehearsed_encoder_agree(
    build: Any, reference_sections: dict[str, Any], reference: Path, changes: dict[str, Any]
) -> None:
    config = configure(reference_sections, reference, ckpt="none", **changes)
    loaded: SALMONN = build(ckpt="none", **changes)
    measured, rehearsed = build_meta_model(config, offline=True), build_tiny_model(config)
    assert sizes(measured.speech_encoder) == sizes(loaded.speech_encoder)
    for model in (measured, rehearsed):
        encoder = model.speech_encoder
        assert encoder.windows == loaded.speech_encoder.windows
        assert encoder.front_end.patch_frames == (16 if config.model.beats_path else 0)
        assert (encoder.beats is None) == (not config.model.beats_path)
        assert encoder.query_tokens.shape[1] == config.model.num_speech_query_token


def test_the_bridge_is_as_wide_as_its_encoders_and_the_language_model(
    tiny: SALMONN, reference_sections: dict[str, Any], reference: Path
) -> None:
    given = tiny.speech_encoder
    assert given.beats is not None
    encoder = build_speech_encoder(
        configure(reference_sections, reference).model,
        whisper=given.whisper,
        beats=given.beats,
        extractor=given.front_end.extractor,
        output_width=24,
        qformer_sizes={"hidden_size": 8, "num_attention_heads": 2},
    )
    width = given.whisper.config.d_model + given.beats.config.encoder_embed_dim
    assert encoder.qformer.config.encoder_hidden_size == width
    assert encoder.query_tokens.shape[2] == encoder.projection.in_features == 8
    assert encoder.projection.out_features == 24
