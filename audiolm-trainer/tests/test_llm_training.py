"""A language model that is trained itself: what learns, what checkpoints hold, and that everything loads them."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from salmonn.__main__ import main
from salmonn.config.config import find_problems, load_config
from salmonn.errors import CheckpointError, ConfigError
from salmonn.inference.inference import load_language_model
from salmonn.model.salmonn import SALMONN
from salmonn.model.tiny import build_tiny_model
from salmonn.planning.run_plan import Longest, Sizes, measure_sizes
from salmonn.preflight.preflight import check_before_training, find_answering_problems
from salmonn.training.run import train
from salmonn.training.run_folder import BEST
from salmonn.weights.checkpoint import holds_language_model, read_checkpoint, read_weights, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "audiolm-trainer"
CPU = torch.device("cpu")
PATHS = ("llama_path", "whisper_path", "beats_path", "qformer_path", "prompt_path", "test_prompt_path")
Written = Callable[..., Path]


@pytest.fixture
def write(reference: Path, reference_sections: dict[str, Any], tmp_path: Path) -> Written:
    """Write a training of the reference model from nothing, on two clips: two epochs of two steps."""

    def writer(name: str = "train", run: Mapping[str, Any] | None = None, **model: Any) -> Path:
        rows = [{"path": "clip00.wav", "text": "one two"}, {"path": "clip02.wav", "text": "three"}]
        (tmp_path / "ann.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")
        parts = reference_sections["model"] | {"ckpt": "", "lora": False, "freeze_llm": False}
        parts |= {key: str(reference / parts[key]) for key in PATHS}
        optims = {"max_epoch": 2, "warmup_steps": 0, "init_lr": 1e-2, "min_lr": 1e-3}
        settings = {"device": "cpu", "batch_size_train": 2, "iters_per_epoch": 2, "num_workers": 0, "trackers": []}
        sections = {
            "model": parts | model,
            "generate": {"num_beams": 1, "max_new_tokens": 8},
            "datasets": {"prefix": str(reference / "wavs"), "train_ann_path": "ann.json", "valid_ann_path": "ann.json"},
            "run": settings | {"output_dir": str(tmp_path / name), "optims": optims} | dict(run or {}),
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(sections), encoding="utf-8")
        return path

    return writer


def trained(path: Path, *, resume: str = "") -> Path:
    return train(load_config(path, purpose="train"), resume=resume)[1]


def loaded(path: Path, *options: str) -> SALMONN:
    return load_language_model(load_config(path, options, purpose="answer"), "cpu").model


def answered(path: Path, *options: str) -> list[str]:
    lm = load_language_model(load_config(path, options, purpose="answer"), "cpu")
    rng = np.random.default_rng(0)
    return [lm.answer(rng.standard_normal(16_000).astype(np.float32), question) for question in ("what", "hear it")]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def untied(folder: Path, reference: Path, *, layers: int = 2, tokens: int | None = None) -> Path:
    """A language model like the reference's, with a head of its own and its tokenizer."""
    shutil.copytree(reference / "llama", folder)
    sizes = LlamaConfig.from_pretrained(folder)
    sizes.tie_word_embeddings, sizes.num_hidden_layers = False, layers
    sizes.vocab_size = tokens or sizes.vocab_size
    torch.manual_seed(1)
    LlamaForCausalLM(sizes).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_of_the_language_model_learns_and_is_loaded_again(
    write: Written, reference: Path, tmp_path: Path, tied: bool
) -> None:
    source = reference / "llama" if tied else untied(tmp_path / "llama", reference)
    path = write(llama_path=str(source))
    before = digests(source)
    folder = trained(path)
    held = read_checkpoint(folder / BEST)["model"]
    start = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    own = {f"llama_model.{name}": tensor for name, tensor in start.named_parameters()}
    assert own.keys() == {name for name in held if name.startswith("llama_model.")}
    assert ("llama_model.lm_head.weight" in held) != tied
    assert all(held[name].dtype == torch.float32 and not torch.equal(held[name], own[name]) for name in own)
    # The folder that it came from is mapped while it is trained, and stays what it is.
    assert digests(source) == before
    losses = [json.loads(line) for line in (folder / "log.txt").read_text(encoding="utf-8").splitlines()]
    train_losses = [line["loss"] for line in losses if line.get("event") == "train"]
    assert train_losses[-1] < train_losses[0]
    # Loaded by whoever names the file; freeze_llm is about training alone.
    for options in ((), ("model.freeze_llm=True",)):
        model = loaded(path, f"model.ckpt={folder / BEST}", *options)
        assert same(model.trained_state_dict(), held)
        assert not any(parameter.requires_grad for parameter in model.parameters())
    half = loaded(path, f"model.ckpt={folder / BEST}", "model.dtype=float16")
    name = "model.embed_tokens.weight"
    assert torch.equal(half.llm.get_parameter(name), held[f"llama_model.{name}"].half())


