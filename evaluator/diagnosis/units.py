"""What a protocol counts, as texts are split into it: words, or characters."""

from collections.abc import Callable, Sequence

Split = Callable[[str], Sequence[str]]


def word_splits(protocol: str) -> tuple[Split, Split]:
    """What makes words of a reference and of an answer, by the name of the protocol."""
    from evaluator.scoring.normalize import wer_words, whisper_english
    from evaluator.scoring.protocols.basic_text import basic_words

    if protocol == "challenge":
        return wer_words, lambda text: wer_words(text.lower())
    if protocol == "open-asr":
        return (lambda text: whisper_english(text).split(),) * 2
    return basic_words, basic_words


def counted_splits(protocol: str, unit: str) -> tuple[Split, Split]:
    """The same, but characters without spaces where a protocol of other scripts counts characters."""
    from evaluator.scoring.protocols.basic_text import unspaced_text

    if unit == "character" and protocol != "challenge":
        return unspaced_text, unspaced_text
    return word_splits(protocol)
