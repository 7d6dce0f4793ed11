"""Exporting a trained model in every form, and reading it back."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from salmonn.__main__ import FORMS as COMMAND_FORMS
from salmonn.__main__ import main
from salmonn.audio import loading as audio
from salmonn.config.config import load_config
from salmonn.config.recorded import recorded_config
from salmonn.config.schema import Config
from salmonn.errors import CheckpointError, ConfigError
from salmonn.export.export import export_model
from salmonn.inference.inference import SalmonnLM, load_language_model
from salmonn.model.salmonn import SALMONN
from salmonn.weights.checkpoint import fill_from_checkpoint, read_checkpoint, read_weights, save_checkpoint
from salmonn.weights.exported_folder import FORMS, Form

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "audiolm-trainer/nano"
DECODE = ROOT / "audiolm-trainer/configs/nano/decode.yaml"
OUTPUT: Mapping[Form, str] = {
    "pth": "s.pth",
    "safetensors": "s.safetensors",
    "peft": "adapter",
    "merged": "merged",
}
TOKEN = "hf_canaryCANARYcanary"
LORA_MODULES = ("mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", *(f"self_attn.{x}_proj" for x in "kqvo"))
LLM_LAYER = "llama_model.base_model.model.model.layers"


def nano_config(*options: str) -> Config:
    return load_config(DECODE, ("generate.num_beams=1", "generate.max_new_tokens=20", *options), purpose="answer")


def with_checkpoint(path: Path) -> Config:
    return nano_config(f"model.ckpt={json.dumps(str(path))}")


def reload_options(form: Form, target: Path) -> tuple[str, ...]:
    """What a configuration says to use an export."""
    if form == "merged":
        return (
            f"model.llama_path={target}",
            "model.lora=False",
            f"model.ckpt={target / 'bridge.safetensors'}",
        )
    return (f"model.ckpt={target / 'adapter_model.safetensors' if form == 'peft' else target}",)


def released(path: Path) -> dict[str, Tensor]:
    return dict(torch.load(path, weights_only=True)["model"])


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return audio.load_audio(sorted((ROOT / "data/sample/asr").glob("*.flac"))[0], 16000)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[Form, Path]:
    """Every form of the shipped model, once."""
    folder = tmp_path_factory.mktemp("exports")
    for form, name in OUTPUT.items():
        # Merged in float32, where adding the adapter rounds next to nothing.
        export_model(nano_config(), form=form, output=folder / name, dtype="float32" if form == "merged" else None)
    return {form: folder / name for form, name in OUTPUT.items()}


def test_the_command_offers_what_there_is() -> None:
    assert COMMAND_FORMS == FORMS == tuple(OUTPUT)


@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip_gives_equal_tensors_and_text(
    form: Form, exports: dict[Form, Path], nano: SalmonnLM, clip: np.ndarray
) -> None:
    again = load_language_model(nano_config(*reload_options(form, exports[form])), "cpu")
    ours, theirs = again.model.trained_state_dict(), nano.model.trained_state_dict()
    if form == "merged":
        theirs = {name: tensor for name, tensor in theirs.items() if ".lora_" not in name}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    question = "Recognize the speech and give me the transcription."
    before = load_language_model(nano_config(), "cpu").answer(clip, question)
    assert again.answer(clip, question) == before
    assert before.strip()


def test_what_is_written_is_what_was_read_bit_by_bit(exports: dict[Form, Path]) -> None:
    shipped = released(NANO / "salmonn.pth")
    for form in ("pth", "safetensors", "peft"):
        written = read_checkpoint(exports[form])["model"]
        written = {name.replace("lora_A.weight", "lora_A.default.weight"): tensor for name, tensor in written.items()}
        written = {name.replace("lora_B.weight", "lora_B.default.weight"): tensor for name, tensor in written.items()}
        assert written.keys() == shipped.keys()
        assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in shipped.items())


def expected_nano_shapes() -> dict[str, list[int]]:
    """Names and shapes that the original's loader knows, for the nano model's widths, spelled out from its layout."""
    width, inner, windows, llm, rank = 160, 480, 256, 160, 16
    shapes = {"speech_query_tokens": [1, 1, width], "speech_llama_proj.weight": [llm, width]}
    shapes["speech_llama_proj.bias"] = [llm]
    for norm, size in (("ln_speech", 128), ("ln_audio", 128), ("speech_Qformer.bert.embeddings.LayerNorm", width)):
        shapes |= {f"{norm}.weight": [size], f"{norm}.bias": [size]}
    for layer in range(2):
        at = f"speech_Qformer.bert.encoder.layer.{layer}"
        dense = {"attention.self.query": (width, width), "attention.self.key": (width, width)}
        dense |= {"attention.self.value": (width, width), "attention.output.dense": (width, width)}
        dense |= {"crossattention.self.query": (width, width), "crossattention.self.key": (width, windows)}
        dense |= {"crossattention.self.value": (width, windows), "crossattention.output.dense": (width, width)}
        dense |= {"intermediate_query.dense": (inner, width), "output_query.dense": (width, inner)}
        for name, (rows, columns) in dense.items():
            shapes |= {f"{at}.{name}.weight": [rows, columns], f"{at}.{name}.bias": [rows]}
        for name in ("attention.output", "crossattention.output", "output_query"):
            shapes |= {f"{at}.{name}.LayerNorm.weight": [width], f"{at}.{name}.LayerNorm.bias": [width]}
    for layer in range(3):
        for module in LORA_MODULES:
            inputs = 432 if module == "mlp.down_proj" else llm
            outputs = 432 if module in ("mlp.gate_proj", "mlp.up_proj") else llm
            shapes[f"{LLM_LAYER}.{layer}.{module}.lora_A.default.weight"] = [rank, inputs]
            shapes[f"{LLM_LAYER}.{layer}.{module}.lora_B.default.weight"] = [outputs, rank]
    return shapes


def test_the_pth_has_the_originals_entries_names_and_shapes(exports: dict[Form, Path]) -> None:
    data = torch.load(exports["pth"], weights_only=True)
    assert list(data) == ["model", "optimizer", "scaler", "config", "epoch", "tasks"]
    assert data["optimizer"] is None
    assert data["scaler"] is None
    assert data["epoch"] == 3
    assert {name: list(tensor.shape) for name, tensor in data["model"].items()} == expected_nano_shapes()


@pytest.mark.parametrize("name", ["ckpt.pth", "runner_checkpoint.pth"])
def test_the_pth_has_the_key_list_of_the_reference(
    name: str, reference: Path, expected: Any, configured: Callable[..., Config], tmp_path: Path
) -> None:
    """The runner's file has three entries that nobody trains; they are read and not written."""
    export_model(configured(ckpt=name), form="pth", output=tmp_path / "s.pth")
    data = torch.load(tmp_path / "s.pth", weights_only=True)
    theirs = torch.load(reference / "runner_checkpoint.pth", weights_only=True)
    assert data.keys() <= theirs.keys() | {"step"}
    ignorable = set(expected["runner_checkpoint"]["not_trainable"])
    kept = {key: tensor for key, tensor in theirs["model"].items() if key not in ignorable}
    shapes = {key: (tensor.dtype, tensor.shape) for key, tensor in data["model"].items()}
    assert shapes == {key: (tensor.dtype, tensor.shape) for key, tensor in kept.items()}
    assert shapes.keys() == expected["trainable"].keys()
    assert all(torch.equal(data["model"][key], tensor) for key, tensor in kept.items())


