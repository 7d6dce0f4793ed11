"""How far answers in 16 bits agree with the same model's answers in float32, and with one another.

In go a model in float16 or bfloat16 and clips; out comes, for each way to answer them, how many answers are those that
transformers gives in float32, how far the others agree with them, and what the difference is worth: both answers are
scored by the float32 model, in nats a token, as the beam search scores them. The model is in float32 afterwards: its
weights are still the 16-bit numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from drawn_clips import Recording
from original_loop import BATCH_SIZE, Loop
from torch import Tensor
from whole_run import Texts, answer_all, build_package

from salmonn.model.salmonn import SALMONN


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a way to answer has in common with float32.

    Attributes:
        clips: how many were answered.
        equal: how many answers are float32's.
        agreeing_part: mean share of an answer before its first word that is not float32's.
        largest_gap: by how much the float32 model prefers its own answer, nats a token, at most; 0 where all are equal.
    """

    clips: int
    equal: int
    agreeing_part: float
    largest_gap: float


def measure_agreement(loop: Loop, clips: Sequence[int], *, slots: Sequence[int]) -> tuple[dict[str, Agreement], int]:
    """Answer some clips in 16 bits, with several numbers of slots and through transformers, and in float32.

    Args:
        loop: answers through transformers; its model is turned into float32.
        clips: those to answer.
        slots: numbers of clips that are decoded together.

    Returns:
        Way -> what it has in common with transformers in float32; and how many clips have one answer whatever the
        number of slots.
    """
    model, recordings = loop.model, [loop.recordings[clip] for clip in clips]
    short: dict[str, Texts] = {"transformers": loop.sorted(clips, BATCH_SIZE)}
    for number in slots:
        short[f"package, {number} slots"] = answer_all(build_package(model, loop.lengths, slots=number), recordings)
    ours = list(short.values())[1:]
    stable = sum(all(texts[clip] == ours[0][clip] for texts in ours) for clip in clips)
    model.float()
    right = loop.sorted(clips, BATCH_SIZE)
    ways = {**short, "package in float32": answer_all(build_package(model, loop.lengths), recordings)}
    return {way: compare(model, recordings, texts, right) for way, texts in ways.items()}, stable


def compare(
    model: SALMONN, recordings: Sequence[Recording], texts: Mapping[int, tuple[str, int]], right: Texts
) -> Agreement:
    """Compare answers with those of float32, by words and by the float32 model's scores."""
    different = [recording for recording in recordings if texts[recording.index] != right[recording.index]]
    parts, gaps = [], [0.0]
    for recording in different:
        answer, wanted = texts[recording.index][0].split(), right[recording.index][0].split()
        pairs = enumerate(zip(answer, wanted, strict=False))
        same = next((place for place, (word, other) in pairs if word != other), len(wanted))
        parts.append(same / max(len(wanted), 1))
        gaps.append(score(model, recording, wanted) - score(model, recording, answer))
    equal = len(recordings) - len(different)
    return Agreement(len(recordings), equal, (equal + sum(parts)) / len(recordings), max(gaps))


@torch.no_grad()
def score(model: SALMONN, recording: Recording, words: Sequence[str]) -> float:
    """Mean log-probability of an answer's tokens, its end among them."""
    ids = model.token_ids(" ".join([*words, model.end_sym]))
    prompt = model.wrap(model.embed(model.encode([recording.audio]))[0], recording.prompt)
    tokens: Tensor = torch.tensor(ids, device=prompt.device)
    embeds = torch.cat([prompt, model.llm.get_input_embeddings()(tokens[:-1])])[None]
    logits = model.llm(inputs_embeds=embeds, use_cache=False, logits_to_keep=len(ids)).logits[0]
    return float(logits.float().log_softmax(dim=-1).gather(1, tokens[:, None]).mean())
