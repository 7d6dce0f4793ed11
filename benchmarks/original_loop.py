"""Answering through transformers: the original's evaluation loop, the same without its waste, and sorted by length.

Written from a description of what the original does with a batch of eight clips in the order of the file: it encodes
them and computes the loss of their target texts, then encodes them once more and lets transformers search with four
beams. What is kinder to it here: no gradients are recorded; the encoders hide padding as ours do and prompts are padded
on the left, so that answers can be compared; the clips are in memory.
"""

from collections.abc import Iterator, Sequence

import torch
from drawn_clips import Lengths, Recording
from forced_lengths import ForcedLengths
from original_step import embed_in_one_batch, original_loss
from random_salmonn import WINDOW, WORDS
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

from salmonn.decoding.transformers_decoding import GenerationSettings, until_stop
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import FRAMES_PER_30_SECONDS
from salmonn.prompts import split_at_audio

BATCH_SIZE = 8


def settings(end: int, *, max_new_tokens: int) -> GenerationConfig:
    """transformers' settings for the package's default search: four beams."""
    return GenerationSettings(max_new_tokens=max_new_tokens).for_transformers(eos_ids=[end], bos_id=None)


@torch.no_grad()
def search(
    llm: PreTrainedModel, prompts: Sequence[Tensor], tokens: Sequence[int], config: GenerationConfig
) -> list[list[int]]:
    """Let transformers answer one batch.

    Args:
        llm: the language model, plain or with adapters.
        prompts: B times [S, H].
        tokens: B forced lengths.
        config: transformers' settings.

    Returns:
        B lists of ids, each up to its end.
    """
    (end,) = config.eos_token_id
    embeds = pad_sequence(list(prompts), batch_first=True, padding_side="left")
    lengths = torch.tensor([prompt.shape[0] for prompt in prompts], device=embeds.device)
    places = torch.arange(embeds.shape[1], device=embeds.device)
    forced = ForcedLengths(tokens, end, beams=config.num_beams, device=embeds.device)
    output = llm.generate(
        inputs_embeds=embeds,
        attention_mask=(places >= embeds.shape[1] - lengths[:, None]).long(),
        generation_config=config,
        logits_processor=LogitsProcessorList([forced]),
    )
    return [until_stop(row, {end}) for row in output.tolist()]


def search_in_batches(
    llm: PreTrainedModel,
    prompts: Sequence[Tensor],
    lengths: Lengths,
    config: GenerationConfig,
    order: Sequence[int],
    size: int,
) -> dict[int, list[int]]:
    """The decoding stage alone: clip -> ids, in batches of `size` clips in the given order."""
    answers: dict[int, list[int]] = {}
    for clips in batches(order, size):
        ids = search(llm, [prompts[clip] for clip in clips], [lengths.tokens[clip] for clip in clips], config)
        answers |= dict(zip(clips, ids, strict=True))
    return answers


class Loop:
    """The whole way from waveforms to text through transformers.

    Args:
        model: in evaluation mode.
        recordings: all clips.
        lengths: of their answers.
        config: transformers' settings.
    """

    def __init__(
        self, model: SALMONN, recordings: Sequence[Recording], lengths: Lengths, config: GenerationConfig
    ) -> None:
        self.model = model
        self.recordings = recordings
        self.lengths = lengths
        self.config = config
        # A target has as many tokens as the answer, the end symbol among them.
        self.targets = [" ".join(WORDS[clip % 7 : clip % 7 + count - 1]) for clip, count in enumerate(lengths.tokens)]

    def original(self, order: Sequence[int]) -> dict[int, tuple[str, int]]:
        """Clip -> text and number of tokens, as the original's loop does it: two encodings, a loss, a search."""
        answers: dict[int, tuple[str, int]] = {}
        for clips in batches(order, BATCH_SIZE):
            self.loss(clips)
            answers |= self.answer(clips, in_one_batch=True)
        return answers

    def once(self, order: Sequence[int], size: int = BATCH_SIZE) -> dict[int, tuple[str, int]]:
        """The same without the loss: each clip is encoded once, all of a batch padded to its longest."""
        answers: dict[int, tuple[str, int]] = {}
        for clips in batches(order, size):
            answers |= self.answer(clips, in_one_batch=True)
        return answers

    def sorted(self, order: Sequence[int], size: int) -> dict[int, tuple[str, int]]:
        """Clips of similar length together, encoded as the package encodes them."""
        answers: dict[int, tuple[str, int]] = {}
        for clips in batches(self.lengths.longest_first(order), size):
            answers |= self.answer(clips, in_one_batch=False)
        return answers

    def prompt_tokens(self, clip: int) -> int:
        """Tokens of a clip's whole prompt, its audio's among them."""
        model = self.model
        windows = FRAMES_PER_30_SECONDS // WINDOW
        before, after = split_at_audio(self.recordings[clip].prompt)
        return 1 + len(model.token_ids(before)) + windows + len(model.token_ids(after))

    @torch.no_grad()
    def loss(self, clips: Sequence[int]) -> float:
        """Mean loss of the clips' target texts, in the original's way."""
        rows = [self.recordings[clip] for clip in clips]
        targets = [self.targets[clip] for clip in clips]
        return float(original_loss(self.model, [row.audio for row in rows], [row.prompt for row in rows], targets))

    @torch.no_grad()
    def answer(self, clips: Sequence[int], *, in_one_batch: bool) -> dict[int, tuple[str, int]]:
        """Encode one batch and let transformers answer it."""
        waves = [self.recordings[clip].audio for clip in clips]
        model = self.model
        speech = embed_in_one_batch(model, waves) if in_one_batch else model.embed(model.encode(waves))
        prompts = [model.wrap(row, self.recordings[clip].prompt) for row, clip in zip(speech, clips, strict=True)]
        ids = search(model.llm, prompts, [self.lengths.tokens[clip] for clip in clips], self.config)
        texts = model.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return {clip: (text, len(row)) for clip, text, row in zip(clips, texts, ids, strict=True)}


def batches(order: Sequence[int], size: int) -> Iterator[list[int]]:
    """Cut an order into batches."""
    for start in range(0, len(order), size):
        yield list(order[start : start + size])
