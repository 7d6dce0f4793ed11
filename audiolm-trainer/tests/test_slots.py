"""The clips at work on the device: recorded steps, shapes that are rounded up, and slots that are used again."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorded_steps import recorded
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn.decoding.decoder import Decoder, Execution
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.kv_cache import StepShape
from salmonn.decoding.slots import Slots
from salmonn.decoding.token_search import Prompt


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 40}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, initializer_range=0.3)).eval()


@pytest.fixture(scope="module")
def prompts() -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(length, 32) for length in (3, 40, 7, 1, 12, 70, 5, 9, 33, 2)]


def settings(**changes: Any) -> DecoderSettings:
    return DecoderSettings(**({"eos_ids": (2,), "max_new_tokens": 70} | changes))


class CountingRecorder:
    """`recorded`, and how often what it gave was replayed."""

    def __init__(self) -> None:
        self.recordings = 0
        self.replays = 0

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        replay, result = recorded(work)
        self.recordings += 1

        def counted() -> None:
            self.replays += 1
            replay()

        return counted, result


@pytest.mark.parametrize("changes", [{"num_beams": 1}, {"num_beams": 3}, {"num_beams": 1, "do_sample": True}])
@pytest.mark.parametrize("behind", [0, 1, 2])
def test_recorded_steps_give_the_same_answers(
    llm: LlamaForCausalLM, prompts: list[Tensor], changes: dict[str, Any], behind: int
) -> None:
    """Shapes come back, buffers are made anew for a longer prompt, groups wait, slots are computed without a clip."""
    expected = dict(Decoder(llm, settings(**changes), slots=4).decode(enumerate(prompts)))
    recorder = CountingRecorder()
    decoder = Decoder(
        llm, settings(**changes), slots=6, execution=Execution(part=1, most=2, behind=behind, record=recorder)
    )
    assert dict(decoder.decode(enumerate(prompts))) == expected
    first = (recorder.recordings, recorder.replays)
    assert 1 < first[0] < 10
    assert first[1] > 5 * first[0]
    # Again, in the same memory, with what is recorded.
    assert dict(decoder.decode(enumerate(prompts))) == expected
    assert recorder.recordings <= first[0] + 6


def test_shapes_are_exact_without_a_recorder_and_few_with_one(llm: LlamaForCausalLM) -> None:
    exact = Slots(llm, settings(num_beams=2), slots=6, score_rule=None, record=None)
    assert exact.shape(rows=5, prompt=40, steps=3) == StepShape(5, 64 - 40, 64 + 6)
    rounded = Slots(llm, settings(num_beams=2), slots=6, score_rule=None, record=recorded)
    shapes = {
        rounded.shape(rows=rows, prompt=prompt, steps=steps)
        for rows in range(1, 7)
        for prompt in (33, 64)
        for steps in range(1, 71)
    }
    assert {shape.rows for shape in shapes} == {1, 2, 4, 6}
    assert {shape.first for shape in shapes} == {0}
    assert {shape.last for shape in shapes} == {64 + 2 * steps for steps in (32, 64, 70)}


class HostTensors(TorchDispatchMode):
    """Notes the operations that see a tensor that is not on the device "meta"."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors):
            self.seen.append(str(func))
        return result


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_step_touches_no_tensor_of_the_host(num_beams: int) -> None:
    """A device that holds no numbers stands for a GPU: asking it for one, or mixing it with the host, is an error."""
    with torch.device("meta"):
        config = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, vocab_size=40)
        llm = LlamaForCausalLM(config).eval().to(torch.bfloat16)
        prompts = [Prompt(index, torch.empty(length, 32, dtype=torch.bfloat16)) for index, length in enumerate((5, 9))]
    asked = settings(num_beams=num_beams, min_length=100, repetition_penalty=1.2)
    slots = Slots(llm, asked, slots=4, score_rule=None, record=None)
    with torch.no_grad(), HostTensors() as admitting:
        slots.admit(0, prompts, None)
    # Indices, lengths and shortest answers of the prompts, each one copy.
    assert len(admitting.seen) == 6
    with torch.no_grad(), HostTensors() as stepping:
        for steps in range(1, 4):
            slots.step(slots.shape(rows=2, prompt=9, steps=steps), at_work=2, generators=None)
        slots.move(1, 0)
        slots.retire(slice(1, 2))
    assert stepping.seen == []


@pytest.mark.parametrize("record", [None, recorded])
def test_a_clip_of_nan_does_not_harm_the_next_one_in_its_slot(
    llm: LlamaForCausalLM, prompts: list[Tensor], record: Any
) -> None:
    broken = torch.full((50, 32), torch.nan)
    decoder = Decoder(
        llm, settings(num_beams=2, max_new_tokens=8), slots=2, execution=Execution(part=4, most=4, record=record)
    )
    expected = dict(decoder.decode(enumerate(prompts)))
    stream = [(99, broken), (98, broken), *enumerate(prompts)]
    found = dict(decoder.decode(stream))
    assert {index: found[index] for index in expected} == expected


def test_memory_is_kept_between_streams_and_streams_at_once_have_their_own(
    llm: LlamaForCausalLM, prompts: list[Tensor]
) -> None:
    decoder = Decoder(llm, settings(num_beams=2), slots=3)
    expected = dict(decoder.decode(enumerate(prompts)))
    kept = decoder._idle
    one, other = decoder.decode(enumerate(prompts)), decoder.decode(enumerate(prompts))
    pairs = list(zip(one, other, strict=True))
    assert dict(pair[0] for pair in pairs) == dict(pair[1] for pair in pairs) == expected
    assert kept is not None
    assert decoder._idle is not None


def test_the_first_token_alone(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    decoder = Decoder(llm, settings(num_beams=1), slots=3)
    answers = dict(decoder.decode(enumerate(prompts)))
    assert [decoder.first_token(Prompt(index, prompt)) for index, prompt in enumerate(prompts)] == [
        answers[index][0] for index in range(len(prompts))
    ]
    # The slot that it used is free again.
    assert dict(decoder.decode(enumerate(prompts))) == answers


def test_prompts_are_taken_in_by_groups(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    """Two at a time, once two slots are free; the last one alone."""
    decoder = Decoder(llm, settings(num_beams=2, max_new_tokens=5), slots=4, execution=Execution(part=1, most=2))
    groups: list[int] = []
    admit = Slots.admit

    def counted(self: Slots, first: int, some: Any, generators: Any) -> None:
        groups.append(len(some))
        admit(self, first, some, generators)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slots, "admit", counted)
        found = dict(decoder.decode(enumerate(prompts[:9])))
    assert sorted(found) == list(range(9))
    assert groups == [2, 2, 2, 2, 1]
