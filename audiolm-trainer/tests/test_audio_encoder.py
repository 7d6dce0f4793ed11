"""An encoder of one's own in the place of BEATs: the example trains and answers, wrong ones are sentences."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_language_models import bytes_tokenizer, make_folder, sections, train_and_answer
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from salmonn.config.config import from_mapping
from salmonn.config.notices import find_notices
from salmonn.errors import ConfigError
from salmonn.export.export import export_model
from salmonn.model.meta import build_meta_model
from salmonn.planning.dryrun import run_dryrun
from salmonn.preflight.preflight import find_training_problems

TRAINER = Path(__file__).resolve().parents[1]
EXAMPLE = "examples.ast_encoder:ASTEncoder"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(TRAINER)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "examples"]:
        del sys.modules[name]


@pytest.fixture
def ast(tmp_path: Path) -> Path:
    """A tiny random AST of 1.28 s at a time."""
    torch.manual_seed(0)
    sizes = ASTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_length=128,
                      num_mel_bins=32)  # fmt: skip
    ASTModel(sizes).save_pretrained(tmp_path / "ast")
    ASTFeatureExtractor(num_mel_bins=32, max_length=128).save_pretrained(tmp_path / "ast")
    return tmp_path / "ast"


@pytest.fixture
def written(reference: Path, tmp_path: Path, ast: Path) -> dict[str, Any]:
    llama = make_folder(tmp_path / "llm", "llama", bytes_tokenizer("<s>"))
    own = {"beats_path": "", "audio_encoder": EXAMPLE, "audio_encoder_path": str(ast)}
    return sections(reference, tmp_path, llama, **own)


def noise(seconds: float, seed: int = 0) -> Any:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))).astype(np.float32)


def test_the_example_trains_answers_and_is_told(written: dict[str, Any], ast: Path, tmp_path: Path) -> None:
    lm, _ = train_and_answer(written)
    encoder = lm.model.speech_encoder
    config = from_mapping(written, purpose="train")
    assert encoder.qformer.config.encoder_hidden_size == encoder.whisper.config.d_model + 24
    assert not any(p.requires_grad for p in encoder.beats.parameters())
    assert not [key for key, _ in find_notices(config, "train") if "beats" in key or "audio" in key]
    stages = [stage.name for stage in lm.probe().stages(Request())]
    assert stages == ["features", "whisper", "audio_encoder", "qformer", "projection", "prompt", "step"]
    trained = next((tmp_path / "output").glob("*/checkpoint_0.pth"))
    named = from_mapping({**written, "model": {**written["model"], "ckpt": str(trained)}})
    card = export_model(named, form="safetensors", output=tmp_path / "s.safetensors").read_text(encoding="utf-8")
    assert f"| audio encoder | `{EXAMPLE}` |" in card
    assert f'audio_encoder: "{EXAMPLE}"\n  audio_encoder_path: "ast"' in card
    assert str(tmp_path) not in card


class Request:
    index, audio, task, question = 0, noise(1.5), "asr", ""


def test_what_it_hears_counts_and_a_clip_does_not_depend_on_its_neighbours(written: dict[str, Any]) -> None:
    written["model"]["ckpt"] = "none"
    from salmonn.inference.inference import load_language_model

    model = load_language_model(from_mapping(written), "cpu").model
    clips = [noise(1.0, 1), noise(2.9, 2), noise(1.7, 3)]
    with torch.no_grad():
        together = model.encode(clips)
        embedded = model.embed(together)
        for place, clip in enumerate(clips):
            alone = model.encode([clip])
            count = int(alone.beats_tokens[0])
            assert int(together.beats_tokens[place]) == count == clip.shape[0] // 320
            assert torch.allclose(together.beats[place, :count], alone.beats[0, :count], atol=1e-5)
            assert torch.allclose(embedded[place], model.embed(alone)[0], atol=1e-5)
    heard = together.beats[1, :40].clone()
    assert not torch.allclose(heard, together.beats[2, :40])


def test_frames_are_the_transformers_models_own(ast: Path) -> None:
    from examples.ast_encoder import ASTEncoder  # type: ignore[import-not-found]

    encoder, wave = ASTEncoder.build(str(ast), weights=True).eval(), noise(1.28)
    with torch.no_grad():
        frames, counts = encoder(torch.from_numpy(wave)[None], torch.tensor([wave.shape[0]]))
        bank = ASTFeatureExtractor.from_pretrained(ast)(wave, sampling_rate=16_000, return_tensors="pt")
        hidden = ASTModel.from_pretrained(ast).eval()(**bank).last_hidden_state[0, 2:]
    # Two rows of patches over twelve tenths of a second.
    expected = (hidden[:12] + hidden[12:]) / 2
    assert counts.tolist() == [60] or counts.tolist() == [64]
    assert torch.allclose(frames[0, 0:60:5], expected, atol=1e-5)


def test_the_dry_run_and_the_meta_model_need_no_weights(written: dict[str, Any], ast: Path) -> None:
    (ast / "model.safetensors").unlink()
    config = from_mapping(written, purpose="dryrun")
    assert build_meta_model(config, offline=True).speech_encoder.ln_audio.weight.shape == (24,)
    assert run_dryrun(config).rehearsal.clips > 0


class Good(nn.Module):
    width = 6

    @classmethod
    def build(cls, path: str, *, weights: bool) -> "Good":
        return cls()

    def forward(self, waves: Tensor, lengths: Tensor) -> Any:
        return waves.new_zeros(waves.shape[0], 50, 6), lengths // 16_000


class NoBuild(nn.Module): ...


class NoModule:
    @classmethod
    def build(cls, path: str, *, weights: bool) -> "NoModule":
        return cls()


class Breaks(Good):
    @classmethod
    def build(cls, path: str, *, weights: bool) -> "Good":
        raise OSError("no such folder")


class NoWidth(Good):
    width = 0


class Narrow(Good):
    width = 7


class Alone(Good):
    def forward(self, waves: Tensor, lengths: Tensor) -> Any:
        return waves.new_zeros(waves.shape[0], 50, 6)


class Flat(Good):
    def forward(self, waves: Tensor, lengths: Tensor) -> Any:
        return waves.new_zeros(waves.shape[0], 6), lengths


class Fails(Good):
    def forward(self, waves: Tensor, lengths: Tensor) -> Any:
        raise ValueError("too short")


class Counts(Good):
    def forward(self, waves: Tensor, lengths: Tensor) -> Any:
        return waves.new_zeros(waves.shape[0], 50, 6), lengths


class Floats(Good):
    def forward(self, waves: Tensor, lengths: Tensor) -> Any:
        return waves.new_zeros(waves.shape[0], 50, 6), lengths / 16_000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.module:Class", "No module named 'nowhere'; is its folder on PYTHONPATH?"),
        ("wrong_encoders:Gone", "wrong_encoders has no Gone"),
        ("wrong_encoders:NoBuild", "it has no class method build(path, weights)"),
        ("wrong_encoders:NoModule", "build gives a NoModule, not a torch.nn.Module"),
        ("wrong_encoders:Breaks", "fails: OSError: no such folder"),
        ("wrong_encoders:NoWidth", "width must be a whole number above 0, not 0"),
        ("wrong_encoders:Narrow", "frames must be [2, T, 7], not [2, 50, 6]"),
        ("wrong_encoders:Alone", "it must give frames and counts, two tensors, not a Tensor"),
        ("wrong_encoders:Flat", "frames must be [2, T, 6], not [2, 6]"),
        ("wrong_encoders:Fails", "it fails on waves [2, 24000] and lengths [2]: ValueError: too short"),
        ("wrong_encoders:Counts", "counts must be from 1 to 50, the frames it gives, not [16000, 24000]"),
        ("wrong_encoders:Floats", "counts must be 2 whole numbers, not torch.float32 [2]"),
    ],
)
def test_a_wrong_one_is_a_sentence_before_anything_is_loaded(
    name: str, message: str, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wrong_encoders", sys.modules[__name__])
    monkeypatch.setattr(sys.modules[__name__], "__name__", "wrong_encoders")
    written["model"] |= {"audio_encoder": name, "audio_encoder_path": ""}
    found = dict(find_training_problems(from_mapping(written, purpose="train"), offline=False))
    assert message in found["model.audio_encoder"]


def test_none_is_whisper_alone_whatever_beats_path_says(written: dict[str, Any], reference: Path) -> None:
    written["model"] |= {"audio_encoder": "none", "audio_encoder_path": "", "beats_path": str(reference / "beats.pt")}
    config = from_mapping(written, purpose="train")
    assert build_meta_model(config, offline=True).speech_encoder.ln_audio is None
    notices = dict(find_notices(config, "train"))
    assert notices["model.audio_encoder"] == "is none: the model is trained with Whisper alone"
    assert notices["model.beats_path"] == "has no effect: model.audio_encoder is none"


def test_other_words_are_refused(written: dict[str, Any]) -> None:
    written["model"]["audio_encoder"] = "beast"
    with pytest.raises(ConfigError, match="must be beats, none or package"):
        from_mapping(written, purpose="train")
