"""Tests of the text normalisation: tricky strings with what the original makes of them."""

import json
import sys
import unicodedata
from pathlib import Path
from random import Random

import pytest

from evaluator.errors import MetricUnavailableError
from evaluator.scoring import normalize
from evaluator.scoring.normalize import (
    caption_line,
    cer_text,
    is_punctuation,
    spelling_map,
    wer_words,
    whisper_english,
)
from evaluator.scoring.wer import character_errors

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


# (reference, hypothesis): the same characters
SAME = [
    ("今天天气很好，我们去公园。", "今天天气很好我们去公园"),
    ("「你好」、世界……", "你好 世界"),
    ("约翰·史密斯", "约翰史密斯"),
    ("我喜欢 Python 编程", "我喜欢Python编程"),
    ("2024 年 5 月", "２０２４年5月"),
    ("ﾊﾞｽ", "バス"),
    ("ไทย ครับ", "ไทยครับ"),
    ("བོད་སྐད", "བོདསྐད"),
    ("안녕하세요, 세계!", "안녕하세요 세계"),
    ("नमस्ते।", "नमस्ते"),
    ("كَتَبَ الولد؟", "كتب الولد"),
    ("العـــربية", "العربية"),
    ("שָׁלוֹם", "שלום"),
    ("می\u200cروم", "میروم"),
    ("ΟΔΟΣ", "οδος"),
    ("が\u3164く\ufe0f", "がく"),
    ("café", "cafe"),
]
# (reference, hypothesis): one letter is another one, or missing
ONE_OFF = [
    ("がくせい", "かくせい"),
    ("ばす", "ぱす"),
    ("कि", "की"),
    ("कमल", "किमल"),
    ("க", "கா"),
    ("กา", "กี"),
    ("ما", "مآ"),
    ("أنا", "انا"),
    ("мой", "мои"),
    ("ގެ", "ގ"),
    ("안녕 하세요", "안녕하세요"),
    ("a b", "ab"),
    ("𠮷野家", "吉野家"),
    ("\U000f0000が", "が"),  # a private character is not taken for a placeholder
]


@pytest.mark.parametrize(("reference", "hypothesis"), SAME)
def test_characters_that_are_the_same(reference: str, hypothesis: str) -> None:
    assert cer_text(reference) == cer_text(hypothesis) != ""
    assert "  " not in cer_text(reference)


@pytest.mark.parametrize(("reference", "hypothesis"), ONE_OFF)
def test_marks_that_make_another_letter(reference: str, hypothesis: str) -> None:
    assert character_errors([cer_text(reference)], [cer_text(hypothesis)]).total.edits == 1


@pytest.mark.parametrize("text", [text for pair in SAME + ONE_OFF for text in pair])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_form_of_unicode_makes_no_difference(text: str, form: str) -> None:
    assert cer_text(unicodedata.normalize(form, text)) == cer_text(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [raw for raw, _ in NORMALISED] + ["naïve Über-crème, n° 5 µm", "Łódź ʼn ﬁve ½ Ⅷ"])
def test_the_characters_of_english_are_those_of_its_words(raw: str) -> None:
    assert cer_text(raw) == unicodedata.normalize("NFC", " ".join(wer_words(raw)))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("1" * 5000, 1),
        (f"call {'9' * 5000} now", 3),
        ("0" * 5000, 1),
        ("one " * 5000 + "hundred", 1),
        ("three " * 4300 + "million", 1),
        (f"${'7' * 5000}.50", 1 + 1),
        ("\ud800 half \udfff", 3),
        ("(" * 2000 + "a", 1),
        ("\u0301" * 2000, 0),
    ],
)
def test_answers_that_loop_have_words(raw: str, words: int) -> None:
    limit = sys.get_int_max_str_digits()
    assert len(wer_words(raw)) == words
    assert len(cer_text(raw).split()) == words
    assert sys.get_int_max_str_digits() == limit


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


HOSTILE = """
and point oh double triple percent per cent half % $ € £ ¢ - + − 0 00 2 007 1,000 3.14 0.50 .5 5. 1/2 ½ ² ٣ １２ Ⅳ ① 1st
22nd 3rd 1960s '60s 1e5 won't can't let's ain't y'all wanna gotta i'ma woulda ma'am mr. st. dr jr esq 'd been 's got n't
're uh mhm [noise] <|en|> (laughs) [ ) < colour accessorise kinda dunno 'cause O'Neil e.g. ß ø İ ﬁ é 가 ガ 😀 cat Smith
A I
"""
BETWEEN = (" ", " ", " ", "", "-", ", ", ". ", "\n", "'", "/", "\u00a0")


def hostile_texts(number: int) -> list[str]:
    """Random texts of what the normaliser has rules for, run together in odd ways."""
    from whisper_normalizer.english import EnglishNumberNormalizer

    random = Random(1)
    characters = [chr(code) for code in (*range(0x20, 0x180), 0x301, 0x200B, 0xD800)]
    kinds = (sorted(EnglishNumberNormalizer().words), HOSTILE.split(), HOSTILE.split(), characters)

    def text() -> str:
        words = (random.choice(random.choice(kinds)) for _ in range(random.randrange(1, 12)))
        return "".join((word.upper() if random.random() < 0.1 else word) + random.choice(BETWEEN) for word in words)

    return [text() for _ in range(number)]


def test_every_text_is_normalised_as_transformers_does() -> None:
    """The numbers are those of the class that scored before, and that the original's numbers were found equal to."""
    english = pytest.importorskip("transformers.models.whisper.english_normalizer")
    known = english.EnglishTextNormalizer(spelling_map())
    data = Path(__file__).resolve().parents[1] / "data" / "sample"
    rows = [row for name in ("asr", "aac") for row in json.loads((data / f"{name}.json").read_text())["annotation"]]
    written = [text for row in rows for text in ([row["text"]] if isinstance(row["text"], str) else row["text"])]
    texts = [*written, *spelling_map(), *(raw for raw, _ in NORMALISED), *hostile_texts(4000)]
    assert len(set(texts)) > 5000
    assert [text for text in texts if whisper_english(text) != known(text)] == []


def test_a_package_with_other_rules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import whisper_normalizer.english

    class Other(whisper_normalizer.english.EnglishTextNormalizer):
        def __init__(self) -> None:
            super().__init__()
            del self.replacers[r"\bdunno\b"]

    monkeypatch.setattr(whisper_normalizer.english, "EnglishTextNormalizer", Other)
    normalize._normalizer.cache_clear()
    with pytest.raises(MetricUnavailableError, match=r"whisper-normalizer 0\.1\.15 has other rules") as caught:
        whisper_english("a")
    pinned = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"{caught.value.fix.removeprefix("pip install ")}"' in pinned
    normalize._normalizer.cache_clear()
