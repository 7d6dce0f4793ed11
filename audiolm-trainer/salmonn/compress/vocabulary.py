"""The tokens that a task uses, and a tokenizer that has no others.

In goes the tokenizer of a language model with the texts of its task; out comes the same tokenizer without the tokens
that none of them needs. Byte-pair encoding alone: there every token is joined from two others, and a text's pieces stay
what they are as long as a kept token keeps the tokens that it is joined from. Text that was never seen is still written
and read: in smaller pieces, in the end in single bytes.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from salmonn.decoding.token_text import TokenText
from salmonn.errors import ConfigError

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_LETTERS = frozenset(pre_tokenizers.ByteLevel.alphabet())
BYTE_PAIRS = "BPE"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Which tokens stay.

    Attributes:
        kept: their ids, ascending; the place of an id is its new id.
        tokenizer: the text of the smaller `tokenizer.json`.
    """

    kept: tuple[int, ...]
    tokenizer: str

    def renumbered(self, entry: Any) -> Any:
        """Give the new ids for an id or a list of them; what is no id stays, what is dropped leaves its list."""
        places = {old: new for new, old in enumerate(self.kept)}
        if isinstance(entry, list):
            return [places[old] for old in entry if old in places]
        return places.get(entry, entry)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer is of the kind that can lose tokens.

    Raises:
        ConfigError: it is not; says what it is.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind = type(tokenizer).__name__ if backend is None else json.loads(backend.to_str())["model"]["type"]
    if kind != BYTE_PAIRS:
        raise ConfigError(
            "the vocabulary cannot be made smaller",
            [("compress.vocabulary", f"needs a tokenizer of byte pairs ({BYTE_PAIRS}), and this one is {kind}")],
        )


def used_vocabulary(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Vocabulary:
    """Find the tokens that texts need, and the tokenizer of these alone.

    Besides what the texts are cut into there stay special and added tokens, single bytes, and all tokens that kept ones
    are joined from.

    Args:
        tokenizer: one that `check_tokenizer` lets pass.
        texts: each is cut by itself, as the model does with the parts of its prompts and with its answers.
    """
    backend: Any = tokenizer.backend_tokenizer
    tree = json.loads(backend.to_str())
    model = tree["model"]
    names = {index: token for token, index in model["vocab"].items()}
    added = {entry["id"]: entry["content"] for entry in tree["added_tokens"]}
    reader = TokenText(tokenizer)
    used = {index for text in texts for index in reader.ids(text)}
    stay = {names[index] for index in used if index in names}
    stay |= {token for token in model["vocab"] if token in _LETTERS or _BYTE.fullmatch(token)}
    stay |= {token for token in (model.get("unk_token"), *added.values()) if token in model["vocab"]}
    merges = [_pair(entry) for entry in model["merges"]]
    stay = _with_their_parts(stay, merges, model["vocab"])
    kept = sorted({model["vocab"][token] for token in stay} | added.keys())
    places = {old: new for new, old in enumerate(kept)}
    model["vocab"] = {token: places[model["vocab"][token]] for token in sorted(stay, key=model["vocab"].__getitem__)}
    model["merges"] = [[a, b] for a, b in merges if {a, b, a + b} <= stay]
    for entry in tree["added_tokens"]:
        entry["id"] = places[entry["id"]]
    tree["post_processor"] = _renumbered(tree["post_processor"], places)
    # What a tokenizer is called with, not what it is.
    tree["padding"] = tree["truncation"] = None
    return Vocabulary(tuple(kept), json.dumps(tree, ensure_ascii=False))


def check_pieces(before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase, texts: Iterable[str]) -> None:
    """Check that two tokenizers cut texts into the same pieces.

    Raises:
        ConfigError: they do not; names the text.
    """
    old, new = TokenText(before), TokenText(after)
    for text in texts:
        pieces = before.convert_ids_to_tokens(old.ids(text))
        if pieces != after.convert_ids_to_tokens(new.ids(text)):
            raise ConfigError(
                "the vocabulary cannot be made smaller",
                [("compress.vocabulary", f"the smaller tokenizer cuts {text!r} into other pieces")],
            )


def _pair(entry: Any) -> tuple[str, str]:
    """A merge as two tokens: older files write them as one text with a space between."""
    first, second = entry.split(" ") if isinstance(entry, str) else entry
    return first, second


def _with_their_parts(tokens: set[str], merges: Iterable[tuple[str, str]], known: Mapping[str, int]) -> set[str]:
    """Add the tokens that tokens are joined from, and those that these are joined from."""
    parts: dict[str, set[str]] = {}
    for first, second in merges:
        parts.setdefault(first + second, set()).update((first, second))
    found, new = set(tokens), set(tokens)
    while new:
        new = {part for token in new for part in parts.get(token, ()) if part in known} - found
        found |= new
    return found


def _renumbered(processor: Any, places: Mapping[int, int]) -> Any:
    """Change the ids in what puts special tokens around a text."""
    if isinstance(processor, list):
        return [_renumbered(entry, places) for entry in processor]
    if not isinstance(processor, dict):
        return processor
    changed = {key: _renumbered(entry, places) for key, entry in processor.items()}
    if isinstance(changed.get("ids"), list):
        changed["ids"] = [places[old] for old in processor["ids"]]
    for key in ("sep", "cls"):
        if isinstance(changed.get(key), list):
            token, old = processor[key]
            changed[key] = [token, places[old]]
    return changed
