"""The memory estimate: its terms against the tensors that PyTorch really saves, counts against a real model's."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.config.config import from_mapping, load_config
from salmonn.config.schema import Config
from salmonn.decoding.decoder_support import without_adapter
from salmonn.frontend.features import FrontEnd
from salmonn.model.beats import BEATs, BEATsConfig
from salmonn.model.components import add_lora, qformer_config
from salmonn.model.meta import KNOWN_LLMS, KNOWN_WHISPERS, build_meta_model
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import Encoded, SpeechEncoder, Windows
from salmonn.model.tiny import byte_tokenizer
from salmonn.planning.memory_estimate import (
    BatchPlan,
    MemoryEstimate,
    audio_tokens,
    count_parameters,
    estimate_memory,
    gigabytes,
)

TRAINER = Path(__file__).resolve().parents[1]
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def saved_bytes(compute: Callable[[], Tensor], parameters: Iterable[nn.Parameter]) -> int:
    """Bytes of the distinct storages that a forward pass keeps for its backward pass, parameters left out."""
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    storages: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(tensor)
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(storages.values())


def middling_model(targets: list[str]) -> SALMONN:
    """A random model that is large enough for its small tensors not to matter."""
    tokenizer = byte_tokenizer("</s>")
    llm = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=256,
            intermediate_size=700,
            num_hidden_layers=3,
            num_attention_heads=8,
            num_key_value_heads=2,
            vocab_size=2000,
        )
    ).requires_grad_(False)
    sizes = qformer_config("", encoder_width=384)
    sizes.update({"hidden_size": 192, "num_attention_heads": 4, "intermediate_size": 768})
    beats = BEATsConfig(
        input_patch_size=16, embed_dim=16, encoder_layers=1, encoder_embed_dim=128, encoder_ffn_embed_dim=16,
        encoder_attention_heads=1, conv_pos=16, conv_pos_groups=4,
    )  # fmt: skip
    encoder = SpeechEncoder(
        front_end=FrontEnd(WhisperFeatureExtractor(), patch_frames=16),  # type: ignore[no-untyped-call]
        whisper=WhisperEncoder(
            WhisperConfig(d_model=256, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=64)
        ),
        beats=BEATs(beats),
        qformer_config=sizes,
        num_queries=1,
        windows=Windows(17, 17),
        output_width=256,
    )
    return SALMONN(
        speech_encoder=encoder,
        llm=add_lora(
            llm, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
        ),
        tokenizer=tokenizer,
        end_sym="</s>",
        max_txt_len=200,
    )


@pytest.mark.parametrize("targets", [MODULES[:1] + MODULES[2:3], MODULES, []])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_what_pytorch_saves(targets: list[str], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = middling_model(targets or MODULES).train()
    if not targets:
        # No adapter: the language model is trained itself.
        model.llm = without_adapter(model.llm).requires_grad_(True)
        model.llm_in_checkpoint = True
    target = "x" * 99
    prompt = "<SpeechHere>" + "y" * 40
    encoded = Encoded(torch.randn(2, 1500, 256), torch.randn(2, 1496, 128), torch.tensor([1496, 1496]))

    def forward() -> Tensor:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            return model.loss(model.embed(encoded), [prompt] * 2, [target] * 2).loss

    counts = count_parameters(model, freeze_qformer=False, freeze_projection=False)
    plan = BatchPlan(
        batch_size=2,
        audio_seconds=30.0,
        prompt_tokens=41,
        target_tokens=100,
        weights_dtype=torch.bfloat16,  # keeps the encoders' working set, which is not counted here, the smaller one
        compute_dtype=dtype,
        on_gpu=False,
    )
    estimated = estimate_memory(model, counts, plan).activations
    # The logits' gradient exists in the backward pass only, so the saved tensors are fewer than the peak.
    assert 0.7 < saved_bytes(forward, model.parameters()) / estimated < 1.05


@pytest.mark.parametrize("freeze_llm", [True, False])
def test_counts_are_those_of_the_loaded_model(freeze_llm: bool) -> None:
    config = load_config(TRAINER / "configs/nano/decode.yaml", purpose="answer")
    changes = {"freeze_speech_QFormer": True} | ({} if freeze_llm else {"freeze_llm": False, "lora": False, "ckpt": ""})
    changed = config.model_copy(update={"model": config.model.model_copy(update=changes)})
    real = SALMONN.from_config(changed, device=torch.device("cpu"), dtype=torch.float32, train=True)
    shape = build_meta_model(changed, offline=True)
    shape.llm_in_checkpoint = not freeze_llm
    counts = count_parameters(shape, freeze_qformer=True, freeze_projection=False)
    assert counts.trainable == sum(p.numel() for p in real.trainable_parameters().values())
    assert counts.trained_part == sum(t.numel() for t in real.trained_state_dict().values())
    assert counts.frozen + counts.trained_part == sum(p.numel() for p in real.parameters())
    assert {name: tensor.shape for name, tensor in shape.trained_state_dict().items()} == {
        name: tensor.shape for name, tensor in real.trained_state_dict().items()
    }
    assert all(parameter.is_meta for parameter in shape.parameters())


def full_size(llama: str, whisper: str = "openai/whisper-large-v2") -> Config:
    model = {"llama_path": llama, "whisper_path": whisper, "prompt_path": str(TRAINER / "prompts/train_prompt.json")}
    config = from_mapping({"model": model}, purpose="dryrun")
    return config.model_copy(update={"model": config.model.model_copy(update={"beats_path": "not here.pt"})})


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", 1235.8),
        ("meta-llama/Llama-3.2-3B-Instruct", 3212.7),
        ("lmsys/vicuna-7b-v1.5", 6738.4),
        ("lmsys/vicuna-13b-v1.1", 13015.9),
    ],
)
def test_known_language_models_have_their_published_sizes(name: str, millions: float) -> None:
    model = build_meta_model(full_size(name), offline=True)
    base = sum(p.numel() for n, p in model.llm.named_parameters() if ".lora_" not in n)
    assert base / 1e6 == pytest.approx(millions, abs=0.06)
    assert audio_tokens(model) == 88


def test_every_known_part_can_be_built() -> None:
    assert len(KNOWN_LLMS) >= 10
    for whisper in KNOWN_WHISPERS:
        model = build_meta_model(full_size("meta-llama/Llama-3.2-1B", whisper), offline=True)
        assert model.speech_encoder.whisper.config.d_model == KNOWN_WHISPERS[whisper][0]


def test_twice_the_batch_takes_twice_the_activations_and_nothing_else() -> None:
    model = build_meta_model(full_size("meta-llama/Llama-3.2-3B-Instruct"), offline=True)
    counts = count_parameters(model, freeze_qformer=False, freeze_projection=False)
    one, two = (
        estimate_memory(
            model,
            counts,
            BatchPlan(
                batch_size=size,
                audio_seconds=30.0,
                prompt_tokens=30,
                target_tokens=100,
                weights_dtype=torch.bfloat16,
                compute_dtype=torch.bfloat16,
                on_gpu=True,
            ),
        )
        for size in (1, 2)
    )
    assert two.activations == 2 * one.activations
    assert two.total - one.total == one.activations
    assert one.gradients * 2 == one.optimizer


def test_sizes_read_at_a_glance() -> None:
    assert [gigabytes(size) for size in (12_340_000_000, 250_000_000, 3_000_000)] == ["12.3", "0.25", "0.003"]
    estimate = MemoryEstimate(
        frozen_weights=7_000_000_000, trained_weights=100_000_000, gradients=100_000_000, optimizer=200_000_000,
        activations=2_600_000_000,
    )  # fmt: skip
    assert estimate.line() == "10.0 GB: weights 7.1, gradients 0.10, AdamW 0.20, activations 2.6"
