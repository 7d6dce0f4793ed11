"""Quantised parts: what is refused before loading, what they weigh; decoded, trained, resumed, exported."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_train_command import load_command
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from salmonn.audio.loading import load_audio
from salmonn.config.choices import QUANTIZE_LIBRARIES
from salmonn.config.config import find_problems, load_config
from salmonn.config.recorded import recorded_config
from salmonn.config.schema import Config, QuantizeConfig
from salmonn.decoding import decoder_support
from salmonn.decoding.decoder_support import check_supported, own_noise, tried_difference
from salmonn.errors import CheckpointError, ConfigError
from salmonn.export.export import export_model
from salmonn.inference.inference import SalmonnLM, load_language_model
from salmonn.model.components import load_llm
from salmonn.model.meta import build_meta_model
from salmonn.planning.run_plan import Longest, measure_sizes
from salmonn.preflight.preflight import find_answering_problems, find_training_problems
from salmonn.quantization.kinds import KINDS, device_problem, width_problems
from salmonn.quantization.layers import (
    count_numbers,
    linear_layers,
    packed_tensors,
    quantised_layers,
    tensor_bytes,
    unpack_for_cpu,
    weights_format,
)
from salmonn.training.run import encoder_identity, read_resumable

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "audiolm-trainer"
NANO = TRAINER / "nano"
CPU, GPU = torch.device("cpu"), torch.device("cuda")
EVERY_KIND = sorted(KINDS)

for _library in ("torchao", "bitsandbytes"):
    pytest.importorskip(_library, reason=f"{_library} is not installed (the extra 'quantize')")


class Request(NamedTuple):
    index: int  # type: ignore[assignment]
    audio: np.ndarray
    task: str
    question: str


def nano_config(*options: str) -> Config:
    return load_config(ROOT / "configs/salmonn_eval_config.yaml", options)


def quantised(kind: str, parts: str = "llm") -> str:
    return f"model.quantize={{kind: {kind}, parts: [{parts}]}}"


def sample(count: int) -> list[Request]:
    rows = json.loads((ROOT / "data/sample/asr.json").read_text(encoding="utf-8"))["annotation"][:count]
    return [Request(i, load_audio(ROOT / "data/sample" / row["path"]), "asr", "") for i, row in enumerate(rows)]


def answers(lm: SalmonnLM, requests: list[Request]) -> list[str]:
    return [answer.text for answer in sorted(lm.generate(requests), key=lambda answer: answer.index)]


def test_every_kind_has_its_library_and_its_name_in_the_schema() -> None:
    names = set(QuantizeConfig.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
    assert names - {"none"} == set(KINDS) == set(QUANTIZE_LIBRARIES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([quantised("int3")], "model.quantize.kind: input should be 'none', 'int8'"),
        (["model.quantize.parts=[beats]"], "model.quantize.parts"),
        (["model.quantize.parts=[]"], "model.quantize.parts"),
        ([quantised("nf4"), "model.merge_lora=True"], "an adapter cannot be merged into weights that are nf4"),
    ],
)
def test_what_cannot_be_is_a_sentence_with_the_key(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        nano_config(*options)
    assert message.lower() in str(error.value).lower()


def test_weights_that_are_quantised_are_not_cut_over_processes() -> None:
    with pytest.raises(ConfigError, match="fsdp2 cannot cut weights that are int8; use ddp"):
        load_config(TRAINER / "configs/sample.yaml", [quantised("int8"), "run.parallel=fsdp2"], purpose="train")


def test_whisper_alone_leaves_the_adapter_mergeable() -> None:
    assert nano_config(quantised("int8", "whisper"), "model.merge_lora=True").model.quantize.kind_of("llm") == "none"


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_library_that_is_not_here_is_named_with_its_command(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    model = {"llama_path": str(NANO / "llama"), "whisper_path": str(NANO / "whisper"), "quantize": {"kind": kind}}
    found = dict(find_problems({"model": model}, purpose="dryrun"))
    library = QUANTIZE_LIBRARIES[kind]
    assert found["model.quantize.kind"] == f"{kind} needs {library}, which is not installed: pip install {library}"


def test_gpus_that_are_too_old_are_named() -> None:
    assert "compute capability 7.5 or newer, this one has 7.0" in device_problem("llm_int8", GPU, (7, 0))
    assert device_problem("nf4", GPU, (7, 0)) == device_problem("llm_int8", GPU, (9, 0)) == ""
    assert not any(device_problem(kind, CPU) for kind in KINDS)


def test_a_width_that_a_kernel_does_not_take_is_named_by_its_layer() -> None:
    layers = [("model.layers.0.q_proj", nn.Linear(16, 16)), ("a.b", nn.Linear(16, 12)), ("a.c", nn.Linear(12, 16))]
    [text] = width_problems("int8_dynamic", layers, GPU)
    assert "multiples of 8, and a.b is 16 -> 12 (and 1 more layers)" in text
    assert not list(width_problems("int8_dynamic", layers, CPU))
    assert not list(width_problems("nf4", layers, GPU))


def test_the_preflight_finds_widths_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    narrow = LlamaConfig(vocab_size=100, hidden_size=20, intermediate_size=36, num_hidden_layers=1,
                         num_attention_heads=2, bos_token_id=1, eos_token_id=2)  # fmt: skip
    shutil.copytree(NANO / "llama", tmp_path / "llama")
    narrow.save_pretrained(tmp_path / "llama")
    monkeypatch.setattr("salmonn.preflight.quantise.choose_device", lambda name: GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    options = [f"model.llama_path={tmp_path / 'llama'}", quantised("int8_dynamic"), "model.ckpt=none"]
    found = dict(find_answering_problems(nano_config(*options), "cpu"))
    assert "model.layers.0.self_attn.q_proj is 20 -> 20" in found["model.quantize.kind"]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_nano_model_answers_and_both_engines_agree(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    requests = sample(12)
    own, theirs = (
        answers(load_language_model(nano_config(quantised(kind, "llm, whisper"), *more), "cpu"), requests)
        for more in ((), ("generate.engine=transformers",))
    )
    same = sum(a == b for a, b in zip(own, theirs, strict=True))
    # Activations that are rounded to 8 bits round apart where a batch is another one.
    assert same == len(requests) if kind in ("int8", "nf4") else same >= len(requests) - 2
    assert f"model.quantize is {kind} of llm and whisper" in caplog.text


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_bytes_are_those_of_packed_weights_before_and_after_use(kind: str) -> None:
    plain = load_llm(str(NANO / "llama"), device=CPU, dtype=torch.float32, token=None)
    llm = load_llm(str(NANO / "llama"), device=CPU, dtype=torch.float32, token=None, kind=kind)
    unpack_for_cpu(llm, train=False)
    layers = linear_layers(plain)
    assert len(quantised_layers(llm)) == len(layers)
    assert count_numbers(llm.parameters()) == count_numbers(plain.parameters())
    before = tensor_bytes(packed_tensors(llm))
    with torch.no_grad():
        llm(input_ids=torch.tensor([[1, 2, 3]]))
    after = tensor_bytes(packed_tensors(llm))
    numbers = sum(layer.weight.numel() for _, layer in layers)
    rest = tensor_bytes(packed_tensors(plain)) - 4 * numbers
    # A row has a float32 scale, and with torchao a zero point of one byte.
    scales = sum((4 if kind == "llm_int8" else 5) * layer.out_features for _, layer in layers)
    expected = rest + int(numbers * KINDS[kind].number_bytes) + (0 if kind == "nf4" else scales)
    # NF4's own tables are a kilobyte a layer.
    for found in (before, after):
        assert found == pytest.approx(expected, abs=2048 * len(layers) if kind == "nf4" else 64 * len(layers))
    assert weights_format(plain) == "plain"
    assert weights_format(llm) == {"nf4": "nf4", "llm_int8": "Int8Params"}.get(kind, "Int8Tensor")


def test_the_probe_and_the_stages_tell_the_weights(nano: SalmonnLM) -> None:
    lm = load_language_model(nano_config(quantised("llm_int8", "llm, whisper")), "cpu")
    request = sample(1)[0]
    stages, plain = ({s.name: s.weights_bytes for s in m.probe().stages(request)} for m in (lm, nano))
    assert stages["prompt"] < 0.6 * plain["prompt"]
    assert stages["whisper"] < 0.5 * plain["whisper"]
    assert stages["qformer"] == plain["qformer"]
    settings = lm.probe().settings()
    assert (settings["llm_weights"], settings["whisper_weights"]) == ("Int8Params", "Int8Params")
    assert nano.probe().settings()["llm_weights"] == "plain"


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_quantised_model_multiplies_as_much_as_a_plain_one(kind: str, nano: SalmonnLM) -> None:
    lm = load_language_model(nano_config(quantised(kind, "llm, whisper")), "cpu")
    request = sample(1)[0]
    assert lm.probe().figures(request) == nano.probe().figures(request)


def random_llama(seed: int, folder: Path) -> str:
    torch.manual_seed(seed)
    sizes = LlamaConfig(vocab_size=200, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
                        num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    LlamaForCausalLM(sizes).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_decoder_takes_every_kind(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    for seed in range(3):
        path = random_llama(seed, tmp_path / str(seed))
        check_supported(load_llm(path, device=CPU, dtype=dtype, token=None, kind=kind))


def test_the_decoder_still_refuses_what_is_wrong_of_a_noisy_model(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = load_llm(str(NANO / "llama"), device=CPU, dtype=torch.float32, token=None, kind="llm_int8")
    assert 1e-3 < own_noise(llm) < 0.05, "too quiet a model for this test"
    check_supported(llm)
    right: Callable[..., Any] = decoder_support._tried_step

    def one_place_off(model: Any, cache: Any, tokens: Any, *, step: int) -> Any:
        return right(model, cache, tokens, step=step).roll(1, dims=1)

    monkeypatch.setattr(decoder_support, "_tried_step", one_place_off)
    assert tried_difference(llm) > 0.05
    with pytest.raises(ConfigError, match=r"which its own differ by .* between batches"):
        check_supported(llm)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_folders_that_are_quantised_already_load(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = BitsAndBytesConfig(load_in_8bit=kind == "int8", load_in_4bit=kind == "nf4")
    packed = AutoModelForCausalLM.from_pretrained(NANO / "llama", quantization_config=settings, dtype=torch.float32)
    shutil.copytree(NANO / "llama", tmp_path / "llama")
    (tmp_path / "llama/model.safetensors").unlink()
    packed.save_pretrained(tmp_path / "llama")
    path = f"model.llama_path={tmp_path / 'llama'}"
    lm = load_language_model(nano_config(path), "cpu")
    assert len(quantised_layers(lm.model.llm)) == 21
    assert answers(lm, sample(1)) == ["remind me to buy seven tickets on friday"] or answers(lm, sample(1))[0]
    found = dict(find_answering_problems(nano_config(path, quantised("int8")), "cpu"))
    assert "llama is quantised already (bitsandbytes): take llm out" in found["model.quantize.kind"]
    found = dict(find_answering_problems(nano_config(path, "model.merge_lora=True"), "cpu"))
    assert "cannot be merged into llama, which is quantised" in found["model.merge_lora"]
    with pytest.raises(CheckpointError, match=r"quantised \(bitsandbytes\), and an adapter cannot be merged"):
        export_model(nano_config(path), form="merged", output=tmp_path / "merged")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = dict(find_answering_problems(nano_config(path), "cpu"))
    assert found["model.llama_path"].endswith("bitsandbytes, which needs bitsandbytes: pip install bitsandbytes")


def test_a_folder_of_gptq_without_its_library_is_a_sentence(tmp_path: Path) -> None:
    if importlib.util.find_spec("gptqmodel"):
        pytest.skip("gptqmodel is installed")
    shutil.copytree(NANO / "llama", tmp_path / "llama")
    sizes = json.loads((tmp_path / "llama/config.json").read_text(encoding="utf-8"))
    for method, needed in (("gptq", "gptqmodel"), ("awq", "gptqmodel")):
        sizes["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 32}
        (tmp_path / "llama/config.json").write_text(json.dumps(sizes), encoding="utf-8")
        found = dict(find_answering_problems(nano_config(f"model.llama_path={tmp_path / 'llama'}"), "cpu"))
        assert f"llama is quantised by {method}, which needs {needed}" in found["model.llama_path"]


def test_the_plan_counts_fewer_bytes() -> None:
    longest = Longest(prompt_tokens=20, target_tokens=20, seconds=10)
    plain, packed = (
        measure_sizes(load_config(TRAINER / "configs/sample.yaml", [*more, "run.device=cpu"], purpose="train"), longest)
        for more in ((), (quantised("int8", "llm, whisper"),))
    )
    assert not isinstance(plain, CheckpointError)
    assert not isinstance(packed, CheckpointError)
    model = build_meta_model(nano_config(), offline=True)
    llm, whisper = linear_layers(model.llm.get_base_model()), linear_layers(model.speech_encoder.whisper)
    numbers = sum(layer.weight.numel() for _, layer in [*llm, *whisper])
    assert plain.memory.frozen_weights - packed.memory.frozen_weights == 3 * numbers


def train_options(folder: Path, kind: str, *options: str) -> list[str]:
    """The arguments that train nano on eight sentences for two epochs of six steps, with answers asked for between."""
    rows = json.loads((ROOT / "data/sample/asr.json").read_text(encoding="utf-8"))["annotation"][:8]
    folder.mkdir(exist_ok=True)
    (folder / "ann.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    settings = (
        *("run.epoch_based=False", "run.iters_per_epoch=6", "run.optims.max_epoch=2", "run.batch_size_train=4"),
        *(f"run.output_dir={folder / 'output'}", f"datasets.train_ann_path={folder / 'ann.json'}"),
        *(f"datasets.valid_ann_path={folder / 'ann.json'}", "run.valid_generate=2", "run.device=cpu"),
        *("run.trackers=[]", "run.num_workers=0", "run.optims.warmup_steps=0", "model.ckpt=", quantised(kind)),
    )
    return ["--cfg-path", str(TRAINER / "configs/sample.yaml"), "--options", *settings, *options]


def train(folder: Path, kind: str, *arguments: object, options: tuple[str, ...] = ()) -> Path:
    """Train so in this process; the run's folder."""
    result = CliRunner().invoke(load_command(), [*map(str, arguments), *train_options(folder, kind, *options)])
    assert result.exit_code == 0, result.output
    return next((folder / "output").glob("*/log.txt")).parent


