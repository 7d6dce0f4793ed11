"""A loaded model: stop rules, special tokens, memory that runs out, laziness, and the package's three functions."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import salmonn
from salmonn.audio.loading import load_audio
from salmonn.config.config import from_mapping
from salmonn.decoding.transformers_decoding import GenerationSettings, until_stop
from salmonn.device import is_out_of_memory
from salmonn.errors import AudioError, ConfigError, PromptError, SalmonnError
from salmonn.inference.inference import LOOK_AHEAD_BATCHES, Answer, DecodingEngine, SalmonnLM, load_language_model
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import PromptBook

ROOT = Path(__file__).resolve().parents[2]
ENGINES: tuple[DecodingEngine, ...] = ("own", "transformers")
CPU_EXHAUSTED = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"


class Request(NamedTuple):
    index: int
    audio: NDArray[np.float32]
    task: str
    question: str


def make_requests(count: int) -> list[Request]:
    rng = np.random.default_rng(1)
    return [
        Request(i, (0.1 * rng.standard_normal(16_000 + 3_000 * i)).astype(np.float32), "asr", "") for i in range(count)
    ]


def make_lm(
    model: SALMONN,
    *,
    batch_size: int = 4,
    end_sym: str = "<|end_of_text|>",
    engine: DecodingEngine = "own",
    **settings: Any,
) -> SalmonnLM:
    return SalmonnLM(
        model,
        prompts=PromptBook({"asr": ("<Speech><SpeechHere></Speech> Write.",)}, "USER: {}\nASSISTANT:"),
        settings=GenerationSettings(**{"max_new_tokens": 6, "num_beams": 1} | settings),
        end_sym=end_sym,
        batch_size=batch_size,
        engine=engine,
        slots=batch_size,
    )


def test_special_tokens_are_removed_by_id_and_every_eos_ends_a_clip(tiny: SALMONN) -> None:
    lm = make_lm(tiny)
    ids = tiny.token_ids("one two")
    bos, end_of_text, end_of_turn = 400, 401, 402
    for stop in (end_of_text, end_of_turn):
        answer = lm._to_answer(3, [bos, *ids, stop, *ids])
        assert (answer.index, answer.text, answer.finish_reason) == (3, "one two", "stop")
    unfinished = lm._to_answer(0, [*ids, bos])
    assert (unfinished.text, unfinished.num_tokens, unfinished.finish_reason) == (
        "one two",
        len(ids) + 1,
        "length",
    )
    spelt = lm._to_answer(0, tiny.token_ids("a < b > c"))
    assert spelt.text == "a < b > c"


def test_a_token_that_only_the_files_mark_as_special_is_one(tiny: SALMONN, caplog: pytest.LogCaptureFixture) -> None:
    """`<|end_of_text|>` is neither bos nor eos of this tokenizer, and not among its all_special_ids."""
    assert 401 not in tiny.tokenizer.all_special_ids
    lm = make_lm(tiny)
    assert 401 in lm.special_ids
    assert "end_sym" not in caplog.text


def test_an_end_symbol_of_plain_text_is_cut_as_text_with_a_warning(
    tiny: SALMONN, caplog: pytest.LogCaptureFixture
) -> None:
    lm = make_lm(tiny, end_sym="</s>")
    assert "not one special token" in caplog.text
    answer = lm._to_answer(0, tiny.token_ids("one two</s> three"))
    assert (answer.text, answer.finish_reason) == ("one two", "stop")


@pytest.mark.parametrize("eos", [401, [401, 402]])
def test_one_eos_id_or_several(tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, eos: Any) -> None:
    monkeypatch.setattr(tiny.llm.generation_config, "eos_token_id", eos)
    assert make_lm(tiny).eos_ids == ([401] if eos == 401 else [401, 402])
    assert len(list(make_lm(tiny).generate(make_requests(2)))) == 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("beams", [1, 2])
def test_a_special_end_symbol_ends_decoding_though_it_is_no_eos(
    nano: SalmonnLM, monkeypatch: pytest.MonkeyPatch, engine: DecodingEngine, beams: int
) -> None:
    request = Request(0, load_audio(ROOT / "data/sample/asr/0000.flac", 16_000), "asr", "")
    settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": 40, "end_sym": "</s>"}
    usual = next(iter(make_lm(nano.model, engine=engine, **settings).generate([request])))
    monkeypatch.setattr(nano.model.llm.generation_config, "eos_token_id", 1)
    monkeypatch.setattr(nano.model.llm.config, "eos_token_id", 1)
    lm = make_lm(nano.model, engine=engine, **settings)
    assert next(iter(lm.generate([request]))) == usual
    assert usual.num_tokens < 20
    assert usual.finish_reason == "stop"
    *_, shown = lm.stream(request.audio, lm.prompts.prompt("asr"))
    assert shown == usual.text
    assert lm.settings.eos_token_id == [1, 2]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("beams", [1, 2])
def test_an_answer_has_at_least_the_tokens_that_are_asked_for(
    nano: SalmonnLM, engine: DecodingEngine, beams: int
) -> None:
    request = Request(0, load_audio(ROOT / "data/sample/asr/0000.flac", 16_000), "asr", "")
    settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": 25, "end_sym": "</s>"}
    lm = make_lm(nano.model, engine=engine, min_length=18, **settings)
    assert 18 <= next(iter(lm.generate([request]))).num_tokens <= 25
    shortest, usual = (make_lm(nano.model, engine=engine, min_length=n, **settings) for n in (0, 1))
    assert list(shortest.generate([request])) == list(usual.generate([request]))
    assert next(iter(usual.generate([request]))).num_tokens < 18


def test_a_tokenizer_whose_special_token_is_empty_has_no_id_for_it(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny.tokenizer), "all_special_ids", property(lambda _: [400, None]))
    assert make_lm(tiny).special_ids == {400, 401, 402}


def test_until_stop() -> None:
    assert until_stop([5, 6, 2, 2], {2}) == [5, 6, 2]
    assert until_stop([5, 6], {2}) == [5, 6]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_EXHAUSTED)])
def test_a_batch_that_does_not_fit_is_halved(
    tiny: SALMONN,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: RuntimeError,
    engine: DecodingEngine,
) -> None:
    requests = make_requests(7)
    expected = sorted(make_lm(tiny, engine=engine).generate(requests))
    lm, sizes = make_lm(tiny, batch_size=7, engine=engine), []
    encode = tiny.encode

    def encode_little(waves: Any) -> Any:
        sizes.append(len(waves))
        if len(waves) > 2:
            raise error
        return encode(waves)

    monkeypatch.setattr(tiny, "encode", encode_little)
    assert sorted(lm.generate(requests)) == expected
    assert sizes == [7, 4, 2, 2, 3, 2, 1]
    assert "does not fit into memory" in caplog.text


@pytest.mark.parametrize("engine", ENGINES)
def test_no_clip_is_lost_when_a_batch_in_the_middle_is_halved(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, engine: DecodingEngine
) -> None:
    """Several batches of one look-ahead: those after the halved one are smaller, and still cover every clip."""
    requests = make_requests(17)
    expected = sorted(make_lm(tiny).generate(requests))
    encode = tiny.encode

    def encode_little(waves: Any) -> Any:
        if len(waves) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(waves)

    monkeypatch.setattr(tiny, "encode", encode_little)
    assert sorted(make_lm(tiny, batch_size=5, engine=engine).generate(requests)) == expected


def test_encoding_and_decoding_are_halved_for_themselves(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two clips can be encoded at a time and one can be decoded: every clip is answered once, with the same text."""
    requests = make_requests(9)
    expected = sorted(make_lm(tiny, num_beams=2).generate(requests))
    lm = make_lm(tiny, num_beams=2)
    assert lm.decoder is not None
    encode, forward = tiny.encode, lm.decoder.llm.forward

    def encode_little(waves: Any) -> Any:
        if len(waves) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(waves)

    def step_little(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("input_ids") is not None and len(kwargs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(tiny, "encode", encode_little)
    monkeypatch.setattr(lm.decoder.llm, "forward", step_little)
    assert sorted(lm.generate(requests)) == expected
    assert (lm.batch_size, lm.decoder.slots) == (2, 1)
    assert "a batch of 4 clips" in caplog.text
    assert "4 clips at a time" in caplog.text


@pytest.mark.parametrize("engine", ENGINES)
def test_one_clip_that_does_not_fit_has_no_answer_and_the_others_have_theirs(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, engine: DecodingEngine
) -> None:
    requests = make_requests(7)
    expected = sorted(make_lm(tiny, engine=engine).generate(requests))
    longest = max(requests, key=lambda request: len(request.audio))
    encode = tiny.encode

    def encode_short(waves: Any) -> Any:
        if max(map(len, waves)) >= len(longest.audio):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(waves)

    monkeypatch.setattr(tiny, "encode", encode_short)
    lm = make_lm(tiny, batch_size=4, engine=engine)
    found = sorted(lm.generate(requests))
    failed = Answer(longest.index, "", 0, "error", "it does not fit into memory, even alone")
    assert found == sorted([failed, *(answer for answer in expected if answer.index != longest.index)])
    assert f"clip {longest.index} has no answer" in caplog.text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_fits_no_clip_is_an_error(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, engine: DecodingEngine
) -> None:
    def fail(waves: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny, "encode", fail)
    with pytest.raises(SalmonnError, match="20 clips did not fit into memory, each alone, and none did"):
        list(make_lm(tiny, engine=engine).generate(make_requests(25)))
    assert len(list(make_lm(tiny, engine=engine).generate(make_requests(2)))) == 2
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("engine", ENGINES)
def test_requests_are_pulled_lazily(tiny: SALMONN, engine: DecodingEngine) -> None:
    """No look-ahead is pulled before all clips of the earlier ones are answered or being decoded."""
    pulled = 0

    def stream() -> Iterator[Request]:
        nonlocal pulled
        for request in make_requests(1) * 36:
            pulled += 1
            yield request

    answers = make_lm(tiny, batch_size=2, engine=engine).generate(stream())
    assert pulled == 0
    for given, _ in enumerate(answers, start=1):
        assert pulled <= 2 * LOOK_AHEAD_BATCHES * (1 + (given + 1) // (2 * LOOK_AHEAD_BATCHES))
    assert (given, pulled) == (36, 36)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_source_that_fails_says_why(tiny: SALMONN, engine: DecodingEngine) -> None:
    def stream() -> Iterator[Request]:
        yield from make_requests(20)
        raise AudioError("clip 20 is broken")

    with pytest.raises(AudioError, match="clip 20 is broken"):
        list(make_lm(tiny, batch_size=2, engine=engine).generate(stream()))


@pytest.mark.parametrize("changes", [{"num_beams": 1}, {"num_beams": 4, "length_penalty": 2.0}])
def test_both_engines_give_the_same_answers(nano: SalmonnLM, changes: dict[str, Any]) -> None:
    """Real clips of both kinds in mixed batches, short and long answers, some cut at the limit."""
    sample = ROOT / "data/sample"
    requests = []
    for listing in ("asr", "aac"):
        rows = json.loads((sample / f"{listing}.json").read_text(encoding="utf-8"))["annotation"][::9]
        requests += [Request(0, load_audio(sample / row["path"]), row["task"], "") for row in rows]
    requests = [request._replace(index=index) for index, request in enumerate(requests)]
    settings = replace(nano.defaults, max_new_tokens=9, **changes)
    ours, theirs = (
        sorted(
            SalmonnLM(
                nano.model, prompts=nano.prompts, settings=settings, end_sym="</s>", batch_size=5, engine=engine
            ).generate(requests[::2] + requests[1::2])
        )
        for engine in ENGINES
    )
    assert ours == theirs
    assert len(ours) == len(requests) == 20
    assert {answer.finish_reason for answer in ours} == {"stop", "length"}


def test_sampling_follows_the_runs_seed(reference: Path, reference_sections: dict[str, Any]) -> None:
    def texts(seed: int, order: int) -> list[str]:
        sections = {
            **reference_sections,
            "generate": {"do_sample": True, "num_beams": 1, "max_new_tokens": 8, "temperature": 3.0, "top_p": 1.0},
            "run": {"seed": seed, "batch_size_eval": 3},
        }
        lm = load_language_model(from_mapping(sections, reference), "cpu")
        return [answer.text for answer in sorted(lm.generate(make_requests(5)[::order]))]

    assert texts(1, 1) == texts(1, -1) != texts(2, 1)


def test_a_model_that_the_decoder_refuses_is_named_with_the_way_out(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any clip; transformers answers with the same model."""
    model = build()
    monkeypatch.setattr(model.llm.get_base_model().config, "sliding_window", 8, raising=False)
    with pytest.raises(ConfigError) as caught:
        make_lm(model)
    assert "set generate.engine: transformers" in str(caught.value)
    assert "LlamaForCausalLM" in str(caught.value)
    assert len(list(make_lm(model, engine="transformers").generate(make_requests(2)))) == 2


def test_a_model_in_training_is_tried_without_dropout(build: Any) -> None:
    model = build(train=True, lora_dropout=0.5)
    before = {name: module.training for name, module in model.named_modules()}
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=10.0)
    assert make_lm(model).decoder is not None
    assert {name: module.training for name, module in model.named_modules()} == before
    assert any(before.values())


def test_the_decoder_keeps_nothing_of_the_weights(build: Any) -> None:
    """A model goes on learning between two validations."""
    model = build(train=True).eval()
    lm = make_lm(model)
    first = sorted(lm.generate(make_requests(3)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=2.0)
    second = sorted(lm.generate(make_requests(3)))
    assert second != first
    assert second == sorted(make_lm(model, engine="transformers").generate(make_requests(3)))


def test_nothing_in_inference_requires_a_gradient(tiny: SALMONN) -> None:
    assert not any(parameter.requires_grad for parameter in tiny.parameters())
    assert not tiny.training


@pytest.mark.parametrize("engine", ENGINES)
def test_a_task_without_a_prompt_is_named(tiny: SALMONN, engine: DecodingEngine) -> None:
    with pytest.raises(PromptError, match="music"):
        list(make_lm(tiny, engine=engine).generate([make_requests(1)[0]._replace(task="music")]))


def test_sampling_settings_reach_transformers() -> None:
    plain = GenerationSettings().for_transformers(eos_ids=[1], bos_id=0)
    assert (plain.num_beams, plain.max_new_tokens, plain.do_sample, plain.pad_token_id) == (4, 200, False, 1)
    sampled = GenerationSettings(do_sample=True, top_p=0.5, temperature=2.0).for_transformers(eos_ids=[1], bos_id=0)
    assert (sampled.top_p, sampled.temperature) == (0.5, 2.0)


def test_the_packages_functions(
    reference: Path, reference_sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reference)
    assert salmonn.check_config(reference_sections) == []
    assert salmonn.tasks(reference_sections) == {
        "asr": False,
        "audiocaption": False,
        "audiocaption_v2": False,
        "QA": True,
    }
    lm = salmonn.load_model(reference_sections, "cpu")
    assert lm.sampling_rate == 16_000
    answers = list(lm.generate([Request(7, np.zeros(1600, np.float32), "QA", "What?")]))
    assert [answer.index for answer in answers] == [7]
    assert isinstance(lm.answer(np.zeros(16_000, np.float32), "Braces {} and <SpeechHere> do no harm."), str)
    with pytest.raises(ConfigError, match="llama_pth"):
        salmonn.load_model({"model": {**reference_sections["model"], "llama_pth": "x"}}, "cpu")


def test_importing_the_package_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, salmonn; print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("beams", [1, 4])
def test_the_configuration_wins_over_the_language_models_own_settings(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, beams: int, engine: DecodingEngine
) -> None:
    """Llama-3.2-Instruct's folder asks for sampling; the section `generate` decides."""
    expected = sorted(make_lm(tiny, num_beams=beams, engine=engine).generate(make_requests(4)))
    for name, value in {
        "do_sample": True, "temperature": 0.6, "top_p": 0.5, "repetition_penalty": 5.0, "length_penalty": -3.0,
        "max_length": 3, "num_beams": 2, "bos_token_id": 7, "pad_token_id": 9,
    }.items():  # fmt: skip
        monkeypatch.setattr(tiny.llm.generation_config, name, value)
    assert sorted(make_lm(tiny, num_beams=beams, engine=engine).generate(make_requests(4))) == expected
