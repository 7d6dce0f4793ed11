"""The whole way from waveforms in memory to text: the arms that `bench_decoding.py --whole` compares.

    original    the original's loop: file order, batches of 8, two encodings, a loss pass, transformers' beam search
    once        the same with one encoding and no loss pass
    fair        transformers' beam search, longest clips first, with the batch size that is fastest in a first pass
    package     `SalmonnLM.generate` as it comes

Features, copies to the device and the text of the answers are in the clock. Adapters are not merged in any arm.
"""

from collections.abc import Sequence

from arms import Arm
from drawn_clips import MAX_NEW_TOKENS, Lengths, Recording
from forced_lengths import forced_lengths
from original_loop import Loop
from random_salmonn import END, PROMPTS

from salmonn.config.schema import RunConfig
from salmonn.decoding.decoder import Decoder
from salmonn.decoding.transformers_decoding import GenerationSettings
from salmonn.inference.inference import SalmonnLM
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import PromptBook

Texts = dict[int, tuple[str, int]]
"""Clip -> text and number of tokens. One token is one word, so that equal texts are equal ids."""


def build_package(
    model: SALMONN,
    lengths: Lengths,
    *,
    batch_size: int | None = None,
    slots: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> SalmonnLM:
    """Build the package's own way to answer, its answers forced to their lengths.

    Args:
        model: in evaluation mode.
        lengths: of the answers.
        batch_size: clips that are encoded together; None for the configuration's default.
        slots: clips that are decoded together; None for what the package chooses.
        max_new_tokens: limit of an answer.
    """
    lm = SalmonnLM(
        model,
        prompts=PromptBook({task: (prompt,) for task, prompt in PROMPTS.items()}),
        settings=GenerationSettings(max_new_tokens=max_new_tokens),
        end_sym=END,
        batch_size=batch_size or RunConfig().batch_size_eval,
        slots=slots,
    )
    assert lm.decoder is not None
    # Its own decoder again, with a rule besides.
    rule = forced_lengths(lengths.tokens, lm.eos_ids[0], model.llm.device)
    lm.decoder = Decoder(model.llm, lm.decoder.settings, slots=slots, score_rule=rule)
    return lm


def answer_all(lm: SalmonnLM, recordings: Sequence[Recording]) -> Texts:
    """Let the package answer recordings."""
    return {answer.index: (answer.text, answer.num_tokens) for answer in lm.generate(recordings)}


def build_arms(loop: Loop, lm: SalmonnLM, *, batch: int, original_clips: int) -> dict[str, Arm]:
    """Name the arms.

    Args:
        loop: answers through transformers.
        lm: answers through the package.
        batch: size of the fair arm's batches.
        original_clips: how many clips, from the first, the two arms in file order answer; None for all.
    """
    everything = range(len(loop.recordings))
    return {
        "original": Arm(everything[:original_clips], loop.original),
        "once": Arm(everything[:original_clips], loop.once),
        f"fair (batches of {batch})": Arm(everything, lambda clips: loop.sorted(clips, batch)),
        "package": Arm(everything, lambda clips: answer_all(lm, [loop.recordings[clip] for clip in clips])),
    }
