"""A training step's loss in the way of the original trainer, on the modules of a `salmonn.model.salmonn.SALMONN`.

Written from a description of what it does; `bench_training.py` compares it with `SALMONN.forward`. What is different:
encoders run where gradients are recorded; every row's prompt is padded to the longest prompt and every target to the
longest target of the batch; the language model fills its key-value cache and gives logits at all positions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import Encoded
from salmonn.prompts import split_at_audio

# What the language model leaves out of its loss.
IGNORED_LABEL = -100


def original_loss(
    model: SALMONN, waves: Sequence[NDArray[np.float32]], prompts: Sequence[str], targets: Sequence[str]
) -> Tensor:
    """Mean cross-entropy of B targets, the end symbol after each, computed over all positions.

    Args:
        model: its modules are used, its own loss is not.
        waves: B waveforms, float32 [N] each at 16 kHz.
        prompts: B filled prompts with the audio slot.
        targets: B texts.
    """
    speech = embed_in_one_batch(model, waves)
    halves = [split_at_audio(prompt) for prompt in prompts]
    before, before_mask = _padded(model, [model.token_ids(first) for first, _ in halves])
    after, after_mask = _padded(model, [model.token_ids(second) for _, second in halves])
    answers = [model.token_ids(text + model.end_sym)[: model.max_txt_len] for text in targets]
    answer, answer_mask = _padded(model, answers)
    bos, bos_mask = _padded(model, [[model.tokenizer.bos_token_id]] * len(waves))
    speech_mask = torch.ones(speech.shape[:2], dtype=torch.int64, device=speech.device)
    embeds = torch.cat([bos, before, speech.to(bos.dtype), after, answer], dim=1)
    mask = torch.cat([bos_mask, before_mask, speech_mask, after_mask, answer_mask], dim=1)
    labels = torch.full(mask.shape, IGNORED_LABEL, device=speech.device)
    for row, ids in enumerate(answers):
        start = mask.shape[1] - answer.shape[1]
        labels[row, start : start + len(ids)] = torch.tensor(ids, device=speech.device)
    loss: Tensor = model.llm(inputs_embeds=embeds, attention_mask=mask, labels=labels, return_dict=True).loss
    return loss


def embed_in_one_batch(model: SALMONN, waves: Sequence[NDArray[np.float32]]) -> Tensor:
    """Both encoders with gradients recorded wherever an input asks for them, then the bridge: -> [B, W x Q, H]."""
    encoder = model.speech_encoder
    parameter = encoder.whisper.conv1.weight
    features = encoder.front_end(waves, parameter.device)
    whisper = encoder.whisper(features.mel.to(parameter.dtype)).last_hidden_state
    assert encoder.beats is not None
    tokens, padding_mask = encoder.beats(features.fbank.to(parameter.dtype), features.fbank_frames)
    return encoder.bridge(Encoded(whisper, tokens, (~padding_mask).sum(dim=1)))


def _padded(model: SALMONN, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Embeddings [B, S, H] and attention mask int64 [B, S] of token rows, padded on the right."""
    embedding = model.llm.get_input_embeddings()
    ids = [torch.tensor(row, dtype=torch.int64, device=embedding.weight.device) for row in rows]
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return embedding(pad_sequence(ids, batch_first=True)), mask
