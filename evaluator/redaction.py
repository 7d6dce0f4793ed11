"""Keeping access tokens out of everything that is shown or stored.

In: text, and the secrets known to this process. Out: the same text with every secret replaced by "***". What
looks like a Hugging Face token is masked even where nobody said that it is one.
"""

import logging
import os
import re
from typing import TextIO

MASK = "***"
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "OPENAI_API_KEY")
# Shorter values would mask pieces of ordinary words.
_SHORTEST_SECRET = 6
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{10,}")
_OF_PROCESS: set[str] = set()


def keep_secret(secret: str) -> None:
    """Have every redactor of this process mask a value that a model package has read; a short one is left alone."""
    if len(secret) >= _SHORTEST_SECRET:
        _OF_PROCESS.add(secret)


def mask_secrets(text: str) -> str:
    """Replace what looks like a Hugging Face token: "token hf_abcdefghijkl" -> "token ***"."""
    return _TOKEN.sub(MASK, text)


class Redactor:
    """Replaces secrets in text."""

    def __init__(self) -> None:
        """Know the secrets of the environment; further ones come with `add`."""
        self._secrets: set[str] = set()
        for name in TOKEN_VARIABLES:
            self.add(os.environ.get(name, ""))

    def add(self, secret: str) -> None:
        """Mask this value as well from now on; one of less than six characters is left alone."""
        if len(secret) >= _SHORTEST_SECRET:
            self._secrets.add(secret)

    def __call__(self, text: str) -> str:
        """Mask every secret: "token hf_abcdefghijkl" -> "token ***"."""
        for secret in sorted(self._secrets | _OF_PROCESS, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return mask_secrets(text)


class RedactingStream:
    """A text stream that masks what is written to it, line by line.

    It stands in for standard output and error while a model package runs, because what that prints is not
    ours.
    """

    def __init__(self, stream: TextIO, redact: Redactor) -> None:
        """Write to `stream`, masked."""
        self._stream = stream
        self._redact = redact

    def write(self, text: str) -> int:
        """Write the masked text; returns how much of the given text was taken, all of it."""
        self._stream.write(self._redact(text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class RedactingFormatter(logging.Formatter):
    """A log format that masks the finished line, tracebacks included."""

    def __init__(self, pattern: str, redact: Redactor) -> None:
        """Format as `pattern`, masked."""
        super().__init__(pattern)
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The line, masked."""
        return self._redact(super().format(record))
