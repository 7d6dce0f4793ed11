"""Text to token ids and back, as sentencepiece does it, whichever library reads the tokenizer's files.

transformers' fast tokenizers differ from sentencepiece in two places, and the released models were trained with the
latter: a space at a text's beginning is swallowed where a space is put in front, and one byte that is no part of a
character spoils the whole run of bytes it stands in.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LONGEST_CHARACTER = 4
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TokenText:
    """Reads and writes the tokens of one tokenizer.

    Args:
        tokenizer: a language model's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def ids(self, text: str) -> list[int]:
        """Tokenise without special tokens of the tokenizer's own adding; a space at the beginning counts."""
        if text.startswith(" ") and self._swallows_a_space:
            text = f" {text}"
        return self._plain_ids(text)

    def text(self, ids: Sequence[int]) -> str:
        """Write ids as text; of a run of single bytes each that belongs to no character is one U+FFFD.

        Example:
            "한국\\n" and two bytes of an unfinished character -> "한국\\n" and two replacement characters
        """
        decoder: Any = self._byte_decoder
        if decoder is not None:
            tokens = [str(token) for token in self._tokenizer.convert_ids_to_tokens(list(ids))]
            readable = [token for run in _runs(tokens) for token in run]
            if readable != tokens:
                return str(decoder.decode(readable))
        return str(self._tokenizer.decode(list(ids)))

    def _plain_ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _swallows_a_space(self) -> bool:
        """Whether a text's first space is taken for the one that is put in front of every text."""
        return self._plain_ids("a") == self._plain_ids(" a") != self._plain_ids("  a")

    @cached_property
    def _byte_decoder(self) -> Any:
        """The fast tokenizer's decoder where it joins single bytes to characters, else None."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        decoder = getattr(backend, "decoder", None)
        return decoder if decoder is not None and decoder.decode(["<0x41>", "<0x42>"]) == "AB" else None


def _runs(tokens: Sequence[str]) -> Iterator[list[str]]:
    """Yield the tokens in pieces, bytes that belong to no character replaced."""
    run: list[str] = []
    for token in tokens:
        if _BYTE.fullmatch(token):
            run.append(token)
            continue
        yield _readable(run)
        run = []
        yield [token]
    yield _readable(run)


def _readable(run: Sequence[str]) -> list[str]:
    """Replace the bytes of a run that belong to no character: ["<0x41>", "<0xED>"] -> ["<0x41>", U+FFFD]."""
    values = bytes(int(token[3:5], 16) for token in run)
    kept: list[str] = []
    while len(kept) < len(run):
        place = len(kept)
        length = _character_length(values[place : place + _LONGEST_CHARACTER])
        kept += run[place : place + length] if length else [_REPLACEMENT]
    return kept


def _character_length(values: bytes) -> int:
    """How many bytes the character has that these begin with, 0 where they begin with none."""
    for length in range(1, len(values) + 1):
        try:
            values[:length].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return length
    return 0
