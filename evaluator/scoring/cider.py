"""CIDEr-D (Vedantam et al. 2015, arXiv:1411.5726) of a whole set at once.

The same numbers as the loop of aac-metrics, which follows the original code, to rounding: n-grams of 1 to 4 tokens,
counts clipped to the reference's, tf-idf over the set's own references, a Gaussian penalty on lengths counted in
bigrams, the mean over references and orders times 10. All captions' n-grams are numbers in flat arrays, so that the
loops are numpy's.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDERS = 4
SIGMA = 6.0
SCALE = 10.0

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]


class _Grams(NamedTuple):
    """The different n-grams of one order in each caption: caption, n-gram and how often, ordered by the first two."""

    caption: Numbers
    gram: Numbers
    times: Numbers


def cider_d(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Values:
    """Score every clip.

    Args:
        hypotheses: N captions, tokens separated by spaces.
        references: N rows of at least one caption each.

    Returns:
        float64 [N], 0 to 10; the set's score is their mean.

    Raises:
        ValueError: there are fewer than two clips, of which no document frequency can be taken.
    """
    clips = len(hypotheses)
    if clips < 2:
        raise ValueError(f"CIDEr-D needs at least 2 clips, and there are {clips}")
    clip_of_reference = np.repeat(np.arange(clips), [len(row) for row in references])
    own, theirs = _tokens(hypotheses, list(chain.from_iterable(references)))
    bigrams = [np.maximum(np.diff(side.starts) - 1, 0) for side in (own, theirs)]
    distance = (bigrams[0][clip_of_reference] - bigrams[1]).astype(np.float64)
    similarity = np.zeros(len(clip_of_reference))
    for order in range(1, ORDERS + 1):
        heard, wanted = _grams(own, theirs, order)
        similarity += _cosine(heard, wanted, clip_of_reference, clips)
    similarity *= np.exp(-(distance**2) / (2 * SIGMA**2))
    of_clip = np.bincount(clip_of_reference, weights=similarity, minlength=clips)
    means: Values = SCALE / ORDERS * of_clip / np.bincount(clip_of_reference, minlength=clips)
    return means


class _Side(NamedTuple):
    """Captions as numbers of tokens: caption i has tokens[starts[i] : starts[i + 1]]."""

    tokens: Numbers
    starts: Numbers


def _tokens(*sides: Sequence[str]) -> list[_Side]:
    """Number the tokens of all captions, the same token alike on all sides."""
    split = [[caption.split() for caption in captions] for captions in sides]
    # By their letters: a set's own order is another in every process, and sums of another order have other last digits.
    different = sorted({word for words in split for word in chain.from_iterable(words)})
    known = {word: number for number, word in enumerate(different)}
    found = []
    for words in split:
        numbers = [known[word] for word in chain.from_iterable(words)]
        starts = np.concatenate([[0], np.cumsum([len(row) for row in words])]).astype(np.int64)
        found.append(_Side(np.array(numbers, dtype=np.int64), starts))
    return found


def _grams(own: _Side, theirs: _Side, order: int) -> tuple[_Grams, _Grams]:
    """The n-grams of an order, numbered alike on both sides."""
    tokens = np.concatenate([own.tokens, theirs.tokens])
    caption = np.repeat(
        np.arange(len(own.starts) + len(theirs.starts) - 2),
        np.concatenate([np.diff(own.starts), np.diff(theirs.starts)]),
    )
    number = tokens
    for shift in range(1, order):
        # An n-gram is a shorter one and the token behind it; numbers stay small, so that pairs fit into 64 bits.
        pairs = number[:-1] * (tokens.max(initial=0) + 1) + tokens[shift:]
        number = _dense(pairs)
    whole = caption[: len(number)] == caption[order - 1 :] if len(number) else np.zeros(0, dtype=bool)
    most = int(number.max(initial=0)) + 1
    keys, counts = np.unique(caption[: len(number)][whole] * most + number[whole], return_counts=True)
    place, gram = np.divmod(keys, most)
    border = np.searchsorted(place, len(own.starts) - 1)
    heard = _Grams(place[:border], gram[:border], counts[:border])
    return heard, _Grams(place[border:] - (len(own.starts) - 1), gram[border:], counts[border:])


def _dense(values: Numbers) -> Numbers:
    """Number different values from 0, equal ones alike."""
    bits = len(values).bit_length()
    if not len(values) or int(values.max()).bit_length() + bits > 63:
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    # Sorting numbers that carry their place is several times as fast as sorting places.
    ordered = np.sort((values << bits) | np.arange(len(values)))
    sorted_values = ordered >> bits
    numbers = np.empty_like(values)
    numbers[ordered & ((1 << bits) - 1)] = np.concatenate([[0], np.cumsum(sorted_values[1:] != sorted_values[:-1])])
    return numbers


def _cosine(heard: _Grams, wanted: _Grams, clip_of_reference: Numbers, clips: int) -> Values:
    """Clipped cosine of each reference's tf-idf vector with its clip's hypothesis: [R]."""
    most = int(max(heard.gram.max(initial=0), wanted.gram.max(initial=0))) + 1
    clip = clip_of_reference[wanted.caption]
    # A clip counts once for an n-gram, however many of its references have it.
    of_clip = np.sort(clip * most + wanted.gram)
    is_new = np.concatenate([[True], of_clip[1:] != of_clip[:-1]])[: len(of_clip)]
    frequency = np.bincount(of_clip[is_new] % most, minlength=most)
    weight = np.log(float(clips)) - np.log(np.maximum(frequency, 1.0))
    own, theirs = heard.times * weight[heard.gram], wanted.times * weight[wanted.gram]
    own_norm = np.sqrt(np.bincount(heard.caption, weights=own**2, minlength=clips))
    their_norm = np.sqrt(np.bincount(wanted.caption, weights=theirs**2, minlength=len(clip_of_reference)))
    # What a reference's n-gram weighs in its clip's hypothesis, 0 where that does not have it.
    keys, asked = heard.caption * most + heard.gram, clip * most + wanted.gram
    place = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
    shared = np.where(keys[place] == asked, own[place], 0.0) if len(keys) else np.zeros(len(asked))
    products = np.bincount(
        wanted.caption, weights=np.minimum(shared, theirs) * theirs, minlength=len(clip_of_reference)
    )
    norms = own_norm[clip_of_reference] * their_norm
    # Of no n-grams at all numpy's sums are integers.
    cosine: Values = np.divide(products, norms, out=np.zeros(len(products)), where=norms > 0)
    return cosine
