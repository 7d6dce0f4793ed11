"""What is not wrong and should be known: missing parts and settings without effect, each with its key."""

from pathlib import Path
from typing import Any

import pytest

from salmonn.config.config import from_mapping, load_config
from salmonn.config.notices import find_notices
from salmonn.config.paths import Purpose

TRAINER = Path(__file__).resolve().parents[1]
NANO = TRAINER / "nano"


def notices(purpose: Purpose, **sections: dict[str, Any]) -> dict[str, str]:
    model = {
        "llama_path": str(NANO / "llama"),
        "whisper_path": str(NANO / "whisper"),
        "beats_path": str(NANO / "beats.pt"),
        "ckpt": str(NANO / "salmonn.pth"),
        "prompt_path": str(TRAINER / "prompts/train_prompt.json"),
    }
    sections["model"] = model | sections.get("model", {})
    return dict(find_notices(from_mapping(sections, purpose="dryrun"), purpose))


@pytest.mark.parametrize("purpose", ["evaluate", "answer", "train", "dryrun"])
def test_of_usual_settings_there_is_nothing_to_say(purpose: Purpose) -> None:
    assert notices(purpose, datasets={"valid_ann_path": "valid.json"}) == {}


def test_an_untrained_model_that_answers_is_said_and_one_that_is_trained_is_not() -> None:
    for purpose in ("evaluate", "answer"):
        assert "untrained" in notices(purpose, model={"ckpt": "none"})["model.ckpt"]
    assert "model.ckpt" not in notices("train", model={"ckpt": "none"})


@pytest.mark.parametrize(
    ("purpose", "does"), [("evaluate", "hears"), ("train", "is trained"), ("dryrun", "is trained")]
)
def test_a_model_without_beats_is_said(purpose: Purpose, does: str) -> None:
    text = notices(purpose, model={"beats_path": ""})["model.beats_path"]
    assert text == f'is "": the model {does} without BEATs, with Whisper alone'


@pytest.mark.parametrize("name", ["config.yaml", "train_stage2.yaml"])
def test_the_shipped_training_configurations_say_that_beats_is_missing(name: str) -> None:
    config = load_config(TRAINER / "configs" / name, purpose="dryrun")
    assert [key for key, _ in find_notices(config, "train")] == ["model.beats_path"]


@pytest.mark.parametrize(
    ("purpose", "sections", "keys"),
    [
        ("evaluate", {"generate": {"temperature": 0.3, "top_p": 0.5}}, ["generate.temperature", "generate.top_p"]),
        ("evaluate", {"generate": {"temperature": 0.0}}, ["generate.temperature"]),
        ("evaluate", {"generate": {"temperature": 0.3, "do_sample": True}}, []),
        ("answer", {"generate": {"num_beams": 1, "length_penalty": 2.0}}, ["generate.length_penalty"]),
        ("evaluate", {"generate": {"engine": "transformers"}, "run": {"decode_slots": 4}}, ["run.decode_slots"]),
        ("evaluate", {"run": {"decode_slots": 4}}, []),
        ("evaluate", {"model": {"lora": False, "lora_rank": 4}}, ["model.lora_rank"]),
        (
            "evaluate",
            {"model": {"window_level_Qformer": False, "second_per_window": 0.5}},
            ["model.second_per_window"],
        ),
        ("evaluate", {"model": {"speech_llama_proj_model": "p.pth"}}, ["model.speech_llama_proj_model"]),
        ("evaluate", {"model": {"device_8bit": 1}}, ["model.device_8bit"]),
        ("train", {"run": {"amp": False, "precision": "bfloat16"}}, ["run.precision"]),
        ("train", {"run": {"epoch_based": True, "iters_per_epoch": 5}}, ["run.iters_per_epoch"]),
        ("train", {"datasets": {"valid_ann_path": ""}, "run": {"best_metric": "wer"}}, ["run.best_metric"]),
        ("train", {"generate": {"temperature": 0.3}}, []),
    ],
)
def test_settings_without_effect_are_named(purpose: Purpose, sections: dict[str, Any], keys: list[str]) -> None:
    sections = {"datasets": {"valid_ann_path": "valid.json"}, **sections}
    found = notices(purpose, **sections)
    assert list(found) == keys
    assert all(text.startswith("has no effect: ") for text in found.values())
