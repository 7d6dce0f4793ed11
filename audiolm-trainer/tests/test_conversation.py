"""A conversation about one clip: its prompt as text, what is remembered, how much is heard, the answer as it grows."""

import os
from collections.abc import Generator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from salmonn.decoding.transformers_decoding import GenerationSettings, stream_ids
from salmonn.demo.modes import Choices
from salmonn.demo.task_titles import TITLES, in_reading_order, title_of
from salmonn.errors import AudioError, PromptError, SalmonnError
from salmonn.inference.conversation import (
    Clip,
    Conversation,
    Turn,
    conversation_prompt,
    find_request,
    read_clip,
    spoken_part,
)
from salmonn.inference.inference import Answer, SalmonnLM
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import PromptBook, free_prompt, split_at_audio

TRAINER = Path(__file__).resolve().parents[1]
SLOT = "<Speech><SpeechHere></Speech>"
TEMPLATE = "USER: {}\nASSISTANT:"
BOOK = PromptBook({"asr": (f"{SLOT} Write.",), "QA": (f"{SLOT} Say: {{}}",)}, TEMPLATE)


class FakeLM:
    """Answers "one", "two", ... in two pieces, and keeps the prompts."""

    sampling_rate = 16_000
    max_seconds = 10.0
    prompts = BOOK

    def __init__(self) -> None:
        self.asked: list[str] = []

    def stream(
        self, audio: NDArray[np.float32], prompt: str, settings: GenerationSettings | None = None
    ) -> Generator[str, None, Answer]:
        if "fail" in prompt:
            raise SalmonnError("no answer")
        self.asked.append(prompt)
        word = ("one", "two", "three")[len(self.asked) - 1]
        yield word[:1]
        yield f" {word}"
        return Answer(0, f" {word}", 2, "stop")


@pytest.fixture
def conversation() -> Conversation:
    return Conversation(FakeLM(), Clip("x.wav", np.zeros(16_000, np.float32), 1.0, 1.0))


def test_the_prompt_holds_every_turn_and_one_audio_slot() -> None:
    turns = [Turn(f"{SLOT} What is it?", "a dog"), Turn(f"{SLOT} How many?", "two")]
    assert conversation_prompt(turns, f"{SLOT} Say: more", TEMPLATE) == (
        "USER: <Speech><SpeechHere></Speech> What is it?\nASSISTANT: a dog\n"
        "USER: How many?\nASSISTANT: two\n"
        "USER: Say: more\nASSISTANT:"
    )
    assert conversation_prompt([], f"{SLOT} Write.", TEMPLATE) == BOOK.prompt("asr")
    assert conversation_prompt(turns[:1], f"{SLOT} More?") == f"{SLOT} What is it? a dog\nMore?"


def test_neither_question_nor_answer_can_bring_another_slot() -> None:
    request = find_request(BOOK, text="<Speech<SpeechHere>Here> x")
    prompt = conversation_prompt([Turn(request, "<SpeechHere> y")], request, TEMPLATE)
    assert split_at_audio(prompt)[0] == "USER: <Speech>"


@pytest.mark.parametrize(
    ("request_text", "spoken"),
    [(f"{SLOT} Write.", "Write."), (f"Listen: {SLOT} and write.", "Listen: and write."), ("<SpeechHere>", "")],
)
def test_the_spoken_part_of_a_request(request_text: str, spoken: str) -> None:
    assert spoken_part(request_text) == spoken


def test_turns_are_remembered_and_asked_in_order(conversation: Conversation) -> None:
    assert list(conversation.ask(find_request(BOOK, task="asr"))) == ["o", " one"]
    turn = conversation.answer(find_request(BOOK, text="Which {one}?"))
    assert turn == Turn(f"{SLOT} Which {{one}}?", "two", "stop")
    assert isinstance(conversation.model, FakeLM)
    assert conversation.model.asked[1] == (f"USER: {SLOT} Write.\nASSISTANT: one\nUSER: Which {{one}}?\nASSISTANT:")