def test_weights_are_trained_in_float32_whatever_the_frozen_parts_are_held_in(write: Written) -> None:
    config = load_config(write(dtype="bfloat16"), purpose="train")
    model = SALMONN.from_config(config, device=CPU, dtype=torch.bfloat16, train=True)
    assert {parameter.dtype for parameter in model.llm.parameters()} == {torch.float32}
    assert model.speech_encoder.whisper.conv1.weight.dtype == torch.bfloat16
    assert {name for name, p in model.named_parameters() if name.startswith("llm.") and not p.requires_grad} == set()


def test_a_resumed_run_ends_bit_equal(write: Written, tmp_path: Path) -> None:
    path = write()
    whole = trained(path)
    shutil.copytree(whole, tmp_path / "half")
    for name in ("checkpoint_1.pth", BEST):
        (tmp_path / "half" / name).unlink()
    again = trained(path, resume=str(tmp_path / "half/checkpoint_0.pth"))
    assert again == tmp_path / "half"
    one, other = (read_weights(folder / "checkpoint_1.pth") for folder in (whole, again))
    assert same(one["model"], other["model"])
    assert all(same(one["optimizer"][name], other["optimizer"][name]) for name in one["model"])
    with pytest.raises(ConfigError, match=r"model\.freeze_llm: was False in the run to resume, is True"):
        trained(write(freeze_llm=True), resume=str(tmp_path / "half/checkpoint_0.pth"))


def test_a_checkpoint_of_any_kind_starts_it_and_a_frozen_one_is_passed_on(write: Written, tmp_path: Path) -> None:
    # The bridge alone, as a first stage trains it.
    bridge = trained(write("bridge", freeze_llm=True)) / BEST
    assert not holds_language_model(read_checkpoint(bridge)["model"])
    whole = trained(write("whole", ckpt=str(bridge))) / BEST
    held = read_checkpoint(whole)["model"]
    assert holds_language_model(held)
    further = trained(write("further", ckpt=str(whole))) / BEST
    assert not same(read_checkpoint(further)["model"], held)
    # Frozen from here on: nothing of it moves, and a checkpoint is nothing without it.
    frozen = read_checkpoint(trained(write("frozen", ckpt=str(whole), freeze_llm=True)) / BEST)["model"]
    assert frozen.keys() == held.keys()
    for name, tensor in held.items():
        if name.startswith("llama_model."):
            assert torch.equal(frozen[name], tensor)
    assert not torch.equal(frozen["speech_llama_proj.weight"], held["speech_llama_proj.weight"])
    # And a run of that kind goes on.
    last = sorted((tmp_path / "frozen").glob("*/checkpoint_0.pth"))[-1]
    before = read_checkpoint(last.with_name("checkpoint_1.pth"))["model"]
    last.with_name("checkpoint_1.pth").unlink()
    assert same(
        read_checkpoint(trained(tmp_path / "frozen.yaml", resume=str(last)) / "checkpoint_1.pth")["model"], before
    )


def test_every_form_of_an_export_answers_the_same(write: Written, tmp_path: Path) -> None:
    path = write()
    ckpt = trained(path) / BEST
    expected = answered(path, f"model.ckpt={ckpt}")
    assert any(expected)
    for form, name in (("pth", "s.pth"), ("safetensors", "s.safetensors"), ("merged", "folder")):
        done = CliRunner().invoke(
            main,
            [
                "export",
                "--cfg-path",
                str(path),
                "--format",
                form,
                "--output",
                str(tmp_path / name),
                "--ckpt",
                str(ckpt),
            ],
        )
        assert done.exit_code == 0, done.output
        card = (tmp_path / name / "README.md" if form == "merged" else tmp_path / f"{name}.md").read_text(
            encoding="utf-8"
        )
        assert "language model that was trained with them" in " ".join(card.split())
        assert "lora: false" in card
        assert "lora_rank" not in card
    folder = tmp_path / "folder"
    for file in ("s.pth", "s.safetensors"):
        assert same(read_checkpoint(tmp_path / file)["model"], read_checkpoint(ckpt)["model"])
        assert answered(path, f"model.ckpt={tmp_path / file}") == expected
    ours = (f"model.llama_path={folder}", f"model.ckpt={folder / 'bridge.safetensors'}")
    assert answered(path, *ours) == expected
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert plain.dtype == torch.float32
    held = read_checkpoint(ckpt)["model"]
    assert all(torch.equal(p, held[f"llama_model.{name}"]) for name, p in plain.named_parameters())
    converted = CliRunner().invoke(main, ["convert", str(ckpt), "--output", str(tmp_path / "c.safetensors")])
    assert converted.exit_code == 0, converted.output
    assert answered(path, f"model.ckpt={tmp_path / 'c.safetensors'}") == expected


