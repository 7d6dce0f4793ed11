"""Tests of the text normalisation: tricky strings with what the original makes of them."""

import json
from pathlib import Path

import pytest

from evaluator.normalize import (
    caption_line,
    is_punctuation,
    spelling_map,
    wer_protocol,
    wer_words,
    whisper_english,
)

# (raw, what Whisper's English normaliser makes of it)
NORMALISED = [
    ("", ""),
    ("$0.50", "¢50"),
    ("St. John's", "saint john is"),
    ("Mr. Smith's colour, 20%!", "mister smith is color 20%"),
    ("one two three four", "1234"),
    ("twenty-one", "21"),
    ("1,000", "1000"),
    ("10 percent", "10%"),
    ("minus ten", "-10"),
    ("double oh seven", "007"),
    ("Dr. O'Neil", "doctor 0 neil"),
    ("it's 5 o'clock", "it is 50 clock"),
    ("Hmm, I'm gonna go", "i am going to go"),
    ("um, uh", ""),
    ("café", "cafe"),
    ("<|endoftext|> hello", "hello"),
    ("[noise] hi (laughs)", "hi"),
    ("kinda 'cause", "kinda cause"),  # a spelling map with four more rows would say otherwise
]


@pytest.mark.parametrize(("raw", "normalised"), NORMALISED)
def test_whisper_english(raw: str, normalised: str) -> None:
    assert whisper_english(raw).strip() == normalised


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("", ()),
        ("um, uh", ()),
        ("—", ()),
        ("… ok", ("ok",)),
        ("50%", ("50",)),
        ("$3", ("$", "3")),
        ("It costs $3, sir!", ("it", "costs", "$", "3", "sir")),
        ("3:15", ("3", "15")),
        ("well-known Colour\u2028GREY", ("well", "known", "color", "gray")),
        ("a\tb\nc\x1cd", ("a", "b", "c", "d")),
    ],
)
def test_wer_words(raw: str, words: tuple[str, ...]) -> None:
    assert wer_words(raw) == words


def test_normalising_twice_is_another_thing() -> None:
    assert wer_words("minus ten") == ("-10",)
    assert wer_words(" ".join(wer_words("minus ten"))) == ("10",)
    assert wer_words(" ".join(wer_words("double oh seven"))) == ("7",)


def test_korean_stays_words() -> None:
    assert len(wer_words("안녕하세요 세계")) == 2


def test_spelling_map() -> None:
    spellings = spelling_map()
    assert len(spellings) == 1739
    assert spellings["colour"] == "color"
    assert spellings["accessorise"] == "accessorize"
    assert not {"kinda", "sorta", "dunno", "cause"} & spellings.keys()


def test_the_spelling_map_says_where_it_is_from() -> None:
    folder = Path(__file__).resolve().parents[1] / "evaluator" / "data"
    assert json.loads((folder / "english_spelling.json").read_text(encoding="utf-8")) == spelling_map()
    note = (folder / "README.md").read_text(encoding="utf-8")
    assert "openai-whisper" in note
    assert "MIT" in note


@pytest.mark.parametrize(
    ("token", "expected"), [("--", True), ("!?", True), ("$", False), ("+", False), ("a.", False), ("’", True)]
)
def test_is_punctuation(token: str, *, expected: bool) -> None:
    assert is_punctuation(token) is expected


def test_the_protocol_names_its_versions() -> None:
    protocol = wer_protocol()
    assert protocol.startswith("whisper-en + 13a (")
    for name in ("transformers ", "sacrebleu ", "jiwer "):
        assert name in protocol


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("a  dog\u2028barks\n", "a dog barks"),
        ("\x00\x01a\x85b\u2029c\td\r\ne\x7f", "a b c d e"),
        ("\ud800x", "\ufffdx"),
        ("개가\u3000짖는다", "개가 짖는다"),
        ("   \t ", ""),
        ("", ""),
    ],
)
def test_caption_line(raw: str, line: str) -> None:
    assert caption_line(raw) == line
    assert len(line.splitlines()) <= 1
