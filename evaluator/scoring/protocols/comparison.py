"""How each protocol compares a set: raw references and hypotheses in, counts of errors out.

One function for each way; table.py says which protocol takes which. The texts are normalised here,
once.
"""

import re
from collections.abc import Sequence

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.normalize import cer_text, wer_words, whisper_english
from evaluator.scoring.protocols.basic_text import basic_text, basic_words, unspaced_text
from evaluator.scoring.protocols.korean import spaced_as
from evaluator.scoring.wer import ErrorRate, aligned_characters, character_errors, word_errors

_SURROGATES = re.compile("[\ud800-\udfff]")


def challenge_words(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Words of Whisper's English normaliser and 13a; hypotheses lower-cased first, as the original does."""
    return word_errors([wer_words(text) for text in references], [wer_words(text.lower()) for text in hypotheses])


def challenge_characters(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Characters of the same words; letters of other scripts keep their marks."""
    return character_errors([cer_text(text) for text in references], [cer_text(text.lower()) for text in hypotheses])


def open_asr_words(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Words of Whisper's English normaliser; neighbouring words that make one of the other side are no error.

    Raises:
        MetricUnavailableError: kaldialign is not installed.
    """
    try:
        from kaldialign import edit_distance
    except ModuleNotFoundError as error:
        fix = "install it: pip install kaldialign==0.12"
        raise MetricUnavailableError("open-asr compares with kaldialign, which is not installed", fix=fix) from error
    errors = ErrorRate()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        words = whisper_english(_encodable(reference)).split()
        found = edit_distance(words, whisper_english(_encodable(hypothesis)).split(), merge_compounds=True)
        hits = len(words) - found["sub"] - found["del"]
        errors.add(hits, found["sub"], found["del"], found["ins"])
    return errors


def _encodable(text: str) -> str:
    """Halves of surrogate pairs, which kaldialign's UTF-8 cannot hold, as U+FFFD: what a CSV has for them, too."""
    return _SURROGATES.sub("\ufffd", text)


def basic_word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Words of the basic normaliser."""
    return word_errors([basic_words(text) for text in references], [basic_words(text) for text in hypotheses])


def basic_characters(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Characters of the basic normaliser, the space between two words among them."""
    return character_errors([basic_text(text) for text in references], [basic_text(text) for text in hypotheses])


def unspaced_characters(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Characters of the basic normaliser without spaces."""
    return character_errors([unspaced_text(text) for text in references], [unspaced_text(text) for text in hypotheses])


def respaced_words(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Words of the basic normaliser, the hypothesis spaced as the reference where their characters align."""
    reference_words = [basic_words(text) for text in references]
    hypothesis_words = [basic_words(text) for text in hypotheses]
    pairs = aligned_characters(["".join(row) for row in reference_words], ["".join(row) for row in hypothesis_words])
    respaced = [spaced_as(*row) for row in zip(reference_words, hypothesis_words, pairs, strict=True)]
    return word_errors(reference_words, respaced)
