"""Reading, translating, checking and writing weights files."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from salmonn.errors import CheckpointError
from salmonn.model.salmonn import SALMONN
from salmonn.weights.checkpoint import (
    copy_strictly,
    our_name,
    read_checkpoint,
    read_weights,
    released_name,
    save_checkpoint,
)

NANO = Path(__file__).parents[1] / "nano"


def test_key_names_translate_both_ways(expected: Any, tiny: SALMONN) -> None:
    names = set(expected["trainable"])
    assert {released_name(our_name(name)) for name in names} == names
    assert {our_name(name) for name in names} <= {name for name, _ in tiny.named_parameters()}


@pytest.mark.parametrize(
    ("released", "ours"),
    [
        ("speech_query_tokens", "speech_encoder.query_tokens"),
        ("speech_llama_proj.bias", "speech_encoder.projection.bias"),
        ("speech_Qformer.bert.embeddings.LayerNorm.weight", "speech_encoder.qformer.layernorm.weight"),
        (
            "speech_Qformer.bert.encoder.layer.1.crossattention.self.key.bias",
            "speech_encoder.qformer.encoder.layer.1.crossattention.attention.key.bias",
        ),
        (
            "llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            "llm.base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        ),
    ],
)
def test_single_keys(released: str, ours: str) -> None:
    assert our_name(released) == ours


def test_the_runners_checkpoint_gives_the_same_weights(build: Any, expected: Any) -> None:
    released, runner = build().trained_state_dict(), build(ckpt="runner_checkpoint.pth").trained_state_dict()
    assert len(expected["runner_checkpoint"]["not_trainable"]) == 3
    assert released.keys() == runner.keys() == expected["trainable"].keys()
    assert all(torch.equal(released[name], runner[name]) for name in released)


def changed_checkpoint(reference: Path, folder: Path, change: Any) -> str:
    data = torch.load(reference / "ckpt.pth", weights_only=True)
    change(data["model"])
    path = folder / "changed.pth"
    torch.save(data, path)
    return str(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("ln_speech.weight"), r"missing \(1\):\s+ln_speech\.weight"),
        (lambda m: m.update({"ln_speech.scale": torch.ones(1)}), r"unexpected \(1\):\s+ln_speech\.scale"),
        (
            lambda m: m.update({"speech_llama_proj.bias": torch.ones(3)}),
            r"speech_llama_proj\.bias: \[3\] in the file, \[64\] in the model",
        ),
        (lambda m: [m.pop(key) for key in list(m)], r"No key matches: is this the right file\?"),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_the_keys(
    build: Any, reference: Path, tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        build(ckpt=changed_checkpoint(reference, tmp_path, change))


def test_lora_keys_without_the_adapters_name_load(build: Any, reference: Path, tmp_path: Path) -> None:
    def rename(model: dict[str, Any]) -> None:
        for key in [key for key in model if ".default." in key]:
            model[key.replace(".default.", ".")] = model.pop(key)

    ours = build(ckpt=changed_checkpoint(reference, tmp_path, rename)).trained_state_dict()
    theirs = build().trained_state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_loading_reports_what_came_from_where(build: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="salmonn"):
        build()
    for part, file in (
        ("Whisper encoder", "whisper"),
        ("BEATs", "beats.pt"),
        ("LlamaForCausalLM", "llama"),
        ("trained part", "ckpt.pth"),
    ):
        assert re.search(rf"{part}.* from .*{file}: [\d,]+ numbers, float32, \d+\.\d MB", caplog.text)


def test_a_written_checkpoint_has_the_released_layout(tiny: SALMONN, build: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint_0.pth"
    save_checkpoint(path, tiny.trained_state_dict(), epoch=0, config={"model": {}})
    data = torch.load(path, weights_only=True)
    assert set(data) == {"model", "epoch", "config"}
    again = build(ckpt=str(path)).trained_state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in tiny.trained_state_dict().items())
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint_0.pth"]


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("echo evil",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04 torn", "damaged or truncated"),
        (b"not weights at all", "not a plain weights file"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)


def test_a_missing_file_and_code_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_weights(tmp_path / "none.pth")
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="not a plain weights file"):
        read_weights(tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_weights(tmp_path / "list.pth")


@pytest.mark.parametrize("form", ["pth", "old_pth", "safetensors"])
def test_a_file_cut_anywhere_is_named_as_damaged(tmp_path: Path, form: str) -> None:
    whole, cut = tmp_path / "whole", tmp_path / f"cut.{form.removeprefix('old_')}"
    tensors = {"a": torch.ones(3), "b": torch.zeros(2, 2)}
    if form == "safetensors":
        save_file(tensors, whole)
    else:
        torch.save(
            {"model": tensors, "epoch": 3, "config": {"run": {"seed": 1}}},
            whole,
            _use_new_zipfile_serialization=form == "pth",
        )
    content = whole.read_bytes()
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=re.escape(repr(str(cut)))):
            read_weights(cut)
    cut.write_bytes(content)
    assert set(read_weights(cut)["model"]) == {"a", "b"}


@pytest.mark.parametrize("entry", [{1: torch.ones(1)}, {"a": [1.0]}, {"a": None}])
def test_entries_that_are_no_named_tensors_are_listed(tmp_path: Path, entry: Any) -> None:
    torch.save({"model": entry}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth' holds entries that are no named tensors:\s+[1a]"):
        read_checkpoint(tmp_path / "x.pth")


def test_copying_changes_nothing_when_keys_differ() -> None:
    target = {"a": torch.zeros(2), "b": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="missing"):
        copy_strictly({"a": torch.ones(2)}, target, source="file")
    assert float(target["a"].sum()) == 0


def test_a_checkpoint_of_other_settings_that_fit_its_shapes_is_refused(
    reference: Path, build: Any, tmp_path: Path
) -> None:
    """Another LoRA alpha computes other numbers from the same tensors."""
    data = read_weights(reference / "ckpt.pth")
    save_checkpoint(tmp_path / "x.pth", data["model"], config={"model": {"lora_alpha": 16}})
    with pytest.raises(CheckpointError, match=r"model\.lora_alpha: 16 in the file, 32 in the configuration"):
        build(ckpt=str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        ((NANO / "salmonn.pth").read_bytes()[:5000], "damaged or truncated.*download it again"),
        ((NANO / "salmonn.pth").read_bytes() + bytes(70_000), "damaged or truncated.*download it again"),
        (b"PK", "damaged or truncated.*download it again"),
        (b"\x80\x02torn", "damaged or truncated.*download it again"),
        ((NANO / "llama" / "model.safetensors").read_bytes(), "give it the ending .safetensors"),
        (bytes(1000), "begins with .*download it again"),
        (b"model:\n  a: 1\n", "begins with b'model:.*download it again"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_in_our_words_with_a_cure(tmp_path: Path, content: bytes, cure: str) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=cure) as caught:
        read_weights(path)
    assert "model.ckpt" in str(caught.value)
    assert not re.search("PytorchStream|miniz|PyTorch|weights_only|mmap|file an issue", str(caught.value))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_failing_disk_or_memory_is_not_called_a_damaged_file(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(CheckpointError, match=r"salmonn\.pth' cannot be read: .*(output error|enough memory)"):
        read_weights(NANO / "salmonn.pth")