def test_rounded_activations_are_not_trained_through() -> None:
    load_config(TRAINER / "configs/sample.yaml", [quantised("int8_dynamic", "whisper")], purpose="train")
    with pytest.raises(ConfigError, match="int8_dynamic rounds activations, which lets no gradient through: use int8"):
        load_config(TRAINER / "configs/sample.yaml", [quantised("int8_dynamic")], purpose="train")


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"int8_dynamic"}))
def test_an_adapter_is_trained_resumed_exactly_exported_and_answers(kind: str, tmp_path: Path) -> None:
    folder = train(tmp_path / "whole", kind)
    lines = [json.loads(line) for line in (folder / "log.txt").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if line.get("event") == "train"]
    assert losses[-1] < losses[0]
    whole = torch.load(folder / "checkpoint_1.pth", weights_only=True)
    assert recorded_config(whole["config"])["model"]["quantize"] == {"kind": kind, "parts": ["llm"]}
    shutil.copytree(folder, tmp_path / "again/output/run")
    for name in ("checkpoint_1.pth", "checkpoint_best.pth"):
        (tmp_path / "again/output/run" / name).unlink()
    resumed = train(tmp_path / "again", kind, "--resume", tmp_path / "again/output/run/checkpoint_0.pth")
    again = torch.load(resumed / "checkpoint_1.pth", weights_only=True)
    assert again["model"].keys() == whole["model"].keys()
    assert all(torch.equal(again["model"][name], whole["model"][name]) for name in whole["model"])
    for form, name in (("pth", "s.pth"), ("safetensors", "s.safetensors"), ("peft", "adapter")):
        trained = nano_config(quantised(kind), f"model.ckpt={folder / 'checkpoint_1.pth'}")
        card = export_model(trained, form=form, output=tmp_path / name)  # type: ignore[arg-type]
        assert f'quantize: {{"kind": "{kind}", "parts": ["llm"]}}' in card.read_text(encoding="utf-8")
        again_config = nano_config(quantised(kind), f"model.ckpt={tmp_path / name}")
        lm = load_language_model(again_config, "cpu")
        assert torch.equal(
            lm.model.trained_state_dict()["speech_llama_proj.bias"], whole["model"]["speech_llama_proj.bias"]
        )


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_encoded_clips_of_other_weights_are_not_used(kind: str, nano: SalmonnLM) -> None:
    first, again = (load_language_model(nano_config(quantised(kind, "whisper")), "cpu").model for _ in range(2))
    assert encoder_identity(first) == encoder_identity(again) != encoder_identity(nano.model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_two_processes_train_beside_quantised_weights(kind: str, tmp_path: Path) -> None:
    """DDP sends every process the first one's weights, which it cannot do with torchao's tensors."""
    one = train(tmp_path / "one", kind, options=("run.valid_generate=0", "model.lora_dropout=0"))
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py")
    settings = train_options(tmp_path / "two", kind, "run.valid_generate=0", "model.lora_dropout=0")
    done = subprocess.run([*command, *settings], cwd=TRAINER, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [(next((tmp_path / name / "output").glob("*/log.txt"))).read_text().splitlines() for name in ("one", "two")]
    losses = [[r["loss"] for r in map(json.loads, log) if r.get("event") == "train"] for log in lines]
    assert len(losses[0]) == 2
    # The Q-Former's own dropout draws otherwise in each process.
    assert losses[1] == pytest.approx(losses[0], rel=0.2), one


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_weights_below(tmp_path: Path) -> None:
    folder = train(tmp_path / "whole", "int8")
    config = load_config(TRAINER / "configs/sample.yaml", [quantised("nf4")], purpose="train")
    assert not find_training_problems(config, offline=True)
    with pytest.raises(ConfigError, match=r"model\.quantize\.kind"):
        read_resumable(folder / "checkpoint_1.pth", config)


def test_a_checkpoint_of_other_weights_is_said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    data = torch.load(NANO / "salmonn.pth", weights_only=True)
    data["config"] = {"model": {"quantize": {"kind": "nf4", "parts": ["llm"]}}}
    torch.save(data, tmp_path / "s.pth")
    load_language_model(nano_config(f"model.ckpt={tmp_path / 's.pth'}"), "cpu")
    assert "was trained beside weights that were nf4, and they are none now" in caplog.text
