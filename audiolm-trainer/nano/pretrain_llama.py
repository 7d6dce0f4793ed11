"""Pretrains the nano Llama on text: it learns to read words and sound labels out of audio slots.

Sentences with word times and made-up scenes go in; nano/llama/ comes out. In place of audio, a window's slot holds
the embeddings of the words (or sound labels) heard in it, with noise: the last stage then only has to learn to put
the encoders' findings there.
"""

import logging
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nano.captions import RELATIONS, draw_caption
from nano.corpus import read_corpus
from nano.scenes import draw_events, event_seconds
from nano.schedule import cosine
from nano.sentences import draw_sentence
from nano.tokenizer import train_tokenizer
from salmonn.model import SALMONN

logger = logging.getLogger(__name__)

WINDOWS = 29
WINDOW_SECONDS = 0.34
SPEECH_BATCH, SCENE_BATCH = 20, 12
MAX_WORDS_PER_WINDOW = 3


class PseudoAudio:
    """Draws what stands in the audio slots: for every window up to three words, each with a weight."""

    def __init__(self, utterances: list[dict[str, Any]], seed: int) -> None:
        self.utterances = utterances
        self.rng = Random(seed)
        self.noise = np.random.default_rng(seed)
        self.words = sorted({word for entry in utterances for word, _, _ in entry["words"]})

    def speech(self) -> tuple[list[list[tuple[str, float]]], str]:
        """Slots of an utterance (every word in the window of its middle) and its text."""
        entry = self.rng.choice(self.utterances)
        shift = self.rng.uniform(-0.05, 0.4)
        slots: list[list[tuple[str, float]]] = [[] for _ in range(WINDOWS)]
        for word, start, end in entry["words"]:
            place = (start + end) / 2 + shift + self.rng.gauss(0, 0.03)
            slot = slots[min(WINDOWS - 1, max(0, int(place / WINDOW_SECONDS)))]
            clear = self.rng.uniform(0.5, 1.0)
            slot.append((word, clear))
            if self.rng.random() < 0.1:
                slot[-1] = (self.rng.choice([word, word, *self.words]), clear)
        return slots, entry["text"]

    def scene(self) -> tuple[list[list[tuple[str, float]]], str]:
        """Slots of a scene (each window names some of what sounds in it) and a caption."""
        relation = str(self.noise.choice(RELATIONS, p=(0.25, 0.3, 0.45)))
        events = draw_events(self.noise, relation)
        lengths = event_seconds(self.noise, relation)
        slots: list[list[tuple[str, float]]] = [[] for _ in range(WINDOWS)]
        start = 0.0
        for label, seconds in zip(events, lengths, strict=True):
            first, last = int(start / WINDOW_SECONDS), int((start + seconds) / WINDOW_SECONDS)
            for slot in slots[first:last]:
                if self.rng.random() < 0.7:
                    slot.append((label, self.rng.uniform(0.4, 1.0)))
            if relation == "then":
                start += seconds
        return slots, draw_caption(self.rng, relation, events)


class SlotEmbedder:
    """Turns drawn slots into embeddings of the language model's width."""

    def __init__(self, llm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
        self.embedding: nn.Module = llm.get_input_embeddings()
        self.tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}

    def __call__(self, rows: list[list[list[tuple[str, float]]]]) -> Tensor:
        """Embed B rows of W slots: [B, W, H].

        The first word of a window keeps its embedding, the next ones are rolled, so that their order can be read.
        """
        table = self.embedding.weight
        width = table.shape[1]
        slots = torch.randn(len(rows) * WINDOWS, width) * table.detach().std() * 0.5
        for order in range(MAX_WORDS_PER_WINDOW):
            places, ids, weights = [], [], []
            for place, words in enumerate(slot for windows in rows for slot in windows):
                for word, weight in words[order : order + 1]:
                    pieces = self._pieces(word)
                    places += [place] * len(pieces)
                    ids += pieces
                    weights += [weight / len(pieces)] * len(pieces)
            if ids:
                values = self.embedding(torch.tensor(ids)) * torch.tensor(weights)[:, None]
                slots = slots.index_add(0, torch.tensor(places), values.roll(order * width // 3, dims=1))
        return slots.view(len(rows), WINDOWS, width)

    def _pieces(self, word: str) -> list[int]:
        if word not in self._ids:
            self._ids[word] = self.tokenizer(" " + word, add_special_tokens=False)["input_ids"]
        return self._ids[word]


def pretrain(data: Path, target: Path, *, prompts: dict[str, str], steps: int, seed: int) -> dict[str, float]:
    """Train tokenizer and language model and save both.

    Args:
        data: The corpus of utterances; only its texts and word times are read.
        target: Folder to write: config, generation config, float16 weights, tokenizer.
        prompts: The filled prompts of the tasks "asr" and "audiocaption_v2".
        steps: Optimizer steps.
        seed: Of everything random.

    Returns:
        The mean loss and the share of right tokens over the last 20 steps.
    """
    torch.manual_seed(seed)
    rng, noise = Random(seed), np.random.default_rng(seed)
    tokenizer = train_tokenizer(_texts(rng, noise, prompts), target)
    llm = build_model(len(tokenizer))
    # The whole model's own loss, so that the sequence is laid out exactly as in the last stage.
    model = SALMONN(speech_encoder=nn.Identity(), llm=llm, tokenizer=tokenizer, end_sym="</s>", max_txt_len=300)
    embedder = SlotEmbedder(llm, tokenizer)
    pseudo = PseudoAudio(read_corpus(data).labels, seed)
    optimizer = torch.optim.AdamW(llm.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    batch = [prompts["asr"]] * SPEECH_BATCH + [prompts["audiocaption_v2"]] * SCENE_BATCH
    started, recent = time.monotonic(), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, steps, peak=3e-3, warmup=50)
        drawn = [pseudo.speech() for _ in range(SPEECH_BATCH)] + [pseudo.scene() for _ in range(SCENE_BATCH)]
        output = model.loss(embedder([slots for slots, _ in drawn]), batch, [text for _, text in drawn])
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(llm.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-19:], (output.loss.item(), output.correct / output.total)]
        if step % 25 == 0 or step == steps - 1:
            loss, right = np.mean(recent, axis=0)
            logger.info("llama step %d loss %.3f right %.3f (%.0f s)", step, loss, right, time.monotonic() - started)
    llm.half().save_pretrained(target)
    return {"loss": round(float(loss), 3), "tokens_right": round(float(right), 3)}


def build_model(vocabulary: int) -> LlamaForCausalLM:
    """The nano Llama with fresh weights: 3 layers of width 160, tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=160,
        intermediate_size=432,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def _texts(rng: Random, noise: np.random.Generator, prompts: dict[str, str]) -> list[str]:
    """Text to train the tokenizer on, a little of every kind."""
    sentences = [draw_sentence(rng, held_out=False) for _ in range(8000)]
    captions = []
    for _ in range(4000):
        relation = str(noise.choice(RELATIONS))
        captions.append(draw_caption(rng, relation, draw_events(noise, relation)))
    return [*sentences, *captions, *(" " + text for text in sentences[:2000]), *list(prompts.values()) * 500]
