"""Text normalisation for word error rates: one raw transcript in, the words that are compared out.

The protocol is the original evaluator's: Whisper's English normaliser, sacrebleu's 13a tokeniser, tokens of
punctuation only dropped, lower case. It must be applied exactly once, to raw text: the normaliser is not
idempotent ("minus ten" -> "-10" -> "10").
"""

import functools
import json
import re
import unicodedata
from collections.abc import Callable
from importlib import metadata, resources
from typing import cast

PROTOCOL = "whisper-en + 13a"

_SURROGATES = re.compile("[\ud800-\udfff]")


def spelling_map() -> dict[str, str]:
    """British -> American spellings of Whisper's normaliser, 1739 entries: {"colour": "color", ...}.

    The data file is OpenAI's (MIT); `data/README.md` says where it is from.
    """
    text = (resources.files("evaluator") / "data" / "english_spelling.json").read_text(encoding="utf-8")
    return cast(dict[str, str], json.loads(text))


@functools.cache
def _normalizer() -> Callable[[str], str]:
    # Slow to import, and --help or the validator must not pay for it.
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    build: Callable[[dict[str, str]], Callable[[str], str]] = EnglishTextNormalizer
    return build(spelling_map())


@functools.cache
def _tokenizer_13a() -> Callable[[str], str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    build: Callable[[], Callable[[str], str]] = Tokenizer13a
    return build()


def whisper_english(text: str) -> str:
    """Normalise English as Whisper does: "Mr. Smith's colour, 20%!" -> "mister smith is color 20%"."""
    return _normalizer()(text)


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


def wer_protocol() -> str:
    """The protocol with the versions of what it is made of, for every place where a score is shown."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("transformers", "sacrebleu", "jiwer"))
    return f"{PROTOCOL} ({versions})"


def caption_line(text: str) -> str:
    """Make a caption one clean line for line-based tools: "a  dog\\u2028barks\\n" -> "a dog barks".

    Every run of Unicode white space (line separators too) becomes one space; control characters become
    spaces; a lone surrogate, which no encoding can write, becomes U+FFFD.
    """
    printable = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    return " ".join(_SURROGATES.sub("\ufffd", printable).split())
