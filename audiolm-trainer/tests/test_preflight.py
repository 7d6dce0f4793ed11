"""What is found before any weight is read: every problem at once, each with its key; what is right passes."""

import json
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from salmonn.config.config import from_mapping
from salmonn.config.schema import Config
from salmonn.errors import ConfigError
from salmonn.preflight.preflight import (
    check_before_answering,
    check_before_training,
    find_answering_problems,
    find_training_problems,
)

TRAINER = Path(__file__).resolve().parents[1]
NANO = TRAINER / "nano"
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Configure = Callable[..., Config]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Build a training configuration of the shipped model: configure(model={...}, run={...}, datasets={...})."""

    def build(**changes: dict[str, Any]) -> Config:
        annotation = tmp_path / "ann.json"
        annotation.write_text("[]", encoding="utf-8")
        sections: dict[str, dict[str, Any]] = {
            "model": {
                "llama_path": str(NANO / "llama"),
                "whisper_path": str(NANO / "whisper"),
                "beats_path": str(NANO / "beats.pt"),
                "qformer_path": str(NANO / "qformer"),
                "ckpt": str(NANO / "salmonn.pth"),
                "lora_rank": 16,
                "lora_target_modules": MODULES,
                "prompt_path": str(TRAINER / "prompts/train_prompt.json"),
                "test_prompt_path": str(TRAINER / "prompts/test_prompt.json"),
                "end_sym": "</s>",
            },
            "datasets": {"train_ann_path": str(annotation), "valid_ann_path": str(annotation)},
            "run": {"device": "cpu", "output_dir": str(tmp_path / "output")},
        }
        for name, section in changes.items():
            sections[name] = {**sections.get(name, {}), **section}
        return from_mapping(sections, tmp_path, purpose="train")

    return build


def problems(config: Config) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        check_before_training(config)
    assert all(text.count("\n") == 0 for _, text in caught.value.problems)
    return dict(caught.value.problems)


def test_the_shipped_model_passes_without_network_and_reads_no_language_model(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("not wanted here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("salmonn.model.components.load_llm", refuse)
    monkeypatch.setattr("salmonn.model.components.load_whisper_encoder", refuse)
    check_before_training(configure(run={"valid_generate": 4, "best_metric": "wer"}))


def test_every_problem_is_reported_at_once(configure: Configure, tmp_path: Path) -> None:
    config = configure(
        model={"end_sym": "<|end_of_text|>", "lora_rank": 4, "test_prompt_path": str(tmp_path / "ann.json")},
        run={"precision": "float16", "valid_generate": 3},
        datasets={"task_weights": {"asrr": 2.0}},
    )
    assert list(problems(config)) == [
        "run.precision",
        "datasets.task_weights.asrr",
        "model.test_prompt_path",
        "model.end_sym",
        "model.ckpt",
    ]


def test_an_end_symbol_of_several_tokens_names_their_number_and_the_own_one(configure: Configure) -> None:
    text = problems(configure(model={"end_sym": "the end"}))["model.end_sym"]
    assert "'the end' becomes" in text
    assert "must be one; the tokenizer's own is '</s>'" in text


def test_a_language_model_without_beginning_is_trained(configure: Configure, tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(NANO / "llama", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["bos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    check_before_training(configure(model={"llama_path": str(folder)}))


def test_tasks_without_a_wording_that_has_the_slot_are_named(configure: Configure, tmp_path: Path) -> None:
    book = {"asr": ["<SpeechHere> write"], "gone": ["no slot here", "nor here"], "twice": "<SpeechHere> <SpeechHere>"}
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(book), encoding="utf-8")
    changes = {"prompt_path": str(path), "test_prompt_path": str(path)}
    found = problems(configure(model=changes, run={"valid_generate": 2}))
    assert list(found) == ["model.prompt_path", "model.test_prompt_path"]
    assert "gone, twice" in found["model.prompt_path"]
    # Nothing asks with the test prompts of a run that generates nothing.
    assert list(problems(configure(model=changes))) == ["model.prompt_path"]


def test_generated_metrics_need_generated_answers(configure: Configure) -> None:
    assert "run.valid_generate" in problems(configure(run={"best_metric": "chrf"}))["run.best_metric"]
    # Without a validation set nothing is measured, and the key decides nothing.
    check_before_training(configure(run={"best_metric": "chrf"}, datasets={"valid_ann_path": ""}))


def test_a_misspelt_task_weight_names_the_nearest_task(configure: Configure) -> None:
    text = problems(configure(datasets={"task_weights": {"audiocaptoin": 2.0, "asr": 1.0}}))
    assert text == {"datasets.task_weights.audiocaptoin": "is no task of model.prompt_path; did you mean audiocaption?"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lora_rank": 4}, ["model.lora_rank is 4, and the file has rank 16"]),
        ({"lora": False}, ["model.lora is False, and the file has an adapter of rank 16 on down_proj, gate_proj, "]),
        (
            {"lora_target_modules": ["q_proj", "v_proj"], "beats_path": ""},
            [
                "model.lora_target_modules are q_proj, v_proj, and the file has adapters on down_proj, gate_proj, ",
                'model.beats_path is "", and the file was trained with BEATs of width 128',
            ],
        ),
        ({"qformer_path": ""}, ["model.qformer_path gives a Q-Former of hidden size 768, and the file has one of 160"]),
        ({"num_speech_query_token": 3}, ["model.num_speech_query_token is 3, and the file has 1"]),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_the_setting(
    configure: Configure, changes: dict[str, Any], expected: list[str]
) -> None:
    [(key, text)] = problems(configure(model=changes)).items()
    assert key == "model.ckpt"
    before, _, listed = text.partition(": ")
    assert before == f"{NANO / 'salmonn.pth'} does not fit the configured parts"
    causes = listed.split("; ")
    assert len(causes) == len(expected)
    assert all(cause.startswith(wanted) for cause, wanted in zip(causes, expected, strict=True))


def test_a_qformer_of_another_inner_size_names_its_file(configure: Configure, tmp_path: Path) -> None:
    sizes = json.loads((NANO / "qformer" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(sizes | {"intermediate_size": 7}), encoding="utf-8")
    found = problems(configure(model={"qformer_path": str(tmp_path)}))
    assert "model.qformer_path gives a Q-Former of intermediate size 7, and the file has one of " in found["model.ckpt"]


def test_parts_of_other_widths_are_all_named(configure: Configure, reference: Path) -> None:
    text = problems(configure(model={"ckpt": str(reference / "ckpt.pth")}))["model.ckpt"]
    for part in ("lora_rank", "lora_target_modules", "llama_path", "qformer_path", "whisper_path", "beats_path"):
        assert f"model.{part} " in text
    assert "model.llama_path has width 160, and the file was trained with a model of width 64" in text


@pytest.mark.parametrize("name", ["beats.pt", "llama/model.safetensors", "whisper/model.safetensors"])
def test_another_models_file_is_said_to_be_the_wrong_one(configure: Configure, name: str) -> None:
    text = problems(configure(model={"ckpt": str(NANO / name)}))["model.ckpt"]
    assert text.endswith("it holds nothing of a SALMONN's trained part; is this the right file?")


def test_the_checkpoint_is_looked_at_though_its_parts_are_missing(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    (tmp_path / "cut.pth").write_bytes((NANO / "salmonn.pth").read_bytes()[:5000])
    for path, message in ((NANO / "beats.pt", "is this the right file?"), (tmp_path / "cut.pth", "damaged or trunc")):
        found = problems(configure(model={"qformer_path": str(tmp_path), "ckpt": str(path)}))
        assert list(found) == ["model.qformer_path", "model.ckpt"]
        assert message in found["model.ckpt"]
    assert list(problems(configure(model={"qformer_path": str(tmp_path)}))) == ["model.qformer_path"]


def test_a_difference_that_no_setting_explains_is_listed(configure: Configure, tmp_path: Path) -> None:
    tensors = torch.load(NANO / "salmonn.pth", weights_only=True)["model"]
    del tensors["speech_llama_proj.bias"]
    tensors |= {f"more.{number}": torch.zeros(1) for number in range(9)}
    torch.save({"model": tensors}, tmp_path / "c.pth")
    text = problems(configure(model={"ckpt": str(tmp_path / "c.pth")}))["model.ckpt"]
    assert "does not fit the configured parts: 1 missing (speech_llama_proj.bias); 9 unexpected (more.0, " in text
    assert "and 3 more)" in text


class Whole:
    """A model object, as careless scripts save it."""


def test_a_file_that_holds_code_is_a_sentence_of_our_own(configure: Configure, tmp_path: Path) -> None:
    torch.save({"model": Whole()}, tmp_path / "whole.pth")
    text = problems(configure(model={"ckpt": str(tmp_path / "whole.pth")}))["model.ckpt"]
    assert re.search(r"only: it asks for \S*test_preflight\.Whole; save its state_dict alone$", text)


def test_every_part_that_is_wrong_is_named_at_once(configure: Configure, tmp_path: Path) -> None:
    for name in ("llama", "whisper"):
        shutil.copytree(NANO / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    torch.save({"cfg": {"input_patch_size": "16"}, "model": {}}, tmp_path / "beats.pt")
    (tmp_path / "whisper" / "preprocessor_config.json").write_text("[", encoding="utf-8")
    found = problems(
        configure(
            model={
                **{key: str(tmp_path / key.partition("_")[0]) for key in ("llama_path", "whisper_path")},
                "qformer_path": str(tmp_path),
                "beats_path": str(tmp_path / "beats.pt"),
            },
            run={"device": "cuda:99"},
        )
    )
    assert set(found) == {
        *("run.device", "model.llama_path", "model.whisper_path", "model.qformer_path", "model.beats_path"),
    }


def test_a_beats_file_of_other_weights_is_named(configure: Configure, tmp_path: Path) -> None:
    data = torch.load(NANO / "beats.pt", weights_only=True)
    del data["model"]["layer_norm.bias"]
    torch.save(data, tmp_path / "beats.pt")
    text = problems(configure(model={"beats_path": str(tmp_path / "beats.pt")}))["model.beats_path"]
    assert "missing (1): layer_norm.bias" in text


def test_a_hub_name_without_network_is_a_sentence_at_once(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    begin = time.monotonic()
    found = problems(configure(model={"llama_path": "nobody/nothing", "whisper_path": "nobody/hears"}))
    assert time.monotonic() - begin < 20
    assert list(found) == ["model.llama_path", "model.whisper_path"]
    assert "nobody/nothing is not on this machine, and the hub cannot be asked" in found["model.llama_path"]
    assert "Retrying" not in caplog.text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("generation_config.json", {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size: is 3"),
        ("config.json", {"layer_types": ["sliding_attention"] * 3}, "do not attend to all (sliding_attention)"),
    ],
)
def test_what_our_decoder_cannot_run_is_known_before_loading(
    configure: Configure, tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(NANO / "llama", tmp_path / "llama")
    settings = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps(settings | change), encoding="utf-8")
    config = configure(model={"llama_path": str(folder)})
    [(key, text)] = find_answering_problems(config, "cpu")
    assert key == "generate.engine"
    assert message in text
    assert "generate.engine: transformers" in text
    validating = configure(model={"llama_path": str(folder)}, run={"valid_generate": 4})
    assert list(problems(validating)) == ["generate.engine"]
    # Nobody decodes in a run that answers nothing, or by the other engine.
    check_before_training(configure(model={"llama_path": str(folder)}, run={"valid_generate": 0}))
    other = configure(model={"llama_path": str(folder)}, generate={"engine": "transformers"})
    check_before_answering(other, "cpu")


def test_what_answers_is_checked_without_the_needs_of_training(configure: Configure) -> None:
    config = configure(model={"end_sym": "the end", "lora_rank": 4})
    found = dict(find_answering_problems(config, "cuda:99"))
    assert list(found) == ["run.device", "model.ckpt"]
    with pytest.raises(ConfigError, match=r"this model cannot be loaded: 1 problem\n  model\.ckpt: .*lora_rank is 4"):
        check_before_answering(config, "cpu")
    check_before_answering(configure(), "cpu")


def test_a_file_that_is_no_checkpoint_is_a_sentence(configure: Configure, tmp_path: Path) -> None:
    torch.save({"weights": {}}, tmp_path / "other.pth")
    assert "has no 'model' entry" in problems(configure(model={"ckpt": str(tmp_path / "other.pth")}))["model.ckpt"]
    (tmp_path / "empty.pth").write_bytes(b"")
    assert "is empty" in problems(configure(model={"ckpt": str(tmp_path / "empty.pth")}))["model.ckpt"]


def test_every_form_of_a_checkpoint_is_compared(configure: Configure, tmp_path: Path) -> None:
    tensors = torch.load(NANO / "salmonn.pth", weights_only=True)["model"]
    path = tmp_path / "exported.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    check_before_training(configure(model={"ckpt": str(path)}))
    text = problems(configure(model={"ckpt": str(path), "lora_rank": 4}))["model.ckpt"]
    assert text.endswith("model.lora_rank is 4, and the file has rank 16")


def test_a_projection_file_may_hold_more_but_not_less(configure: Configure, tmp_path: Path) -> None:
    path = tmp_path / "proj.pth"
    torch.save({"model": {"speech_llama_proj.weight": torch.zeros(160, 160), "else": torch.zeros(1)}}, path)
    text = problems(configure(model={"speech_llama_proj_model": str(path)}))["model.speech_llama_proj_model"]
    assert "1 missing (speech_llama_proj.bias)" in text
    state = {"speech_llama_proj.weight": torch.zeros(160, 160), "speech_llama_proj.bias": torch.zeros(160)}
    torch.save(state, path)
    check_before_training(configure(model={"speech_llama_proj_model": str(path)}))


def test_what_only_the_hub_knows_is_passed_over_offline(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    config = configure(model={"llama_path": "nobody/nothing-at-all", "whisper_path": "openai/whisper-large-v2"})
    assert find_training_problems(config, offline=True) == []
