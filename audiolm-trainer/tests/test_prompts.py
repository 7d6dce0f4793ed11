"""The prompt book: filling, drawing, refusing; and the shipped books with the two strings that decide results."""

import json
import random
from pathlib import Path

import pytest

from salmonn.errors import PromptError
from salmonn.prompts import PromptBook, fill_template, free_prompt, split_at_audio

PROMPTS = Path(__file__).resolve().parents[1] / "prompts"
TEMPLATE = "USER: {}\nASSISTANT:"
SLOT = "<Speech><SpeechHere></Speech>"
TRAIN_ONLY = {"inference_QA", "gender_recognition"}
BOTH = {
    "asr", "asr_zh", "asr_de", "translation_ec", "audiocaption", "audiocaption_v2", "QA", "gender_QA",
    "phone_recognition", "speech_separation", "emotion_recognition", "music_description", "speaker_verification",
    "audio_story_telling", "speaker_diarization_asr",
}  # fmt: skip
TEST_ONLY = {
    "keywords", "lyrics_recognition", "slot_filling", "speech_query", "speech_audio_query",
    "speech_audio_coreasoning", "audio_speech_description", "fluent_speech_audio", "translation_en2ja",
    "translation_en2de",
}  # fmt: skip


@pytest.fixture
def book() -> PromptBook:
    return PromptBook({"asr": (f"{SLOT} Write.", f"{SLOT} Type."), "QA": (f"{SLOT} {{}}",)}, TEMPLATE)


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_prompt_is_filled_and_split_at_the_audio(book: PromptBook) -> None:
    prompt = book.prompt("asr")
    assert prompt == f"USER: {SLOT} Write.\nASSISTANT:"
    assert split_at_audio(prompt) == ("USER: <Speech>", "</Speech> Write.\nASSISTANT:")


@pytest.mark.parametrize("question", ["What {x} is {} it?", "100 % {0}", "{}"])
def test_braces_are_taken_literally(book: PromptBook, question: str) -> None:
    assert book.prompt("QA", question) == f"USER: {SLOT} {question}\nASSISTANT:"


def test_an_empty_template_leaves_the_prompt_alone() -> None:
    assert fill_template("", "Hello {}") == "Hello {}"
    assert fill_template("A {b} {} C", "x") == "A {b} x C"


def test_a_question_cannot_bring_a_second_audio_slot(book: PromptBook) -> None:
    assert book.prompt("QA", "Is <Speech<SpeechHere>Here> here?").count("<SpeechHere>") == 1
    assert split_at_audio(book.prompt("QA", "Is <SpeechHere> here?"))[1] == "</Speech> Is  here?\nASSISTANT:"
    assert split_at_audio(free_prompt("<SpeechHere>What?", TEMPLATE)) == (
        "USER: <Speech>",
        "</Speech> What?\nASSISTANT:",
    )


@pytest.mark.parametrize(
    ("task", "question", "message"),
    [
        ("QA", "", "needs a question"),
        ("QA", "  ", "needs a question"),
        ("ars", "", "did you mean asr"),
        ("x", "", "known: QA, asr"),
    ],
)
def test_what_cannot_be_asked_is_refused(book: PromptBook, task: str, question: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        book.prompt(task, question)


def test_tasks_say_which_need_a_question(book: PromptBook) -> None:
    assert book.tasks() == {"asr": False, "QA": True}


def test_drawing_follows_its_generator_and_reaches_every_wording(book: PromptBook) -> None:
    drawn = [book.draw("asr", random.Random(seed)) for seed in range(20)]
    assert drawn == [book.draw("asr", random.Random(seed)) for seed in range(20)]
    assert set(drawn) == {f"USER: {SLOT} Write.\nASSISTANT:", f"USER: {SLOT} Type.\nASSISTANT:"}


@pytest.mark.parametrize("order", [(f"{SLOT} Write.", f"{SLOT} {{}}"), (f"{SLOT} {{}}", f"{SLOT} Write.")])
def test_of_mixed_wordings_those_are_drawn_that_the_question_fits(order: tuple[str, ...]) -> None:
    book = PromptBook({"asr": order})
    assert book.tasks() == {"asr": False}
    assert {book.draw("asr", random.Random(seed)) for seed in range(20)} == {f"{SLOT} Write."}
    asked = {book.draw("asr", random.Random(seed), "Who?") for seed in range(20)}
    assert asked == {f"{SLOT} Write.", f"{SLOT} Who?"}
    assert book.prompt("asr") == f"{SLOT} Write."
    assert book.prompt("asr", "Who?") == order[0].replace("{}", "Who?")


def test_a_task_given_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(f'{{"asr": "{SLOT} a", "v2": "{SLOT} b", "asr": "{SLOT} c"}}', encoding="utf-8")
    with pytest.raises(PromptError, match=r"p\.json has tasks twice: asr; keep one"):
        PromptBook.from_files(path)
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(PromptError, match=r"p\.json cannot be read"):
        PromptBook.from_files(path)


def test_files_hold_one_wording_or_several(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"asr": ["no slot", f"{SLOT} a", f"{SLOT} b"], "v2": f"{SLOT} c"})
    assert PromptBook.from_files(path).wordings == {"asr": (f"{SLOT} a", f"{SLOT} b"), "v2": (f"{SLOT} c",)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"asr": ["no slot"], "b": 3, "c": f"{SLOT}{SLOT}"}, "for asr, b, c"),
        ([], "must be an object"),
        ({}, "at least one task"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        PromptBook.from_files(write(tmp_path / "p.json", data))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"none\.json"):
        PromptBook.from_files(tmp_path / "none.json")
    (tmp_path / "p.json").write_text("{", encoding="utf-8")
    with pytest.raises(PromptError, match="cannot be read"):
        PromptBook.from_files(tmp_path / "p.json")


@pytest.mark.parametrize("prompt", ["no slot", "<SpeechHere><SpeechHere>"])
def test_splitting_needs_the_slot_once(prompt: str) -> None:
    with pytest.raises(PromptError, match="exactly once"):
        split_at_audio(prompt)


def test_the_shipped_books_know_the_originals_tasks() -> None:
    train = PromptBook.from_files(PROMPTS / "train_prompt.json")
    test = PromptBook.from_files(PROMPTS / "test_prompt.json")
    assert set(train.wordings) == BOTH | TRAIN_ONLY
    # What a model was trained on can be asked: the original cannot ask what is TRAIN_ONLY.
    assert set(test.wordings) == BOTH | TRAIN_ONLY | TEST_ONLY
    assert all(len(entry) == 1 for entry in test.wordings.values())


@pytest.mark.parametrize("name", ["train_prompt.json", "test_prompt.json"])
def test_the_strings_that_decide_challenge_numbers(name: str) -> None:
    book = PromptBook.from_files(PROMPTS / name, TEMPLATE)
    expected = {
        "asr": "Recognize the speech and give me the transcription.",
        "audiocaption_v2": "Please write down what your hear in the audio.",
        "audiocaption": "Please describe the audio.",
    }
    for task, text in expected.items():
        assert book.prompt(task) == f"USER: {SLOT} {text}\nASSISTANT:"
    assert book.prompt("QA", "Why?") == f"USER: {SLOT} Why?\nASSISTANT:"
