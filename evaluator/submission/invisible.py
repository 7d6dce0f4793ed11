"""Characters of which nothing can be seen, beyond those that Python calls unprintable.

In: one character, or a text for a message. Out: whether a reader sees nothing of it, or the text with codes. Counted
are Unicode's default ignorable characters (fillers of Hangul, variation selectors, joiners), and a few symbols that
are drawn as an empty place.
"""

# Ranges, both ends included. Format characters (Cf) are unprintable and need no line here.
_RANGES = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors and vowel separator
    (0x2800, 0x2800),  # the braille pattern without a dot
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0x13441, 0x13442),  # Egyptian blanks
    (0x16FE4, 0x16FE4),  # Khitan filler
    (0x1D159, 0x1D159),  # musical null notehead
    (0xE0100, 0xE01EF),  # variation selectors supplement
)
_DRAWN_AS_NOTHING = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1))


def is_invisible(character: str) -> bool:
    """Whether nothing is seen of a character: white space, controls, joiners, U+3164, U+2800; not "." nor U+0301."""
    return not character.isprintable() or character.isspace() or character in _DRAWN_AS_NOTHING


def with_codes(text: str) -> str:
    """A text for a message, with the code in the place of each character that nothing is seen of; spaces stay.

    Example:
        "test0000" and a Hangul filler -> "test0000\\u3164"
    """
    return "".join(ascii(one)[1:-1] if one != " " and is_invisible(one) else one for one in text)