@pytest.fixture(scope="session")
def configured(reference: Path, reference_sections: dict[str, Any]) -> Callable[..., Config]:
    """The reference's configuration with keys of `model` changed."""
    from salmonn.config.config import from_mapping

    def configure(**changes: Any) -> Config:
        return from_mapping({**reference_sections, "model": {**reference_sections["model"], **changes}}, reference)

    return configure


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_reads_the_adapter_and_computes_the_same(exports: dict[Form, Path], nano: SalmonnLM) -> None:
    base = AutoModelForCausalLM.from_pretrained(NANO / "llama", dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, exports["peft"]).eval()
    ids = torch.tensor([[1, 40, 41, 42]])
    with torch.no_grad():
        assert torch.equal(adapted(ids).logits, nano.model.llm(ids).logits)
    settings = json.loads((exports["peft"] / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == "llama"
    assert (settings["r"], settings["lora_alpha"]) == (16, 64)
    assert len(load_file(exports["peft"] / "adapter_model.safetensors")) == 2 * 7 * 3


def test_the_merged_model_is_a_plain_model_that_computes_the_same(exports: dict[Form, Path], nano: SalmonnLM) -> None:
    merged = AutoModelForCausalLM.from_pretrained(exports["merged"])
    ids = torch.tensor([[1, 40, 41, 42]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, nano.model.llm(ids).logits, atol=1e-4, rtol=1e-4)


def test_merging_keeps_the_language_models_dtype_by_itself(tmp_path: Path) -> None:
    export_model(nano_config(), form="merged", output=tmp_path / "merged")
    weights = load_file(tmp_path / "merged/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_a_temperature_without_sampling_does_not_stop_the_merge(tmp_path: Path) -> None:
    llama = tmp_path / "llama"
    shutil.copytree(NANO / "llama", llama)
    settings = json.loads((llama / "generation_config.json").read_text(encoding="utf-8"))
    (llama / "generation_config.json").write_text(json.dumps(settings | {"temperature": 0.9, "top_p": 0.6}))
    export_model(nano_config(f"model.llama_path={llama}"), form="merged", output=tmp_path / "merged")
    written = json.loads((tmp_path / "merged/generation_config.json").read_text(encoding="utf-8"))
    assert (written["temperature"], written["top_p"], written["eos_token_id"]) == (0.9, 0.6, 2)


def test_safetensors_say_how_to_read_them(exports: dict[Form, Path]) -> None:
    for path in (exports["safetensors"], exports["peft"] / "bridge.safetensors"):
        with safe_open(path, framework="pt") as file:
            notes = file.metadata()
        assert (notes["format"], notes["salmonn_layout"], notes["epoch"]) == ("pt", "1", "3")
        assert json.loads(notes["config"])["model"]["lora_rank"] == 16
    with safe_open(exports["merged"] / "bridge.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["model"]["lora"] is False


def test_another_layout_and_damage_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "new.safetensors", metadata={"salmonn_layout": "2"})
    with pytest.raises(CheckpointError, match=r"layout '2'.*update"):
        read_checkpoint(tmp_path / "new.safetensors")
    whole = (tmp_path / "new.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(whole[:-2])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        read_checkpoint(tmp_path / "torn.safetensors")
    with pytest.raises(CheckpointError, match=r"bridge\.safetensors.* does not exist"):
        read_checkpoint(tmp_path)


def test_a_bridge_alone_is_no_whole_checkpoint(exports: dict[Form, Path], nano: SalmonnLM) -> None:
    trained = {name: p.clone() for name, p in nano.model.named_parameters() if ".lora_" in name}
    with pytest.raises(CheckpointError, match=r"missing \(42\)"):
        fill_from_checkpoint(read_checkpoint(exports["peft"] / "bridge.safetensors")["model"], trained, source="bridge")


def test_an_export_that_does_not_fit_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"does not fit the configured parts:\n  model\.lora_rank is 4, and the file"
    ):
        export_model(nano_config("model.lora_rank=4"), form="pth", output=tmp_path / "s.pth")


def test_an_untrained_model_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.ckpt: names no checkpoint \(none\): name the one to export"):
        export_model(nano_config("model.ckpt=none"), form="pth", output=tmp_path / "s.pth")


def training_checkpoint(path: Path, **changes: Any) -> Path:
    """A checkpoint as training writes it, with more than may be passed on."""
    settings = {
        "model": {"lora_alpha": 64, "token": TOKEN, "llama_path": f"{path.parent}/llama", **changes},
        "datasets": {"train_ann_path": f"{path.parent}/train.json"},
        "run": {
            "seed": 7,
            "optims": {"init_lr": 1e-4},
            "output_dir": f"{path.parent}/runs",
            "dist_url": f"file://{path}",
        },
    }
    save_checkpoint(
        path,
        released(NANO / "salmonn.pth"),
        config=settings,
        epoch=2,
        step=300,
        optimizer={"moments": torch.zeros(1000)},
        scaler=None,
        random=[torch.zeros(5000)],
        samples=f"{path.parent} 1234",
        tasks=["asr"],
        progress={"step": 300, "best_step": 200, "best": {"accuracy": 0.75, "loss": 1.5}, "unreadable": [str(path)]},
    )
    return path


def test_training_state_is_left_behind(tmp_path: Path) -> None:
    source = training_checkpoint(tmp_path / "checkpoint_best.pth")
    export_model(with_checkpoint(source), form="pth", output=tmp_path / "s.pth")
    data = torch.load(tmp_path / "s.pth", weights_only=True)
    assert list(data) == ["model", "optimizer", "scaler", "config", "epoch", "step", "tasks"]
    assert (data["epoch"], data["step"], data["tasks"], data["optimizer"]) == (2, 300, ["asr"], None)
    assert data["config"]["run"] == {
        "seed": 7,
        "output_dir": "runs",
        "optims": {"init_lr": 1e-4},
    }
    assert data["config"]["model"]["llama_path"] == "llama"
    card = (tmp_path / "s.pth.md").read_text(encoding="utf-8")
    assert "0.7500" in card
    assert "at step 200" in card


def files_inside(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of an export with its bytes, those inside zip archives too."""
    for file in [path, path.with_name(f"{path.name}.md")] if path.is_file() else sorted(path.rglob("*")):
        yield str(file), file.read_bytes()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield from ((f"{file}:{name}", archive.read(name)) for name in archive.namelist())


@pytest.mark.parametrize("form", FORMS)
def test_no_token_and_no_folder_is_in_any_file(form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "canary-home"
    home.mkdir()
    for part in ("llama", "whisper", "qformer"):
        shutil.copytree(NANO / part, home / part)
    shutil.copy(NANO / "beats.pt", home)
    checkpoint = training_checkpoint(home / "checkpoint_7.pth")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(home)
    places = [f"model.{key}_path={home / name}" for key, name in (("llama", "llama"), ("whisper", "whisper"))]
    places += [f"model.beats_path={home / 'beats.pt'}", f"model.qformer_path={home / 'qformer'}"]
    config = nano_config(*places, f"model.ckpt={checkpoint}", f"model.token={TOKEN}", f"run.output_dir={home / 'runs'}")
    # What the search is to find lies in the source.
    assert all(canary in checkpoint.read_bytes() for canary in (b"canary-home", TOKEN.encode()))
    target = home / OUTPUT[form]
    export_model(config, form=form, output=target)
    found = list(files_inside(target))
    assert len(found) >= 2
    for name, content in found:
        for canary in (TOKEN, str(home), "canary-home", str(ROOT)):
            assert canary.encode() not in content, f"{canary} in {name}"


def test_recorded_settings_lose_token_and_folders() -> None:
    entry = {
        "model": {"token": TOKEN, "llama_path": "openai/x", "beats_path": r"C:\Users\kim\beats.pt", "unknown": 1},
        "run": {"output_dir": "/home/kim/out/", "exp_name": "/home/kim/exp", "optims": {"init_lr": 1.0, "secret": "x"}},
        "wandb": {"key": TOKEN},
    }
    assert recorded_config(entry) == {
        "model": {"llama_path": "openai/x", "beats_path": "beats.pt"},
        "run": {"output_dir": "out", "exp_name": "exp", "optims": {"init_lr": 1.0}},
    }
    assert recorded_config(None) == {}


def test_another_alpha_than_in_training_is_an_error(tmp_path: Path) -> None:
    source = training_checkpoint(tmp_path / "c.pth", lora_alpha=32)
    with pytest.raises(CheckpointError, match=r"model\.lora_alpha: 32 in the file, 64 in the configuration"):
        export_model(with_checkpoint(source), form="pth", output=tmp_path / "s.pth")


def test_half_precision_halves_the_file_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    state = {name: tensor.float() for name, tensor in released(NANO / "salmonn.pth").items()}
    save_checkpoint(tmp_path / "c.pth", state)
    export_model(
        with_checkpoint(tmp_path / "c.pth"), form="safetensors", output=tmp_path / "s.safetensors", dtype="float16"
    )
    written = load_file(tmp_path / "s.safetensors")
    assert all(torch.equal(written[name], tensor.half()) for name, tensor in state.items())
    state["ln_speech.bias"][0] = 1e6
    save_checkpoint(tmp_path / "c.pth", state)
    with pytest.raises(CheckpointError, match=r"ln_speech\.bias holds values that are not finite in torch\.float16"):
        export_model(with_checkpoint(tmp_path / "c.pth"), form="pth", output=tmp_path / "s.pth", dtype="float16")
    assert not (tmp_path / "s.pth").exists()


def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    config = nano_config()
    target = tmp_path / "adapter"
    export_model(config, form="peft", output=target)
    with pytest.raises(CheckpointError, match="exists: choose another --output, or --force"):
        export_model(config, form="peft", output=target)
    (target / "stale").write_text("old")
    export_model(config, form="peft", output=target, force=True)
    assert not (target / "stale").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_force_never_replaces_what_is_no_export(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="no earlier export"):
        export_model(nano_config(), form="peft", output=home, force=True)
    with pytest.raises(CheckpointError, match="not what would be written"):
        export_model(nano_config(), form="merged", output=home / "thesis.tex", force=True)
    assert (home / "thesis.tex").read_text() == "years of work"


def test_requests_that_cannot_be_met() -> None:
    with pytest.raises(ConfigError, match=r"model\.ckpt: is empty"):
        export_model(nano_config("model.ckpt="), form="pth", output=Path("s.pth"))
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        export_model(nano_config(), form="safetensors", output=Path("s.bin"))
    with pytest.raises(ConfigError, match="no adapter for the form merged"):
        export_model(nano_config("model.lora=False"), form="merged", output=Path("m"))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the operating system refuse to write more than this into a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_does_not_fit_leaves_nothing(form: Form, tmp_path: Path) -> None:
    with file_size_limit(100_000), pytest.raises(CheckpointError, match=r"cannot be written: .*MB are needed and"):
        export_model(nano_config(), form=form, output=tmp_path / OUTPUT[form])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_0.pth"
    state = released(NANO / "salmonn.pth")
    save_checkpoint(path, {"a": torch.ones(1)}, epoch=0)
    before = path.read_bytes()
    with file_size_limit(100_000), pytest.raises(CheckpointError) as caught:
        save_checkpoint(path, state, optimizer={"m": [torch.zeros(250_000)]}, epoch=1)
    # 1.9 MB of weights and 1 MB of the optimizer.
    assert str(path) in str(caught.value)
    assert "About 2.9 MB are needed" in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint_0.pth"]


def test_a_write_that_fails_half_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint(tmp_path / "c.pth", {"a": torch.ones(1)})
    assert list(tmp_path.iterdir()) == []


def test_exports_can_be_read_by_whoever_may_read_the_users_files(exports: dict[Form, Path]) -> None:
    mode = exports["pth"].stat().st_mode
    assert exports["safetensors"].stat().st_mode == mode
    assert {file.stat().st_mode for form in ("peft", "merged") for file in exports[form].iterdir()} == {mode}


def test_the_command_writes_and_says_where(tmp_path: Path) -> None:
    arguments = [
        "export",
        "--cfg-path",
        str(DECODE),
        "--format",
        "safetensors",
        "--output",
        str(tmp_path / "s.safetensors"),
    ]
    arguments += ["--ckpt", str(NANO / "salmonn.pth"), "--options", "model.lora_dropout=0.0", "run.device=cpu"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "s.safetensors.md") in result.output
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == CheckpointError.exit_code
    assert "exists" in refused.output


@pytest.mark.parametrize(
    "arguments", [["--help"], ["export", "--help"], ["export", "--cfg-path", str(NANO / "x.yaml")]]
)
def test_help_and_usage_errors_load_no_torch(arguments: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['salmonn', *{arguments!r}]\n"
        "try:\n    runpy.run_module('salmonn', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_exported_file_starts_further_training(exports: dict[Form, Path], nano: SalmonnLM) -> None:
    """Only released weights: a run starts from it, and is not resumed."""
    options = reload_options("peft", exports["peft"])
    model = SALMONN.from_config(nano_config(*options), device=torch.device("cpu"), dtype=torch.float32, train=True)
    assert model.trainable_parameters().keys() == nano.model.trained_state_dict().keys()
    assert "progress" not in read_weights(exports["pth"])
