"""Digests of a configuration's files: they follow content alone, whatever its size and form."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import salmonn
from salmonn.config.config import from_mapping
from salmonn.weights import fingerprint
from salmonn.weights.fingerprint import ANSWER_KEYS, changed, fingerprints

TRAINER = Path(__file__).resolve().parents[1]
NANO = TRAINER / "nano"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The section `model` with copies of the nano model's files."""
    for name in ("llama", "whisper", "qformer"):
        shutil.copytree(NANO / name, tmp_path / name)
    for source in (NANO / "beats.pt", NANO / "salmonn.pth", TRAINER / "prompts/test_prompt.json"):
        shutil.copy(source, tmp_path / source.name)
    keys = {"llama_path": "llama", "whisper_path": "whisper", "qformer_path": "qformer", "beats_path": "beats.pt"}
    keys |= {"ckpt": "salmonn.pth", "test_prompt_path": "test_prompt.json"}
    return {key: str(tmp_path / name) for key, name in keys.items()}


def digests(model: dict[str, Any]) -> dict[str, str]:
    return fingerprints(from_mapping({"model": model}, purpose="answer"), ANSWER_KEYS)


@pytest.mark.parametrize(
    ("changed_file", "key"),
    [
        ("test_prompt.json", "model.test_prompt_path"),
        ("beats.pt", "model.beats_path"),
        ("salmonn.pth", "model.ckpt"),
        ("llama/model.safetensors", "model.llama_path"),
        ("llama/tokenizer_config.json", "model.llama_path"),
        ("whisper/preprocessor_config.json", "model.whisper_path"),
        ("qformer/config.json", "model.qformer_path"),
    ],
)
def test_one_other_byte_changes_the_digest_of_its_key_alone(
    files: dict[str, str], tmp_path: Path, changed_file: str, key: str
) -> None:
    before, path = digests(files), tmp_path / changed_file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert changed(before, digests(files)) == [key]


def test_times_and_what_no_loader_reads_change_nothing(files: dict[str, str], tmp_path: Path) -> None:
    before = digests(files)
    os.utime(files["beats_path"], (1, 1))
    (tmp_path / "llama" / "README.md").write_text("hello")
    (tmp_path / "llama" / "onnx").mkdir()
    assert digests(files) == before
    assert set(before) == {f"model.{key}" for key in files}


def test_an_exported_folder_is_known_by_all_its_files(files: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("adapter_model.safetensors", "bridge.safetensors", "adapter_config.json"):
        (folder / name).write_text(name)
    by_folder = digests(files | {"ckpt": str(folder)})
    assert digests(files | {"ckpt": str(folder / "adapter_model.safetensors")}) == by_folder
    (folder / "bridge.safetensors").write_text("another")
    assert changed(by_folder, digests(files | {"ckpt": str(folder)})) == ["model.ckpt"]


def test_of_large_files_pieces_are_read_from_the_first_byte_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "READ_WHOLE", 1000)
    monkeypatch.setattr(fingerprint, "PIECE", 10)
    monkeypatch.setattr(fingerprint, "PIECES", 5)
    path = tmp_path / "large.pt"
    seen = {}
    for place in (0, 500, 1000, 1500, 1999, 700):
        content = bytearray(2000)
        content[place] = 1
        path.write_bytes(content)
        seen[place] = fingerprint.fingerprint(str(path), "model.beats_path")
    path.write_bytes(bytes(2000))
    plain = fingerprint.fingerprint(str(path), "model.beats_path")
    assert {place for place, digest in seen.items() if digest != plain} == {0, 500, 1000, 1500, 1999}
    path.write_bytes(bytes(2001))
    assert fingerprint.fingerprint(str(path), "model.beats_path") != plain


def test_what_is_not_here_is_unknown_and_counts_as_the_same(files: dict[str, str]) -> None:
    unknown = digests(files | {"llama_path": "nobody/no-such-model"})
    assert unknown["model.llama_path"] == ""
    assert changed(unknown, digests(files)) == []
    assert changed(digests(files), unknown) == []
    assert "model.ckpt" not in digests(files | {"ckpt": "none"})


def test_the_package_offers_them(files: dict[str, str]) -> None:
    assert salmonn.fingerprints({"model": files}) == digests(files)
    assert salmonn.notices({"model": files | {"beats_path": "", "ckpt": "none"}})[0][0] == "model.ckpt"
