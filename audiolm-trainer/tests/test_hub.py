"""Hub names: a whole copy in the cache is used without network, and what cannot be had is a sentence at once."""

import shutil
import socket
from pathlib import Path

import httpx
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from salmonn.model import components
from salmonn.model.meta import llm_sizes
from salmonn.weights.fingerprint import fingerprint
from salmonn.weights.hub import hub_problem, is_hub_name, local_copy

NANO = Path(__file__).resolve().parents[1] / "nano"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with kim/llama in it, on a machine without network; the folder of its files."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    home = tmp_path / "models--kim--llama"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    return shutil.copytree(NANO / "llama", home / "snapshots" / COMMIT)


def test_a_whole_copy_is_loaded_without_asking_anybody(cache: Path) -> None:
    assert local_copy("kim/llama") == str(cache)
    assert hub_problem("kim/llama", None) == ""
    assert llm_sizes("kim/llama", token=None, offline=False).hidden_size == 160
    assert components.load_tokenizer("kim/llama", None).eos_token == "</s>"
    assert components.load_llm("kim/llama", device=CPU, dtype=torch.float32, token=None).config.hidden_size == 160
    assert fingerprint("kim/llama", "model.llama_path") == fingerprint(str(NANO / "llama"), "model.llama_path")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_copy_that_lacks_something_is_none(cache: Path, missing: str) -> None:
    (cache / missing).unlink()
    assert local_copy("kim/llama") == "kim/llama"
    assert "kim/llama is not on this machine, and the hub cannot be asked" in hub_problem("kim/llama", None)


def test_an_index_says_which_files_make_a_copy_whole(cache: Path) -> None:
    index = cache / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}')
    assert local_copy("kim/llama") == "kim/llama"
    (cache / "model-2.safetensors").touch()
    assert local_copy("kim/llama") == str(cache)
    index.write_text("[]")
    assert local_copy("kim/llama") == "kim/llama"


def test_folders_and_other_values_stay_as_they_are(cache: Path) -> None:
    for value in (str(NANO / "llama"), "nobody/nothing", "", "./a/b", "/none/there"):
        assert local_copy(value) == value
    assert [is_hub_name(value) for value in ("nobody/nothing", str(NANO / "llama"), "")] == [True, False, False]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (RepositoryNotFoundError, "nobody/x is no folder here, and the hub has no model of this name"),
        (GatedRepoError, "nobody/x is gated: ask for access on its page"),
        (OfflineModeIsEnabled, "HF_HUB_OFFLINE forbids asking the hub"),
        (TimeoutError, r"the hub cannot be asked (TimeoutError)"),
    ],
)
def test_what_the_hub_answers_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], message: str
) -> None:
    response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co/api/models/nobody/x"))

    def answer(*_: object, **__: object) -> None:
        raise kind("no", response=response) if kind in (RepositoryNotFoundError, GatedRepoError) else kind("no")

    monkeypatch.setattr("salmonn.weights.hub.HfApi.model_info", answer)
    assert message in hub_problem("nobody/x", None)
