"""The decoder as its users see it: what it pulls, yields, refuses, and that neighbours change nothing."""

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from salmonn.audio.loading import load_audio
from salmonn.decoding.attention import NAME, masked_kernels, shared_attention
from salmonn.decoding.decoder import Decoder, Execution
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.decoder_support import check_supported
from salmonn.decoding.transformers_decoding import GenerationSettings, generate_ids
from salmonn.errors import ConfigError
from salmonn.inference.inference import SalmonnLM
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import PromptBook

ROOT = Path(__file__).resolve().parents[2]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "initializer_range": 0.3,
}


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


@pytest.fixture(scope="module")
def prompts() -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(length, 32) for length in (3, 40, 7, 1, 12, 70, 5, 9, 33, 2)]


def settings(**changes: Any) -> DecoderSettings:
    return DecoderSettings(**({"eos_ids": (2, 7), "max_new_tokens": 40} | changes))


def answers(decoder: Decoder, prompts: list[Tensor], order: Any = None) -> dict[int, list[int]]:
    order = range(len(prompts)) if order is None else order
    return dict(decoder.decode((index, prompts[index]) for index in order))


@pytest.mark.parametrize("changes", [{"num_beams": 1}, {"num_beams": 4}, {"num_beams": 1, "do_sample": True}])
def test_neighbours_change_nothing(llm: LlamaForCausalLM, prompts: list[Tensor], changes: dict[str, Any]) -> None:
    """Any number of slots, any order, any grouping of prompts; for long prompts and answers the buffers grow."""
    changes = changes | {"eos_ids": (2,), "max_new_tokens": 36}
    alone = answers(Decoder(llm, settings(**changes), slots=1), prompts)
    assert len({len(ids) for ids in alone.values()}) > 2
    assert max(len(ids) for ids in alone.values()) == 36
    for slots, prefill, order in ((3, 1, range(9, -1, -1)), (4, 3, (5, 0, 9, 1, 8, 2, 7, 3, 6, 4)), (64, 64, None)):
        decoder = Decoder(llm, settings(**changes), slots=slots, execution=Execution(part=1, most=prefill))
        assert answers(decoder, prompts, order) == alone, (slots, prefill)


