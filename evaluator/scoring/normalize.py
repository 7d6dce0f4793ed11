"""Text normalisation for error rates: one raw transcript in, the words and the characters that are compared out.

The protocol is the original evaluator's: Whisper's English normaliser, sacrebleu's 13a tokeniser, tokens of
punctuation only dropped, lower case. It must be applied exactly once, to raw text: the normaliser is not
idempotent ("minus ten" -> "-10" -> "10").
"""

import contextlib
import functools
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from typing import cast

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.protocols.other_scripts import set_aside, without_unwritten_spaces

_PACKAGE, _KNOWN_VERSION = "whisper-normalizer", "0.1.15"
_NOT_WHISPERS = ("kinda", "sorta", "dunno", "cause")
"""What the package writes out besides what Whisper's own normaliser does."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def spelling_map() -> dict[str, str]:
    """British -> American spellings of Whisper's normaliser, 1739 entries: {"colour": "color", ...}.

    The data file is OpenAI's (MIT); `data/README.md` says where it is from.
    """
    text = (resources.files("evaluator") / "data" / "english_spelling.json").read_text(encoding="utf-8")
    return cast(dict[str, str], json.loads(text))


@functools.cache
def _normalizer() -> Callable[[str], str]:
    # Here, so that --help and the validator need not have it.
    from whisper_normalizer.english import EnglishTextNormalizer

    normalizer = EnglishTextNormalizer()
    for phrase in _NOT_WHISPERS:
        if normalizer.replacers.pop(rf"\b{phrase}\b", None) is None:
            fix = f"pip install {_PACKAGE}=={_KNOWN_VERSION}"
            raise MetricUnavailableError(f"{_PACKAGE} {metadata.version(_PACKAGE)} has other rules", fix=fix)
    normalizer.standardize_spellings.mapping = spelling_map()
    return cast(Callable[[str], str], normalizer)


@functools.cache
def _tokenizer_13a() -> Callable[[str], str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    build: Callable[[], Callable[[str], str]] = Tokenizer13a
    return build()


def whisper_english(text: str) -> str:
    """Normalise English as Whisper does: "Mr. Smith's colour, 20%!" -> "mister smith is color 20%"."""
    with _numbers_of_any_length():
        return _normalizer()(text)


@contextlib.contextmanager
def _numbers_of_any_length() -> Iterator[None]:
    """Let numbers of more than 4300 digits be read: the normaliser reads every number, and an answer may loop."""
    if not hasattr(sys, "set_int_max_str_digits"):  # Python below 3.10.7 reads them
        yield
        return
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


def is_punctuation(token: str) -> bool:
    """Whether every character of a token has a Unicode category P: "--" does, "$" (a symbol) does not."""
    return all(unicodedata.category(character).startswith("P") for character in token)


# References are normalised again for every metric and every model that is scored; 2 ms each.
@functools.lru_cache(maxsize=1 << 16)
def wer_words(text: str) -> tuple[str, ...]:
    """The words of a raw transcript: "It costs $3, sir!" -> ("it", "costs", "$", "3", "sir").

    Args:
        text: raw text; not yet normalised by anything.

    Returns:
        tuple[str, ...]: words without white space in them; empty for text that says nothing ("um, uh").
    """
    tokens = _tokenizer_13a()(whisper_english(text)).split()
    kept = (token for token in tokens if not is_punctuation(token))
    return tuple(" ".join(kept).lower().split())


@functools.lru_cache(maxsize=1 << 16)
def cer_text(text: str) -> str:
    """The characters of a raw transcript: those of `wer_words`, joined by one space, as far as the script is Latin.

    Other scripts keep their marks, which the English normaliser strips although they make other letters, and no space
    counts beside letters of a script that writes none.

    Args:
        text: raw text; not yet normalised by anything.

    Returns:
        str: NFC; "" for text that says nothing.

    Example:
        "It's 3!" -> "it is 3"; "がくせい。" -> "がくせい" ("かくせい" as words); "你好,世界" -> "你好世界".
    """
    plain, letters = set_aside(text)
    words = " ".join(wer_words(plain)).translate(letters)
    return without_unwritten_spaces(unicodedata.normalize("NFC", words))


def caption_line(text: str) -> str:
    """Make a caption one clean line for line-based tools: "a  dog\\u2028barks\\n" -> "a dog barks".

    Every run of Unicode white space (line separators too) becomes one space; control characters become
    spaces; a lone surrogate, which no encoding can write, becomes U+FFFD.
    """
    printable = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    return " ".join(_SURROGATES.sub("\ufffd", printable).split())
