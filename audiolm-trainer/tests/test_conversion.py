"""Weights turned into safetensors once: the same bits, what is noted and what never is, and what is refused."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig, WhisperModel

from salmonn.__main__ import main
from salmonn.config.config import load_config
from salmonn.errors import CheckpointError
from salmonn.model import components
from salmonn.model.meta import beats_config
from salmonn.model.salmonn import SALMONN
from salmonn.weights import conversion
from salmonn.weights.checkpoint import read_checkpoint, read_weights
from salmonn.weights.conversion import convert

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "audiolm-trainer/nano"
DECODE = ROOT / "audiolm-trainer/configs/nano/decode.yaml"
CPU = torch.device("cpu")
TOKEN = "hf_canaryCANARYcanary"


def notes_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def test_a_converted_model_is_the_same_model(tmp_path: Path, nano: Any) -> None:
    [beats] = convert(NANO / "beats.pt", output=tmp_path / "beats.safetensors")
    [trained] = convert(NANO / "salmonn.pth", output=tmp_path / "salmonn.safetensors")
    options = (f"model.beats_path={beats.path}", f"model.ckpt={trained.path}")
    config = load_config(DECODE, options, purpose="evaluate")
    model = SALMONN.from_config(config, device=CPU, dtype=torch.float32)
    assert same(model.state_dict(), nano.model.state_dict())
    assert read_checkpoint(trained.path)["epoch"] == read_weights(NANO / "salmonn.pth")["epoch"]
    assert (trained.size, trained.source_size) == (trained.path.stat().st_size, (NANO / "salmonn.pth").stat().st_size)


def test_a_beats_file_keeps_its_sizes_and_its_shared_table(tmp_path: Path) -> None:
    [done] = convert(NANO / "beats.pt", output=tmp_path / "b.safetensors")
    before, after = read_weights(NANO / "beats.pt"), read_weights(done.path)
    assert after["cfg"] == before["cfg"]
    assert same(after["model"], before["model"])
    table = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    assert after["model"][table.format(0)].data_ptr() == after["model"][table.format(1)].data_ptr()
    with safe_open(done.path, framework="pt") as file:
        assert table.format(1) not in set(file.keys())
    assert beats_config(str(done.path), assume=False) == beats_config(str(NANO / "beats.pt"), assume=False)


def test_a_checkpoint_keeps_settings_and_loses_token_folders_and_training_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"model": {"token": TOKEN, "llama_path": "/home/kim/llama", "lora_alpha": 64}, "run": {"seed": 7}}
    tensors = read_weights(NANO / "salmonn.pth")["model"]
    torch.save(
        {"model": tensors, "config": config, "epoch": 3, "step": 17, "optimizer": {"m": torch.ones(9)}, "scaler": None},
        tmp_path / "c.pth",
    )
    with caplog.at_level("INFO", logger="salmonn"):
        [done] = convert(tmp_path / "c.pth")
    assert done.path == tmp_path / "c.safetensors"
    data = read_checkpoint(done.path)
    assert same(data["model"], tensors)
    assert data["config"] == {"model": {"llama_path": "llama", "lora_alpha": 64}, "run": {"seed": 7}}
    assert (data["epoch"], data["step"]) == (3, 17)
    assert data.keys() == {"model", "config", "epoch", "step"}
    assert TOKEN.encode() not in done.path.read_bytes()
    assert b"kim" not in done.path.read_bytes()
    assert "left out, as only training needs it: optimizer\n" in f"{caplog.messages[-1]}\n"


def test_views_strides_and_odd_numbers_come_back_bit_by_bit(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "view": whole[1:],
        "other": whole[:2],
        "transposed": torch.arange(6).reshape(2, 3).T,
        "nan": torch.tensor([float("nan"), -0.0, float("inf")]),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(5),
        "empty": torch.zeros(0, 3),
        "alias": whole,
        "again": whole,
    }
    torch.save({"model": tensors}, tmp_path / "c.pth")
    [done] = convert(tmp_path / "c.pth")
    found = read_weights(done.path)["model"]
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert torch.signbit(found["nan"][1])


def llama(*, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=32,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(sizes).eval()


def old_folder(folder: Path, *, tied: bool, shards: int = 1) -> LlamaForCausalLM:
    """A language model as folders of before safetensors have it."""
    model = llama(tied=tied)
    model.config.save_pretrained(folder)
    state = model.state_dict()
    assert ("lm_head.weight" in state) is True
    names = list(state)
    if shards == 1:
        torch.save(dict(state), folder / "pytorch_model.bin")
        return model
    files = {name: f"pytorch_model-0000{1 + place % shards}-of-0000{shards}.bin" for place, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: state[name] for name in names if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return model


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_models_folder_gives_the_same_model(tmp_path: Path, tied: bool, shards: int) -> None:
    folder = tmp_path / "llama"
    model = old_folder(folder, tied=tied, shards=shards)
    before = components.load_llm(str(folder), device=CPU, dtype=torch.float32, token=None)
    written = convert(folder)
    assert len(written) == shards
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    after = components.load_llm(str(folder), device=CPU, dtype=torch.float32, token=None)
    assert same(after.state_dict(), before.state_dict())
    assert same(after.state_dict(), model.state_dict())
    held = {name for file in folder.glob("*.safetensors") for name in read_weights(file)["model"]}
    # Both tables are in the first file here, so that a tied one is seen to be the other.
    assert ("lm_head.weight" in held) is not tied
    index = folder / "model.safetensors.index.json"
    assert index.exists() is (shards > 1)
    if shards > 1:
        assert set(json.loads(index.read_text())["weight_map"]) == held


def test_a_new_folder_gets_everything_but_the_old_weights(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    old_folder(folder, tied=False, shards=2)
    (folder / "tokenizer.json").write_text("{}")
    before = sorted(file.name for file in folder.iterdir())
    written = convert(folder, output=tmp_path / "new")
    assert sorted(file.name for file in folder.iterdir()) == before
    names = {file.name for file in (tmp_path / "new").iterdir()}
    assert names == {
        "config.json", "tokenizer.json", "model.safetensors.index.json",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    }  # fmt: skip
    assert {done.path for done in written} == {tmp_path / "new" / name for name in names if "-of-" in name}
    components.load_llm(str(tmp_path / "new"), device=CPU, dtype=torch.float32, token=None)
    with pytest.raises(CheckpointError, match="a folder is never replaced"):
        convert(folder, output=tmp_path / "new", force=True)


def test_a_whispers_folder_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    model = WhisperModel(sizes)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    before = components.load_whisper_encoder(str(tmp_path), device=CPU, dtype=torch.float32, token=None)
    convert(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    after = components.load_whisper_encoder(str(tmp_path), device=CPU, dtype=torch.float32, token=None)
    assert same(after.state_dict(), before.state_dict())
    assert same(after.state_dict(), model.encoder.state_dict())


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch evil",)


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "none.pth", "does not exist"),
        (lambda d: written(d / "a.pth", b""), "is empty"),
        (lambda d: written(d / "a.pth", b"<!DOCTYPE html><html>"), "web page"),
        (lambda d: written(d / "a.bin", b"version https://git-lfs.github.com/spec/v1\n"), "git-lfs pointer"),
        (lambda d: written(d / "a.pth", (NANO / "salmonn.pth").read_bytes()[:900_000]), "damaged or truncated"),
        (lambda d: saved(d / "a.pth", {"model": Evil()}), "not a plain weights file"),
        (lambda d: saved(d / "a.pth", [torch.ones(1)]), "holds a list"),
        (lambda d: saved(d / "a.pth", {"model": {"x": 3}}), r"not plain tensors: x \(int\)"),
        (lambda d: saved(d / "a.pth", {"model": {"x": torch.eye(2).to_sparse()}}), r"not plain tensors: x \(Tensor\)"),
        (lambda d: saved(d / "a.pth", {"model": {}}), "holds no tensors"),
        (lambda d: saved(d / "a.pth", {"epoch": 1, "x": torch.ones(1)}), r"not plain tensors: epoch \(int\)"),
        (lambda d: saved(d / "a.pth", {"model": {"x": torch.ones(1)}, "cfg": {"y": torch.ones(1)}}), "kept as text"),
        (lambda d: written(d / "a.safetensors", b"x"), "already: nothing to convert"),
        (lambda d: written(d / "a.txt", b"x"), "ends in none of .pth, .pt, .bin"),
        (lambda d: d, "it holds neither pytorch_model.bin nor"),
        (lambda _: NANO / "llama", "its weights are .safetensors already"),
    ],
)
def test_what_cannot_be_converted_is_a_sentence_and_leaves_nothing(tmp_path: Path, make: Any, message: str) -> None:
    source = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=message):
        convert(source, output=None if source.is_dir() else tmp_path / "out.safetensors")
    assert sorted(tmp_path.iterdir()) == before
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"weight_map": 3}', "cannot be read"),
        ('{"weight_map": {}}', "names no weights"),
        ('{"weight_map": {"a": "../x.bin"}}', "names no weights of its folder"),
        ('{"weight_map": {"a": "pytorch_model-1.bin"}}', "lacks pytorch_model-1.bin"),
    ],
)
def test_an_index_that_leads_nowhere_is_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path)


def test_weights_without_their_configuration_are_no_folder_of_a_model(tmp_path: Path) -> None:
    saved(tmp_path / "pytorch_model.bin", {"a": torch.ones(1)})
    with pytest.raises(CheckpointError, match="is no folder of a model"):
        convert(tmp_path)
    [done] = convert(tmp_path / "pytorch_model.bin")
    # As a file, it gets the name that transformers looks for.
    assert done.path == tmp_path / "model.safetensors"
    assert notes_of(done.path) == {"format": "pt"}


def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    source = Path(shutil.copy(NANO / "beats.pt", tmp_path))
    target = written(tmp_path / "beats.safetensors", b"mine")
    with pytest.raises(CheckpointError, match="--force to replace it"):
        convert(source)
    assert target.read_bytes() == b"mine"
    convert(source, force=True)
    assert read_weights(target)["cfg"] == read_weights(source)["cfg"]
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="is a folder"):
        convert(source, output=tmp_path / "folder.safetensors", force=True)
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        convert(source, output=tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="cannot be written"):
        convert(source, output=source / "x.safetensors")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the operating system refuse to write more than this into a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_and_says_how_much_is_needed(tmp_path: Path) -> None:
    with file_size_limit(100_000), pytest.raises(CheckpointError, match=r"cannot be written: .*MB are needed and"):
        convert(NANO / "salmonn.pth", output=tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_comes_back_changed_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = conversion.save_file

    def spoil(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        save(tensors, path, metadata=metadata)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(conversion, "save_file", spoil)
    with pytest.raises(CheckpointError, match="came back from the disk changed"):
        convert(NANO / "beats.pt", output=tmp_path / "b.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_notes_that_lie_are_damage(tmp_path: Path) -> None:
    for aliases, message in (("[]", "aliases name no tensors"), ('{"b": "none"}', "aliases name"), ("{", "not JSON")):
        metadata = {"salmonn_layout": "1", "aliases": aliases}
        conversion.save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors", metadata=metadata)
        with pytest.raises(CheckpointError, match=message):
            read_weights(tmp_path / "x.safetensors")


def test_the_command_says_names_and_sizes(tmp_path: Path) -> None:
    arguments = ["convert", str(NANO / "beats.pt"), "--output", str(tmp_path / "b.safetensors")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path / 'b.safetensors'}: 1.0 MB, from beats.pt: 1.0 MB" in result.output
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == CheckpointError.exit_code
    assert again.output.startswith("Error: ")
    assert "--force" in again.output


def test_its_help_loads_no_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['salmonn', 'convert', '--help']\n"
        "try:\n    runpy.run_module('salmonn', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
