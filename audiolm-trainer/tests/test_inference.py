"""A loaded model: stop rules, special tokens, memory that runs out, laziness, and the package's three functions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import salmonn
from salmonn.decoding import GenerationSettings, until_stop
from salmonn.errors import ConfigError, PromptError
from salmonn.inference import LOOK_AHEAD_BATCHES, SalmonnLM, is_out_of_memory
from salmonn.model import SALMONN
from salmonn.prompts import PromptBook

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


def make_lm(model: SALMONN, *, batch_size: int = 4, end_sym: str = "<|end_of_text|>", **settings: Any) -> SalmonnLM:
    return SalmonnLM(
        model,
        prompts=PromptBook({"asr": ("<Speech><SpeechHere></Speech> Write.",)}, "USER: {}\nASSISTANT:"),
        settings=GenerationSettings(**{"max_new_tokens": 6, "num_beams": 1} | settings),
        end_sym=end_sym,
        batch_size=batch_size,
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


def test_until_stop() -> None:
    assert until_stop([5, 6, 2, 2], {2}) == [5, 6, 2]
    assert until_stop([5, 6], {2}) == [5, 6]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_EXHAUSTED)])
def test_a_batch_that_does_not_fit_is_halved(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: RuntimeError
) -> None:
    requests = make_requests(7)
    expected = sorted(make_lm(tiny).generate(requests))
    lm, sizes = make_lm(tiny, batch_size=7), []
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


def test_no_clip_is_lost_when_a_batch_in_the_middle_is_halved(tiny: SALMONN, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches of one look-ahead: those after the halved one are smaller, and still cover every clip."""
    requests = make_requests(17)
    expected = sorted(make_lm(tiny).generate(requests))
    encode = tiny.encode

    def encode_little(waves: Any) -> Any:
        if len(waves) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(waves)

    monkeypatch.setattr(tiny, "encode", encode_little)
    assert sorted(make_lm(tiny, batch_size=5).generate(requests)) == expected


def test_one_clip_that_does_not_fit_and_other_errors_are_raised(tiny: SALMONN, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(waves: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny, "encode", fail)
    with pytest.raises(torch.OutOfMemoryError):
        list(make_lm(tiny).generate(make_requests(3)))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_requests_are_pulled_lazily(tiny: SALMONN) -> None:
    pulled = 0

    def stream() -> Iterator[Request]:
        nonlocal pulled
        for request in make_requests(1) * 100:
            pulled += 1
            yield request

    next(make_lm(tiny, batch_size=2).generate(stream()))
    assert pulled == 2 * LOOK_AHEAD_BATCHES


def test_nothing_in_inference_requires_a_gradient(tiny: SALMONN) -> None:
    assert not any(parameter.requires_grad for parameter in tiny.parameters())
    assert not tiny.training


def test_a_task_without_a_prompt_is_named(tiny: SALMONN) -> None:
    with pytest.raises(PromptError, match="music"):
        list(make_lm(tiny).generate([make_requests(1)[0]._replace(task="music")]))


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


@pytest.mark.parametrize("beams", [1, 4])
def test_the_configuration_wins_over_the_language_models_own_settings(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    """Llama-3.2-Instruct's folder asks for sampling; the section `generate` decides."""
    expected = sorted(make_lm(tiny, num_beams=beams).generate(make_requests(4)))
    for name, value in {
        "do_sample": True, "temperature": 0.6, "top_p": 0.5, "repetition_penalty": 5.0, "length_penalty": -3.0,
        "max_length": 3, "num_beams": 2, "bos_token_id": 7, "pad_token_id": 9,
    }.items():  # fmt: skip
        monkeypatch.setattr(tiny.llm.generation_config, name, value)
    assert sorted(make_lm(tiny, num_beams=beams).generate(make_requests(4))) == expected
