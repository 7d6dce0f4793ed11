"""Whispers of every shape, tiny and random: 80 and 128 mel bins, with few layers; trained and answering."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_language_models import bytes_tokenizer, make_folder, sections, train_and_answer
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration


def make_whisper(folder: Path, *, bins: int, encoder: int, decoder: int, width: int = 32) -> Path:
    torch.manual_seed(0)
    sizes = WhisperConfig(d_model=width, encoder_layers=encoder, decoder_layers=decoder, encoder_attention_heads=2,
                          decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=16, num_mel_bins=bins,
                          vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                          decoder_start_token_id=1)  # fmt: skip
    WhisperForConditionalGeneration(sizes).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=bins).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("bins", "encoder", "decoder"),
    [
        pytest.param(128, 3, 1, id="as large-v3-turbo"),
        pytest.param(128, 2, 1, id="as distil-large-v3"),
        pytest.param(80, 2, 2, id="as small and tiny"),
    ],
)
def test_every_whisper_trains_and_answers(
    bins: int, encoder: int, decoder: int, reference: Path, tmp_path: Path
) -> None:
    whisper = make_whisper(tmp_path / "whisper", bins=bins, encoder=encoder, decoder=decoder)
    llama = make_folder(tmp_path / "llm", "llama", bytes_tokenizer("<s>"))
    written = sections(reference, tmp_path, llama, whisper_path=str(whisper), beats_path="", context_seconds=10.0)
    lm, _ = train_and_answer(written)
    wave = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    features = lm.model.speech_encoder.front_end([wave], torch.device("cpu"))
    extractor = WhisperFeatureExtractor(feature_size=bins, chunk_length=10)
    theirs = extractor([wave], sampling_rate=16_000, return_tensors="np").input_features
    assert features.mel.shape == (1, bins, 1000)
    np.testing.assert_allclose(features.mel.numpy(), theirs, atol=1e-5)
    assert lm.model.speech_encoder.whisper.config.encoder_layers == encoder
    shutil.rmtree(whisper)