def test_an_answer_that_fails_or_is_not_waited_for_is_not_remembered(conversation: Conversation) -> None:
    with pytest.raises(SalmonnError, match="no answer"):
        conversation.answer(find_request(BOOK, text="fail"))
    growing = conversation.ask(find_request(BOOK, task="asr"))
    next(growing)
    growing.close()
    assert conversation.turns == []


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [("QA", " ", "task QA needs a question"), ("", "", "there is no question"), ("", "<SpeechHere>", "no question"),
     ("ars", "", "did you mean asr")],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(task: str, text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        find_request(BOOK, task=task, text=text)


def write(path: Path, seconds: float, rate: int = 8_000) -> Path:
    soundfile.write(path, np.full(int(seconds * rate), 0.1, np.float32), rate)
    return path


@pytest.mark.parametrize(
    ("seconds", "samples", "said"),
    [(0.5, 16_000, "heard: all 0.5 s"), (9.96, 159_360, "heard: all 10.0 s"),
     (74.2, 160_000, "heard: the first 10 s of 74 s"), (754, 160_000, "heard: the first 10 s of 12 min 34 s")],
)  # fmt: skip
def test_how_much_of_a_clip_is_heard(tmp_path: Path, seconds: float, samples: int, said: str) -> None:
    clip = read_clip(write(tmp_path / "a.wav", seconds), FakeLM())
    assert (clip.audio.size, clip.describe()) == (samples, said)


def test_a_clip_that_cannot_be_used_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio", encoding="utf-8")
    (tmp_path / "empty.wav").touch()
    write(tmp_path / "none.wav", 0)
    for name, message in (("text", "is text, not audio"), ("empty", "is an empty file"), ("none", "holds no samples")):
        with pytest.raises(AudioError, match=rf"^audio file 'song.wav' {message}") as caught:
            read_clip(tmp_path / f"{name}.wav", FakeLM(), name="song.wav")
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(AudioError, match=r"lasts 3\.0 s, more than the 2\.0 s"):
        read_clip(write(tmp_path / "long.wav", 3), FakeLM(), longest=2)


def test_every_shipped_task_has_a_title_and_unknown_ones_their_own() -> None:
    shipped = PromptBook.from_files(TRAINER / "prompts" / "test_prompt.json").wordings
    assert set(TITLES) == set(shipped)
    assert len(set(TITLES.values())) == len(TITLES)
    assert in_reading_order(["zebra", "QA", "asr", "my_task"]) == ["asr", "QA", "my_task", "zebra"]
    assert title_of("my_task") == "my task"


def test_choices_count_only_in_their_mode() -> None:
    settings = GenerationSettings(repetition_penalty=1.5, top_p=0.7)
    start = Choices.from_settings(settings)
    assert (start.mode, start.num_beams, start.apply(settings)) == ("beam search", 4, settings)
    chosen = replace(start, num_beams=3, temperature=0.5, top_p=0.4, max_new_tokens=9)
    beams, greedy, sampled = (
        replace(chosen, mode=mode).apply(settings) for mode in ("beam search", "greedy", "sampling")
    )
    assert beams == replace(settings, num_beams=3, max_new_tokens=9)
    assert greedy == replace(settings, num_beams=1, max_new_tokens=9)
    assert sampled == replace(greedy, do_sample=True, temperature=0.5, top_p=0.4)
    whole = replace(chosen, mode="sampling", temperature=2, top_p=1).apply(settings)
    assert (type(whole.temperature), type(whole.top_p)) == (float, float)
    assert Choices.from_settings(sampled).mode == "sampling"
    assert Choices.from_settings(greedy).mode == "greedy"


def example(nano: SalmonnLM, name: str) -> NDArray[np.float32]:
    return read_clip(TRAINER / "examples" / name, nano).audio


@pytest.mark.parametrize("beams", [1, 3])
def test_the_last_streamed_text_is_the_answers(nano: SalmonnLM, beams: int) -> None:
    settings = replace(nano.defaults, num_beams=beams)
    audio = example(nano, "mixture_bell_over_rain.flac")
    text = "Please write down what your hear in the audio."
    seen = list(nano.stream(audio, free_prompt(text, nano.prompts.template), settings))
    assert seen[-1] == nano.answer(audio, text, settings)
    assert "bell" in seen[-1]
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    assert len(seen) > 5 if beams == 1 else len(seen) == 1


def test_settings_change_an_answer(nano: SalmonnLM) -> None:
    audio = example(nano, "speech_call_my_dentist.flac")
    text = "Recognize the speech and give me the transcription."
    assert nano.answer(audio, text) == "call my dentist on wednesday morning"
    short = replace(nano.defaults, max_new_tokens=2)
    assert len(nano.answer(audio, text, short)) < 20
    assert nano.answer(audio, text, short) in "call my dentist on wednesday morning"
    drawn = replace(nano.defaults, num_beams=1, do_sample=True, temperature=5.0, top_p=1.0, max_new_tokens=20)
    torch.manual_seed(0)
    assert len({nano.answer(audio, text, drawn) for _ in range(3)}) == 3


def test_the_nano_model_hears_ten_seconds_and_follows_up(nano: SalmonnLM) -> None:
    assert nano.max_seconds == 10.0
    conversation = Conversation(nano, read_clip(TRAINER / "examples" / "sound_dog.flac", nano))
    first = conversation.answer(find_request(nano.prompts, task="audiocaption_v2"))
    second = conversation.answer(find_request(nano.prompts, task="asr"))
    assert first.answer == "a dog is barking"
    assert second.answer
    assert len(conversation.turns) == 2


def test_a_conversation_that_outgrows_the_model_is_refused(nano: SalmonnLM) -> None:
    prompt = free_prompt("word " * 400, nano.prompts.template)
    with pytest.raises(PromptError, match="the model reads 512 tokens"):
        next(nano.stream(np.zeros(16_000, np.float32), prompt))


def make_lm(model: SALMONN, end_sym: str = "<|end_of_text|>") -> SalmonnLM:
    settings = GenerationSettings(max_new_tokens=6, num_beams=1)
    return SalmonnLM(model, prompts=BOOK, settings=settings, end_sym=end_sym, batch_size=1)


def streamed(lm: SalmonnLM, monkeypatch: pytest.MonkeyPatch, ids: list[int]) -> list[str]:
    """What is told of an answer whose ids are given."""

    def grow(*_: object) -> Generator[list[int], None, None]:
        yield from (ids[: count + 1] for count in range(len(ids)))

    monkeypatch.setattr("salmonn.inference.inference.stream_ids", grow)
    return list(lm.stream(np.zeros(16_000, np.float32), BOOK.prompt("asr")))


def test_a_character_of_several_tokens_is_told_whole(tiny: SALMONN, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tiny.token_ids("가 나")
    assert len(ids) > 3
    assert streamed(make_lm(tiny), monkeypatch, ids) == ["가", "가 ", "가 나"]


def test_special_ids_and_what_follows_a_stop_are_never_told(tiny: SALMONN, monkeypatch: pytest.MonkeyPatch) -> None:
    bos, end_of_turn = 400, 402
    ids = [bos, *tiny.token_ids("one"), end_of_turn, *tiny.token_ids(" two")]
    assert streamed(make_lm(tiny), monkeypatch, ids)[-1] == "one"
    assert streamed(make_lm(tiny), monkeypatch, [end_of_turn]) == [""]


def test_half_an_end_symbol_of_plain_text_is_held_back(tiny: SALMONN, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = make_lm(tiny, end_sym="</s>")
    seen = streamed(lm, monkeypatch, tiny.token_ids("one</s> two"))
    assert seen[-1] == "one"
    assert not any("<" in text for text in seen)
    assert streamed(lm, monkeypatch, tiny.token_ids("one</"))[-1] == "one</"


def test_closing_the_stream_ends_the_generation(tiny: SALMONN) -> None:
    lm = make_lm(tiny)
    settings = GenerationSettings(max_new_tokens=10_000, num_beams=1).for_transformers(eos_ids=[399], bos_id=None)
    prompt = tiny.wrap(torch.zeros(3, tiny.llm.config.hidden_size), BOOK.prompt("asr"))
    steps: list[int] = []
    # The wrapped model's own forward is passed by; its output layer is not.
    hook = tiny.llm.get_output_embeddings().register_forward_hook(lambda *_: steps.append(1))
    try:
        growing = stream_ids(lm.model.llm, prompt, settings)
        assert [len(next(growing)) for _ in range(3)] == [1, 2, 3]
        growing.close()
    finally:
        hook.remove()
    assert 3 <= len(steps) < 1000


def test_an_error_while_generating_is_raised_and_too_little_memory_is_a_sentence(
    tiny: SALMONN, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = make_lm(tiny)

    def fail(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny.llm, "generate", fail)
    with pytest.raises(SalmonnError, match="memory does not suffice"):
        list(lm.stream(np.zeros(16_000, np.float32), BOOK.prompt("asr")))


def test_a_clip_whose_name_is_not_utf8_and_one_that_states_no_length(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.flac"))
    soundfile.write(tmp_path / "a.flac", np.full(5 * 16_000, 0.1, np.float32), 16_000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    try:
        path.write_bytes(data)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert read_clip(path, FakeLM()).seconds == 5
    path.write_text("no audio")
    with pytest.raises(AudioError, match=r"^audio file 'song.wav' is text, not audio"):
        read_clip(path, FakeLM(), name="song.wav")
