"""What an exported model's card says."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from salmonn.config.schema import ModelConfig
from salmonn.export.model_card import CardFacts, Sizes, render_card

MODEL: dict[str, Any] = ModelConfig(
    llama_path="meta-llama/Llama-3.2-3B-Instruct",
    whisper_path="openai/whisper-large-v2",
    beats_path="beats.pt",
    ckpt="checkpoint_best.pth",
    prompt_template="USER: {}\nASSISTANT:",
).model_dump(mode="json", exclude={"token"})
FACTS = CardFacts(
    name="dogs-and-words",
    form="peft",
    config={"model": MODEL},
    recorded={
        "run": {"seed": 7, "batch_size_train": 4, "optims": {"init_lr": 3e-5, "max_epoch": 30}},
        "datasets": {"train_ann_path": "train.json"},
    },
    epoch=11,
    step=36000,
    best={"accuracy": 0.8125, "wer": 0.25},
    best_step=33000,
    dtypes=("float32",),
    sizes=Sizes(whisper=636_965_120, beats=90_000_000, llm=3_212_749_824, bridge=25_204_736, lora=2_293_504),
)


def section(card: str, title: str) -> str:
    return card.partition(f"## {title}\n")[2].partition("\n## ")[0]


def loading(card: str) -> dict[str, Any]:
    """The configuration of the card's own example."""
    example = section(card, "Loading").partition("```yaml\n")[2].partition("```")[0]
    return dict(yaml.safe_load(example)["model"])


def test_the_front_matter_is_yaml_that_names_what_it_builds_on() -> None:
    front = yaml.safe_load(render_card(FACTS).split("---\n")[1])
    assert front["base_model"] == ["meta-llama/Llama-3.2-3B-Instruct", "openai/whisper-large-v2"]
    assert front["license"] == "other"
    local = replace(FACTS, config={"model": MODEL | {"llama_path": "llama", "whisper_path": "whisper"}})
    assert "base_model" not in yaml.safe_load(render_card(local).split("---\n")[1])


def test_parts_and_sizes() -> None:
    card = render_card(FACTS)
    parts = section(card, "Made of")
    for text in (
        "`meta-llama/Llama-3.2-3B-Instruct` | 3,212,749,824",
        "`beats.pt` | 90,000,000",
        "alpha 32, on q_proj",
    ):
        assert text in parts
    assert "Trained: 27,498,240 numbers (25,204,736 bridge, 2,293,504 LoRA), stored as float32." in card


def test_training_settings_and_figures() -> None:
    card = render_card(FACTS)
    training = section(card, "Training")
    for row in (
        "| seed | 7 |",
        "| learning rate | 3e-05 |",
        "| epochs | 30 |",
        "| steps done | 36000 |",
        "`train.json`",
    ):
        assert row in training
    validation = section(card, "Validation")
    assert "of the best one so far, at step 33000" in validation
    assert "| word error rate of the answers | 0.2500 |" in validation
    assert "of this checkpoint" in section(render_card(replace(FACTS, best_step=36000)), "Validation")


def test_a_checkpoint_that_says_nothing_gets_no_made_up_settings() -> None:
    card = render_card(replace(FACTS, recorded={}, epoch=None, step=None, best={}, best_step=None))
    assert section(card, "Training").strip() == "The checkpoint does not say how it was trained."
    assert section(card, "Validation").strip() == "The checkpoint carries no validation figures."


@pytest.mark.parametrize(
    ("form", "ckpt"),
    [
        ("pth", "dogs-and-words"),
        ("safetensors", "dogs-and-words"),
        ("peft", "dogs-and-words/adapter_model.safetensors"),
        ("merged", "dogs-and-words/bridge.safetensors"),
    ],
)
def test_the_example_is_a_valid_section(form: str, ckpt: str) -> None:
    example = loading(render_card(replace(FACTS, form=form)))
    model = ModelConfig.model_validate(example)
    assert model.ckpt == ckpt
    assert model.prompt_template == MODEL["prompt_template"]
    assert model.lora is (form != "merged")
    assert model.llama_path == ("dogs-and-words" if form == "merged" else MODEL["llama_path"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("meta-llama/Llama-3.2-3B-Instruct", "Built with Llama"),
        ("lmsys/vicuna-13b-v1.1", "Vicuna's own page"),
        ("Qwen/Qwen3-4B", "as its own page says"),
    ],
)
def test_licences_of_what_it_builds_on(name: str, words: str) -> None:
    licences = section(render_card(replace(FACTS, config={"model": MODEL | {"llama_path": name}})), "Licences")
    assert words in licences
    assert "Whisper `openai/whisper-large-v2`" in licences
    assert "BEATs `beats.pt`" in licences


def test_no_beats_no_row() -> None:
    card = render_card(
        replace(FACTS, config={"model": MODEL | {"beats_path": ""}}, sizes=replace(FACTS.sizes, beats=0))
    )
    assert "BEATs encoder |" not in card
    assert "* BEATs" not in card


def test_merging_is_said_to_round() -> None:
    assert "In 16 bits answers may differ" in render_card(replace(FACTS, form="merged"))
    assert "Whisper and BEATs are not in these files" in render_card(replace(FACTS, form="merged"))
    assert "rounds" not in render_card(FACTS)