def test_the_adapter_and_the_bridge_alone_are_no_form_of_it(write: Written, tmp_path: Path) -> None:
    path = write()
    ckpt = trained(path) / BEST
    refused = [
        CliRunner().invoke(
            main,
            ["export", "--cfg-path", str(path), "--format", form, "--output", str(tmp_path / "x"), "--ckpt", str(file)],
        )
        for form, file in (("peft", ckpt), ("merged", trained(write("bridge", freeze_llm=True)) / BEST))
    ]
    assert [done.exit_code for done in refused] == [2, 2]
    assert "no adapter for the form peft; use pth, safetensors or merged" in refused[0].output
    assert "no adapter for the form merged; use pth or safetensors" in refused[1].output


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "is False, and model.lora is True"),
        ({"lora": True}, "merges an adapter that is trained already"),
        ({"lora": False, "quantize": {"kind": "nf4"}}, "is False, and weights that are nf4 cannot be trained"),
        ({"lora": False, "quantize": {"kind": "int8", "parts": ["whisper"]}}, ""),
        ({"lora": False}, ""),
    ],
)
def test_what_cannot_be_trained_itself(model: dict[str, Any], message: str) -> None:
    found = dict(find_problems({"model": {"freeze_llm": False} | model}, purpose="train"))
    assert message in found.get("model.freeze_llm", "")
    assert ("model.freeze_llm" in found) == bool(message)
    # Answers do not ask who trained it.
    assert "model.freeze_llm" not in dict(find_problems({"model": {"freeze_llm": False} | model}, purpose="answer"))


def test_a_folder_that_is_quantised_is_not_trained_itself(write: Written, reference: Path, tmp_path: Path) -> None:
    folder = untied(tmp_path / "llama", reference)
    sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    config = load_config(write(llama_path=str(folder)), purpose="train")
    with pytest.raises(ConfigError, match=r"model\.freeze_llm: is False, and llama is quantised \(bitsandbytes\)"):
        check_before_training(config)


def test_its_weights_do_not_go_into_quantised_ones(write: Written) -> None:
    path = write()
    ckpt = trained(path) / BEST
    options = (f"model.ckpt={ckpt}", "model.quantize={kind: int8, parts: [llm]}")
    config = load_config(path, options, purpose="answer")
    [(key, text)] = find_answering_problems(config, "cpu")
    assert key == "model.ckpt"
    assert "holds the language model's own weights, which do not fit into weights that are int8" in text
    assert "export --format merged" in text
    with pytest.raises(CheckpointError, match="which do not fit into weights that are Int8Tensor"):
        SALMONN.from_config(config, device=CPU, dtype=torch.float32)


def test_a_checkpoint_of_another_language_model_names_what_differs(
    write: Written, reference: Path, tmp_path: Path
) -> None:
    path = write(llama_path=str(untied(tmp_path / "llama", reference)))
    ckpt = trained(path) / BEST
    tokens = LlamaConfig.from_pretrained(reference / "llama").vocab_size
    for name, sizes, message in (
        ("longer", {"layers": 3}, "has 3 layers, and the file's language model has 2"),
        ("more", {"tokens": tokens + 8}, f"has {tokens + 8} tokens, and the file's language model has {tokens}"),
    ):
        other = untied(tmp_path / name, reference, **sizes)
        config = load_config(path, (f"model.ckpt={ckpt}", f"model.llama_path={other}"), purpose="answer")
        [(key, text)] = find_answering_problems(config, "cpu")
        assert key == "model.ckpt"
        assert f"model.llama_path {message}" in text
    config = load_config(path, (f"model.ckpt={ckpt}", "model.lora=True"), purpose="answer")
    assert "model.lora is True, and the file has no adapter" in find_answering_problems(config, "cpu")[0][1]


def test_half_of_a_language_model_is_refused(write: Written, tmp_path: Path) -> None:
    path = write()
    held = read_checkpoint(trained(path) / BEST)["model"]
    gone = "llama_model.model.layers.1.mlp.up_proj.weight"
    save_checkpoint(tmp_path / "half.pth", {name: tensor for name, tensor in held.items() if name != gone})
    config = load_config(path, (f"model.ckpt={tmp_path / 'half.pth'}",), purpose="answer")
    assert f"1 missing ({gone})" in find_answering_problems(config, "cpu")[0][1]
    with pytest.raises(CheckpointError, match=gone):
        SALMONN.from_config(config, device=CPU, dtype=torch.float32)


def test_a_rehearsal_trains_it_and_the_plan_counts_it(write: Written) -> None:
    config = load_config(write(), purpose="train")
    model = build_tiny_model(config)
    assert any(name.startswith("llama_model.model.layers.") for name in model.trainable_parameters())
    whole, bridge = (
        measure_sizes(load_config(write(freeze_llm=freeze), purpose="train"), Longest(20, 20, 5.0))
        for freeze in (False, True)
    )
    assert isinstance(whole, Sizes)
    assert isinstance(bridge, Sizes)
    llm = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(config.model.llama_path).parameters())
    assert whole.counts.trainable == bridge.counts.trainable + llm
    assert whole.memory.optimizer == bridge.memory.optimizer + 8 * llm
    assert whole.memory.activations >= bridge.memory.activations
