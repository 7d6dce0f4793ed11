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
from nano.part_folder import write_folder
from nano.pretrain_config import EncoderSize, LlamaPretraining
from nano.pretrain_step import build_optimizer, set_rate, update
from nano.scenes import draw_events, event_seconds
from nano.sentences import draw_sentence
from nano.tokenizer import train_tokenizer
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import PromptBook

logger = logging.getLogger(__name__)

ASR_TASK, AAC_TASK = "asr", "audiocaption_v2"
END = "</s>"
MAX_WORDS_PER_WINDOW = 3


class PseudoAudio:
    """Draws what stands in the audio slots: for every window up to three words, each with a weight.

    Args:
        utterances: Labels of a corpus of utterances: texts with the times of their words.
        seed: Of everything drawn.
        windows: Audio slots.
        window_seconds: How much of a clip each of them stands for.
    """

    def __init__(self, utterances: list[dict[str, Any]], seed: int, *, windows: int, window_seconds: float) -> None:
        self.utterances = utterances
        self.windows = windows
        self.window_seconds = window_seconds
        self.rng = Random(seed)
        self.noise = np.random.default_rng(seed)
        self.words = sorted({word for entry in utterances for word, _, _ in entry["words"]})

    def speech(self) -> tuple[list[list[tuple[str, float]]], str]:
        """Slots of an utterance (every word in the window of its middle) and its text."""
        entry = self.rng.choice(self.utterances)
        shift = self.rng.uniform(-0.05, 0.4)
        slots: list[list[tuple[str, float]]] = [[] for _ in range(self.windows)]
        for word, start, end in entry["words"]:
            place = (start + end) / 2 + shift + self.rng.gauss(0, 0.03)
            slot = slots[min(self.windows - 1, max(0, int(place / self.window_seconds)))]
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
        slots: list[list[tuple[str, float]]] = [[] for _ in range(self.windows)]
        start = 0.0
        for label, seconds in zip(events, lengths, strict=True):
            first, last = int(start / self.window_seconds), int((start + seconds) / self.window_seconds)
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
        windows = len(rows[0])
        slots = torch.randn(len(rows) * windows, width) * table.detach().std() * 0.5
        for order in range(MAX_WORDS_PER_WINDOW):
            places, ids, weights = [], [], []
            for place, words in enumerate(slot for row in rows for slot in row):
                for word, weight in words[order : order + 1]:
                    pieces = self._pieces(word)
                    places += [place] * len(pieces)
                    ids += pieces
                    weights += [weight / len(pieces)] * len(pieces)
            if ids:
                values = self.embedding(torch.tensor(ids)) * torch.tensor(weights)[:, None]
                slots = slots.index_add(0, torch.tensor(places), values.roll(order * width // 3, dims=1))
        return slots.view(len(rows), windows, width)

    def _pieces(self, word: str) -> list[int]:
        if word not in self._ids:
            self._ids[word] = self.tokenizer(" " + word, add_special_tokens=False)["input_ids"]
        return self._ids[word]


def pretrain_llama(settings: LlamaPretraining) -> dict[str, float]:
    """Train tokenizer and language model and write both: config, generation config, float16 weights, tokenizer.

    Of the corpus only texts and word times are read.

    Returns:
        The mean loss and the share of right tokens over the last 20 steps.
    """
    torch.manual_seed(settings.seed)
    rng, noise = Random(settings.seed), np.random.default_rng(settings.seed)
    book = PromptBook.from_files(Path(settings.prompt_path), settings.prompt_template)
    prompts = {task: book.prompt(task) for task in (ASR_TASK, AAC_TASK)}
    tokenizer = train_tokenizer(_texts(rng, noise, prompts), vocabulary=settings.vocabulary)
    llm = build_model(settings.model, vocabulary=len(tokenizer))
    # The whole model's own loss, so that the sequence is laid out exactly as in the last stage.
    model = SALMONN(
        speech_encoder=nn.Identity(), llm=llm, tokenizer=tokenizer, end_sym=END, max_txt_len=settings.max_txt_len
    )
    embedder = SlotEmbedder(llm, tokenizer)
    utterances = read_corpus(Path(settings.data)).labels
    pseudo = PseudoAudio(utterances, settings.seed, windows=settings.windows, window_seconds=settings.window_seconds)
    parameters = list(llm.parameters())
    optimizer = build_optimizer(parameters, settings)
    batch = [prompts[ASR_TASK]] * settings.speech_batch + [prompts[AAC_TASK]] * settings.scene_batch
    started, recent = time.monotonic(), []
    for step in range(settings.steps):
        set_rate(optimizer, step, settings)
        drawn = [pseudo.speech() for _ in range(settings.speech_batch)]
        drawn += [pseudo.scene() for _ in range(settings.scene_batch)]
        output = model.loss(embedder([slots for slots, _ in drawn]), batch, [text for _, text in drawn])
        update(optimizer, output.loss, parameters, settings)
        recent = [*recent[-19:], (output.loss.item(), float(output.correct) / output.total)]
        loss, right = np.mean(recent, axis=0)
        if step % settings.log_freq == 0 or step == settings.steps - 1:
            logger.info("llama step %d loss %.3f right %.3f (%.0f s)", step, loss, right, time.monotonic() - started)
    write_folder(Path(settings.output), lambda folder: _save(llm, tokenizer, folder))
    return {"loss": round(float(loss), 3), "tokens_right": round(float(right), 3)}


def _save(llm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    llm.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build_model(size: EncoderSize, *, vocabulary: int) -> LlamaForCausalLM:
    """Build a Llama with fresh weights and tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        intermediate_size=size.ffn,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
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
