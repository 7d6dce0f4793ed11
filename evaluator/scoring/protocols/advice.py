"""Which protocol a set's references are made for, where the chosen one's normaliser would destroy their letters.

In: the protocol and raw references. Out: one sentence, or none.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from evaluator.scoring.protocols.other_scripts import is_other_letter
from evaluator.scoring.protocols.protocol import Protocol

# First words of the letters' Unicode names -> (what to call them, the protocol for them).
_SCRIPTS = {
    "HANGUL": ("Hangul", "ko-cer"),
    "CJK": ("Chinese or Japanese", "cjk-cer"),
    "HIRAGANA": ("Chinese or Japanese", "cjk-cer"),
    "KATAKANA": ("Chinese or Japanese", "cjk-cer"),
    "KATAKANA-HIRAGANA": ("Chinese or Japanese", "cjk-cer"),
    "BOPOMOFO": ("Chinese or Japanese", "cjk-cer"),
}
_OTHERS = ("other than Latin", "basic")
_MOSTLY = 0.5


def better_protocol(protocol: Protocol, references: Sequence[str]) -> list[str]:
    """Name the protocol to take for references that are mostly in a script which the chosen one's normaliser destroys.

    Returns:
        list[str]: one sentence, or none if the protocol suits.
    """
    if not protocol.english:
        return []
    characters: Counter[str] = Counter()
    for text in references:
        characters.update(text if text.isascii() else unicodedata.normalize("NFKC", text))
    letters: Counter[tuple[str, str]] = Counter()
    latin = 0
    for character, times in characters.items():
        if is_other_letter(character):
            letters[_script(character)] += times
        elif character.isalpha():
            latin += times
    others = letters.total()
    if others <= _MOSTLY * (others + latin):
        return []
    (title, name), _ = letters.most_common(1)[0]
    share = round(100 * others / (others + latin))
    return [
        f"{share} % of the references' letters are in a script that the protocol {protocol.name} is not made for "
        f"(most: {title}): its English normaliser takes them apart. Take scoring.protocol: {name} (docs/protocols.md)."
    ]


def _script(letter: str) -> tuple[str, str]:
    return _SCRIPTS.get(unicodedata.name(letter, "").partition(" ")[0], _OTHERS)