def test_prompts_are_pulled_when_a_slot_is_free(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    pulled: list[int] = []

    def source() -> Iterator[tuple[int, Tensor]]:
        for index, prompt in enumerate(prompts):
            pulled.append(index)
            yield index, prompt

    stream = Decoder(llm, settings(), slots=3).decode(source())
    assert not pulled
    for given in range(len(prompts)):
        next(stream)
        # Three at work and those already answered; the freed slots are filled when the next answer is asked for.
        assert len(pulled) <= given + 3
    assert next(stream, None) is None
    assert list(Decoder(llm, settings()).decode([])) == []


def test_a_run_given_up_leaves_nothing_behind(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    decoder = Decoder(llm, settings(), slots=3)
    expected = answers(decoder, prompts)
    stream = decoder.decode(enumerate(prompts))
    next(stream)
    stream.close()
    assert answers(decoder, prompts) == expected
    assert llm.config._attn_implementation == "sdpa"
    assert torch.is_grad_enabled()


def test_slots_that_do_not_fit_are_halved(
    llm: LlamaForCausalLM, prompts: list[Tensor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows of a step are limited to three; every clip is answered once, whether at work or still to come."""
    expected = answers(Decoder(llm, settings()), prompts)
    forward = llm.forward

    def limited(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("input_ids") is not None and len(kwargs["input_ids"]) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return forward(*args, **kwargs)

    decoder = Decoder(llm, settings(), slots=8)
    monkeypatch.setattr(llm, "forward", limited)
    found = list(decoder.decode(enumerate(prompts)))
    assert len(found) == len(prompts)
    assert dict(found) == expected
    assert decoder.slots == 2
    assert "8 clips at a time do not fit into memory: trying 4" in caplog.text


def test_a_clip_that_does_not_fit_alone_is_told_and_the_others_go_on(
    llm: LlamaForCausalLM, prompts: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(Decoder(llm, settings()), prompts)
    longest = max(range(len(prompts)), key=lambda index: prompts[index].shape[0])
    forward = llm.forward

    def limited(*args: Any, **kwargs: Any) -> Any:
        embeds = kwargs.get("inputs_embeds")
        if embeds is not None and embeds.shape[1] >= prompts[longest].shape[0]:
            raise torch.OutOfMemoryError("out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(llm, "forward", limited)
    unfit: list[int] = []
    found = dict(Decoder(llm, settings(), slots=4).decode(enumerate(prompts), unfit=unfit.append))
    assert unfit == [longest]
    assert found == {index: ids for index, ids in expected.items() if index != longest}


def test_errors_that_halving_does_not_mend(
    llm: LlamaForCausalLM, prompts: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot that does not fit, another error, and a source of prompts that fails: none is hidden or tried again."""

    def failing() -> Iterator[tuple[int, Tensor]]:
        yield 0, prompts[0]
        raise torch.OutOfMemoryError("out of memory in the source")

    with pytest.raises(torch.OutOfMemoryError, match="in the source"):
        list(Decoder(llm, settings(), slots=4).decode(failing()))
    one, four = Decoder(llm, settings(), slots=1), Decoder(llm, settings(), slots=4)

    def broken(message: str) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(message)

        return forward

    monkeypatch.setattr(llm, "forward", broken("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(RuntimeError, match="allocate"):
        list(one.decode(enumerate(prompts)))
    unfit: list[int] = []
    assert list(four.decode(enumerate(prompts), unfit=unfit.append)) == []
    assert unfit == list(range(len(prompts)))
    monkeypatch.setattr(llm, "forward", broken("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(four.decode(enumerate(prompts)))


def test_sampling_depends_on_seed_and_index_alone(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    def texts(seed: int) -> dict[int, list[int]]:
        decoder = Decoder(llm, settings(num_beams=1, do_sample=True, seed=seed))
        return dict(decoder.decode((index, prompts[0]) for index in range(20)))

    first, other = texts(0), texts(1)
    assert texts(0) == first
    assert sum(first[index] != other[index] for index in range(20)) > 15
    assert len({tuple(ids) for ids in first.values()}) > 15


@pytest.mark.parametrize(
    "changes",
    [{"num_beams": 1}, {"num_beams": 1, "temperature": 0.7, "top_k": 6, "top_p": 0.8}, {"num_beams": 3, "top_p": 0.9}],
)
def test_sampling_is_distributed_as_in_transformers(changes: dict[str, Any]) -> None:
    """Two tokens of an alphabet of five, 2,000 times each: the shares of all answers are equal up to chance."""
    torch.manual_seed(5)
    llm = LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": 8})).eval()
    prompt = torch.randn(4, 32)
    asked = {"max_new_tokens": 2, "do_sample": True, "top_k": 0} | changes
    config = GenerationConfig(**asked, eos_token_id=[2], pad_token_id=2)
    runs = 2000
    theirs = Counter(map(tuple, generate_ids(llm, [prompt] * runs, config)))
    decoder = Decoder(
        llm, DecoderSettings.from_transformers(config, llm), slots=500, execution=Execution(part=1, most=500)
    )
    ours = Counter(tuple(ids) for _, ids in decoder.decode((index, prompt) for index in range(runs)))
    assert len(theirs) > 3
    for answer in theirs | ours:
        share = (theirs[answer] + ours[answer]) / (2 * runs)
        deviation = (2 * share * (1 - share) / runs) ** 0.5
        assert abs(theirs[answer] - ours[answer]) / runs < 4.5 * deviation, answer


def test_ids_of_the_reference(tiny: SALMONN, reference: Path, expected: Any, arrays: Any) -> None:
    """All results of the original from its own audio tokens; the one that it marks as unstable is left out."""
    book = PromptBook.from_files(reference / "prompts/test.json", "USER: {}\nASSISTANT:")
    entries: dict[tuple[int, float], list[tuple[str, dict[str, Any]]]] = {}
    for name in expected["clips"]:
        for entry in expected["clips"][name]["generate"]:
            entries.setdefault((entry["num_beams"], entry["length_penalty"]), []).append((name, entry))
    equal = different = 0
    for (beams, penalty), group in entries.items():
        config = GenerationSettings(max_new_tokens=40, num_beams=beams, length_penalty=penalty).for_transformers(
            eos_ids=[401, 402], bos_id=400
        )
        with torch.no_grad():
            wrapped = [
                tiny.wrap(torch.from_numpy(arrays[f"{name}/projected"]), book.prompt(entry["task"]))
                for name, entry in group
            ]
        decoder = Decoder(tiny.llm, DecoderSettings.from_transformers(config, tiny.llm), slots=4)
        found = answers(decoder, wrapped)
        for place, (_, entry) in enumerate(group):
            equal += entry["stable"] and found[place] == entry["ids"]
            different += entry["stable"] and found[place] != entry["ids"]
    assert (equal, different) == (59, 0)


@pytest.mark.parametrize(("listing", "task"), [("asr.json", "asr"), ("aac.json", "audiocaption_v2")])
def test_ids_of_the_nano_model(nano: SalmonnLM, listing: str, task: str) -> None:
    rows = json.loads((ROOT / "data/sample" / listing).read_text(encoding="utf-8"))["annotation"][:8]
    waves = [load_audio(ROOT / "data/sample" / row["path"]) for row in rows]
    with torch.no_grad():
        speech = nano.model.embed(nano.model.encode(waves))
        wrapped = [nano.model.wrap(row, nano.prompts.prompt(task)) for row in speech]
    decoder = Decoder(nano.model.llm, DecoderSettings.from_transformers(nano.settings, nano.model.llm), slots=5)
    found = answers(decoder, wrapped)
    assert [found[index] for index in range(8)] == generate_ids(nano.model.llm, wrapped, nano.settings)


def test_the_penalty_counts_all_of_a_clips_tokens(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    """transformers skips as many generated tokens as a row has padding; the decoder agrees with it without padding."""
    config = GenerationSettings(max_new_tokens=30, num_beams=1, repetition_penalty=1.5).for_transformers(
        eos_ids=[2, 7], bos_id=None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        alone = [generate_ids(llm, [prompt], config)[0] for prompt in prompts]
    found = answers(Decoder(llm, DecoderSettings.from_transformers(config, llm), slots=4), prompts)
    assert [found[index] for index in range(len(prompts))] == alone


def test_the_models_own_attention_is_asked_where_it_is_not_sdpa(prompts: list[Tensor]) -> None:
    torch.manual_seed(1)
    eager = LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation="eager")).eval()
    with shared_attention(eager.config):
        assert eager.config._attn_implementation == "eager"
    config = GenerationSettings(max_new_tokens=20).for_transformers(eos_ids=[2], bos_id=None)
    found = answers(Decoder(eager, DecoderSettings.from_transformers(config, eager), slots=4), prompts)
    assert [found[index] for index in range(len(prompts))] == [generate_ids(eager, [p], config)[0] for p in prompts]


def test_a_pass_of_another_thread_keeps_its_mask(llm: LlamaForCausalLM) -> None:
    ids, mask = torch.tensor([[0, 5, 6, 7], [9, 5, 6, 7]]), torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    with torch.no_grad():
        expected = llm(input_ids=ids, attention_mask=mask).logits[:, 1:]
        with shared_attention(llm.config):
            assert llm.config._attn_implementation == NAME
            found = llm(input_ids=ids, attention_mask=mask).logits[:, 1:]
    assert torch.allclose(found, expected, atol=1e-5)


SLIDING = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)), "a sliding window of 8 tokens"),
        (lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES | SLIDING)), "sliding_attention"),
        (lambda: BloomForCausalLM(BloomConfig(hidden_size=32, n_head=4, n_layer=1, vocab_size=40)), "cannot run Bloom"),
        (lambda: MptForCausalLM(MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=40)), "differ from its own"),
        (lambda: T5ForConditionalGeneration(T5Config(d_model=8, d_ff=8, d_kv=4, num_layers=1)), "has an encoder"),
    ],
)
def test_models_that_are_refused(model: Any, words: str) -> None:
    torch.manual_seed(0)
    llm = model().eval()
    for parameter in llm.parameters():
        # Attention must matter enough to be seen in the logits.
        parameter.data *= 10.0 if parameter.dim() > 1 else 1.0
    with pytest.raises(ConfigError, match=words) as caught:
        check_supported(llm)
    assert "set generate.engine: transformers" in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        Qwen2ForCausalLM(Qwen2Config(**SIZES)),
        MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
        MistralForCausalLM(MistralConfig(**SIZES)),
    ],
)
def test_models_that_are_taken(model: Any) -> None:
    check_supported(model.eval())


@pytest.mark.parametrize("block", ["shared", "masked"])
def test_no_kernel_runs_that_misreads_an_unaligned_mask(llm: LlamaForCausalLM, block: str) -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with shared_attention(llm.config) if block == "shared" else masked_kernels():
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
