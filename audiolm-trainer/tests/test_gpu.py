"""What only a GPU can show: CUDA graphs, streams, memory, and that nothing waits for the device."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_decoder_equality import Case, build_case, by_decoder, by_transformers
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn.audio.loading import load_audio
from salmonn.config.config import load_config
from salmonn.decoding.decoder import Decoder
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.memory_plan import plan_slots, slot_bytes
from salmonn.decoding.slots import Slots
from salmonn.decoding.step_graphs import cuda_recorder
from salmonn.decoding.token_search import Prompt
from salmonn.inference.inference import SalmonnLM, load_language_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

ROOT = Path(__file__).resolve().parents[2]
CASES = 60


class Asked(NamedTuple):
    index: int  # type: ignore[assignment]
    audio: NDArray[np.float32]
    task: str = "asr"
    question: str = ""


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """float32 as it is, not as TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def waiting_forbidden() -> Iterator[None]:
    """Make work that waits for the device an error, as far as PyTorch notices it."""
    with warnings.catch_warnings():
        # PyTorch says once that the mode is a prototype, after it has set it.
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "vocab_size": 4000}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, initializer_range=0.2)).eval().cuda()


@pytest.fixture(scope="module")
def prompts(llm: LlamaForCausalLM) -> list[Prompt]:
    torch.manual_seed(2)
    return [Prompt(index, torch.randn(90 + index % 7, 256, device="cuda")) for index in range(100)]


SETTINGS = DecoderSettings(eos_ids=(2, 7, 11), max_new_tokens=40, num_beams=4)


def nano(device: str, dtype: str = "float32") -> SalmonnLM:
    config = load_config(ROOT / "configs/salmonn_eval_config.yaml", [f"model.dtype={dtype}"])
    return load_language_model(config, device)


def sample_clips(number: int) -> list[Asked]:
    rows = json.loads((ROOT / "data/sample/asr.json").read_text(encoding="utf-8"))["annotation"][:number]
    return [Asked(index, load_audio(ROOT / "data/sample" / row["path"])) for index, row in enumerate(rows)]


@pytest.mark.parametrize("block", range(4))
def test_ids_equal_those_of_transformers_on_the_same_gpu(block: int) -> None:
    """In float32 and with CUDA graphs; a case whose two sides agree in float64 was a tie."""
    different = []
    for seed in range(CASES * block // 4, CASES * (block + 1) // 4):
        case = on_gpu(build_case(seed))
        if by_decoder(case) != by_transformers(case):
            exact = case._replace(llm=case.llm.double(), prompts=[prompt.double() for prompt in case.prompts])
            if by_decoder(exact) != by_transformers(exact):
                different.append(case.name)
    assert not different


def on_gpu(case: Case) -> Case:
    return case._replace(llm=case.llm.cuda(), prompts=[prompt.cuda() for prompt in case.prompts], is_recorded=False)


def test_steps_are_recorded_and_replayed(llm: LlamaForCausalLM, prompts: list[Prompt]) -> None:
    decoder = Decoder(llm, SETTINGS, slots=16)
    first = dict(decoder.decode(prompts))
    assert decoder._idle is not None
    assert 0 < len(decoder._idle.graphs._recorded) < 15
    assert dict(decoder.decode(prompts)) == first


def test_a_step_and_taking_prompts_in_wait_for_nothing(llm: LlamaForCausalLM, prompts: list[Prompt]) -> None:
    slots = Slots(llm, SETTINGS, slots=8, score_rule=None, record=cuda_recorder())
    with torch.no_grad():
        for steps in range(1, 4):
            # The first time plain, the second recorded, which waits once.
            slots.admit(0, prompts[:8], None)
            slots.step(slots.shape(rows=8, prompt=96, steps=steps), at_work=8, generators=None)
        with waiting_forbidden():
            slots.admit(0, prompts[:8], None)
            slots.step(slots.shape(rows=8, prompt=96, steps=1), at_work=8, generators=None)
            slots.move(7, 0)


def test_encoding_waits_for_nothing() -> None:
    lm = nano("cuda")
    clips = [lm_clip(lm, asked) for asked in sample_clips(6)]
    lm._embed(clips)
    with waiting_forbidden():
        lm._embed(clips)


def lm_clip(lm: SalmonnLM, asked: Asked) -> Any:
    return type("Clip", (), {"audio": asked.audio, "prompt": lm.prompts.prompt("asr", ""), "index": asked.index})()


def test_the_plan_holds(llm: LlamaForCausalLM, prompts: list[Prompt]) -> None:
    """What the slots allocate is no more than what was planned for them."""
    planned = plan_slots(llm, SETTINGS, prompt_length=96)
    assert planned == 64
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    list(Decoder(llm, SETTINGS).decode(prompts))
    taken = torch.cuda.max_memory_allocated() - before
    # Prompts of a group are computed beside the slots.
    assert taken < 64 * slot_bytes(llm, SETTINGS, prompt_length=96) + 2**28


def test_too_little_memory_loses_no_clip(llm: LlamaForCausalLM, prompts: list[Prompt]) -> None:
    expected = dict(Decoder(llm, SETTINGS, slots=2).decode(prompts))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_reserved() + 8 * slot_bytes(llm, SETTINGS, prompt_length=96)
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        decoder = Decoder(llm, SETTINGS, slots=64)
        found = dict(decoder.decode(prompts))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert decoder.slots is not None
    assert decoder.slots < 64
    assert sorted(found) == sorted(expected)


def test_the_nano_model_answers_as_on_the_cpu() -> None:
    """Features, encoders on their own stream, graphs: in float32 the texts are the CPU's."""
    clips = sample_clips(40)
    on_cpu = {answer.index: answer.text for answer in nano("cpu").generate(clips)}
    found = {answer.index: answer.text for answer in nano("cuda").generate(clips)}
    equal = sum(found[index] == text for index, text in on_cpu.items())
    assert equal >= 39, f"{equal} of 40 texts are equal"


def test_stages_wait_for_nothing_and_their_memory_is_counted() -> None:
    lm = nano("cuda")
    [asked] = sample_clips(1)
    stages = lm.probe().stages(asked)
    for stage in stages:
        stage.run()
    with waiting_forbidden():
        for stage in stages:
            stage.run()
    taken = {stage.name: lm.probe().activations(stage.run) for stage in stages}
    assert all(taken.values()), taken
    allocated = torch.cuda.memory_allocated()
    assert sum(stage.weights_bytes for stage in stages) < allocated


def test_the_nano_model_answers_in_bfloat16() -> None:
    """The default on a GPU. Rounding may turn a word of some clips; a kernel that misreads a mask breaks all."""
    clips = sample_clips(60)
    on_cpu = {answer.index: answer.text for answer in nano("cpu").generate(clips)}
    found = {answer.index: answer.text for answer in nano("cuda", "bfloat16").generate(clips)}
    equal = sum(found[index] == text for index, text in on_cpu.items())
    assert equal >= 54, f"{equal} of 60 texts are equal"
