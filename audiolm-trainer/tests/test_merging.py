"""The adapter merged into the language model: the sums, what is left of it, and what cannot be merged."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from salmonn.audio import loading as audio
from salmonn.config.config import find_problems, load_config
from salmonn.config.schema import Config
from salmonn.errors import CheckpointError, ConfigError
from salmonn.inference.inference import SalmonnLM, load_language_model
from salmonn.model.components import add_lora
from salmonn.model.figures import model_figures
from salmonn.model.lora_merge import merge_adapter
from salmonn.model.salmonn import SALMONN
from salmonn.weights.checkpoint import read_weights, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "audiolm-trainer/nano"
DECODE = ROOT / "audiolm-trainer/configs/nano/decode.yaml"
CLIPS = sorted((ROOT / "data/sample/asr").glob("*.flac"))[:3]
CPU = torch.device("cpu")


def merging(*options: str) -> Config:
    return load_config(DECODE, ("model.merge_lora=True", *options), purpose="evaluate")


@pytest.fixture(scope="module")
def merged() -> SalmonnLM:
    return load_language_model(merging(), "cpu")


def sums(llm: PreTrainedModel) -> dict[str, Tensor]:
    """The adapted weights of a wrapped model as float64 sums, by hand: name in the plain model -> sum."""
    state = llm.state_dict()
    scaling = llm.peft_config["default"].lora_alpha / llm.peft_config["default"].r  # type: ignore[union-attr]
    found = {}
    for name, down in state.items():
        if name.endswith(".lora_A.default.weight"):
            layer = name.removesuffix(".lora_A.default.weight")
            up, base = state[f"{layer}.lora_B.default.weight"], state[f"{layer}.base_layer.weight"]
            found[f"{layer.removeprefix('base_model.model.')}.weight"] = (
                base.double() + scaling * up.double() @ down.double()
            )
    return found


def test_the_merged_model_is_plain_and_holds_the_sums(merged: SalmonnLM, nano: SalmonnLM) -> None:
    llm = merged.model.llm
    assert type(llm) is LlamaForCausalLM
    assert not any("lora" in name for name, _ in llm.named_modules())
    assert not any(parameter.requires_grad for parameter in merged.model.parameters())
    expected = sums(nano.model.llm)
    assert len(expected) == 7 * llm.config.num_hidden_layers
    for name, parameter in llm.named_parameters():
        plain = nano.model.llm.get_base_model().get_parameter(name) if name not in expected else expected[name]
        torch.testing.assert_close(parameter.double(), plain.double(), rtol=0, atol=1e-6)


def test_texts_are_those_of_the_adapter_beside_it(merged: SalmonnLM, nano: SalmonnLM) -> None:
    for clip in CLIPS:
        wave = audio.load_audio(clip, 16000)
        assert merged.answer(wave, "transcribe") == nano.answer(wave, "transcribe")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sum_is_rounded_once_and_the_log_says_so(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    apart = SALMONN.from_config(load_config(DECODE, purpose="evaluate"), device=CPU, dtype=dtype)
    expected = sums(apart.llm)
    with caplog.at_level("INFO", logger="salmonn"):
        together = SALMONN.from_config(merging(), device=CPU, dtype=dtype)
    merged = {name: parameter for name, parameter in together.llm.named_parameters() if name in expected}
    assert {parameter.dtype for parameter in together.llm.parameters()} == {dtype}
    off = sum(int((tensor != expected[name].to(dtype)).sum()) for name, tensor in merged.items())
    base = apart.llm.get_base_model().state_dict()
    twice = 0
    for name, exact in expected.items():
        weight = base[name.replace(".weight", ".base_layer.weight")]
        twice += int((weight + (exact - weight).to(dtype) != exact.to(dtype)).sum())
    # A float32 sum can fall on another side of a tie than the exact one, which is rare. Rounding twice is not.
    assert off < 1e-3 * sum(tensor.numel() for tensor in merged.values())
    assert twice > 10 * off
    assert f"rounded to {str(dtype).removeprefix('torch.')}, and answers may differ" in caplog.text


def test_float32_says_that_only_rounding_differs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="salmonn"):
        SALMONN.from_config(merging(), device=CPU, dtype=torch.float32)
    assert "into 21 layers: answers are those of the adapter beside it up to rounding" in caplog.text


def test_a_merged_model_has_no_checkpoint_and_still_counts_it(merged: SalmonnLM, nano: SalmonnLM) -> None:
    with pytest.raises(CheckpointError, match=r"set model\.merge_lora to False"):
        merged.model.trained_state_dict()
    wave, prompt = audio.load_audio(CLIPS[0], 16000), nano.prompts.prompt("asr", "")
    ours, theirs = (model_figures(lm.model, wave, prompt) for lm in (merged, nano))
    adapter = sum(p.numel() for name, p in nano.model.llm.named_parameters() if ".lora_" in name)
    assert ours["parameters_trained"] == theirs["parameters_trained"]
    assert ours["parameters_merged"] == adapter
    assert ours["parameters_total"] == theirs["parameters_total"] - adapter
    assert "parameters_merged" not in theirs
    # Two small products a layer less.
    assert ours["macs_token"] < theirs["macs_token"]


def test_what_merging_is_not_for() -> None:
    found = dict(find_problems({"model": {"merge_lora": True, "lora": False}}, purpose="evaluate"))
    assert "there is no adapter to merge" in found["model.merge_lora"]
    assert (
        "cannot be trained" in dict(find_problems({"model": {"merge_lora": True}}, purpose="train"))["model.merge_lora"]
    )
    with pytest.raises(ConfigError, match="cannot be trained"):
        SALMONN.from_config(merging(), device=CPU, dtype=torch.float32, train=True)


def test_an_adapter_of_another_alpha_is_not_merged(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    tensors = read_weights(NANO / "salmonn.pth")["model"]
    save_checkpoint(path, tensors, config={"model": {"lora_alpha": 64}})
    options = (f"model.ckpt={json.dumps(str(path))}", "model.lora_alpha=8")
    with pytest.raises(CheckpointError, match=r"model\.lora_alpha: 64 in the file, 8 in the configuration"):
        SALMONN.from_config(merging(*options), device=CPU, dtype=torch.float32)


def test_a_sum_that_the_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in read_weights(NANO / "salmonn.pth")["model"].items()}
    for name, tensor in tensors.items():
        if ".lora_" in name:
            tensor.mul_(3000.0)
    save_checkpoint(tmp_path / "c.pth", tensors)
    options = (f"model.ckpt={json.dumps(str(tmp_path / 'c.pth'))}",)
    SALMONN.from_config(merging(*options), device=CPU, dtype=torch.float32)
    with pytest.raises(CheckpointError, match=r"not finite in torch\.float16: keep the adapter beside"):
        SALMONN.from_config(merging(*options), device=CPU, dtype=torch.float16)


@pytest.mark.parametrize(("target", "message"), [("lm_head", "shared by"), ("embed_tokens", "into a Embedding")])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_weight_that_belongs_to_two_layers_is_refused(target: str, message: str) -> None:
    sizes = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32,
        tie_word_embeddings=True,
    )  # fmt: skip
    llm = LlamaForCausalLM(sizes)
    before = llm.model.embed_tokens.weight.clone()
    wrapped = add_lora(llm, LoraConfig(r=2, lora_alpha=2, target_modules=[target], task_type="CAUSAL_LM"))
    with pytest.raises(CheckpointError, match=message):
        merge_adapter(wrapped)
    assert torch.equal(llm.get_input_embeddings().weight, before)
