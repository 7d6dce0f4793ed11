"""Pretrains the nano BEATs: which kinds of sound are heard at every token.

The corpus of sound scenes goes in; nano/beats.pt in the released files' layout comes out.
"""

import logging
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nano.corpus import Corpus, read_corpus
from nano.scenes import LABELS
from nano.schedule import cosine
from salmonn.beats import BEATs, BEATsConfig
from salmonn.checkpoint import BEATS_KEY_TABLE
from salmonn.features import FBANK_STD, fbank

logger = logging.getLogger(__name__)

PATCH = 16
TOKENS_PER_PATCH = 8
CONFIG = BEATsConfig(
    input_patch_size=PATCH,
    embed_dim=64,
    encoder_layers=2,
    encoder_embed_dim=128,
    encoder_ffn_embed_dim=384,
    encoder_attention_heads=4,
    deep_norm=True,
    conv_pos=64,
    conv_pos_groups=8,
    relative_position_embedding=True,
    num_buckets=320,
    max_distance=800,
    gru_rel_pos=True,
)


class Scenes:
    """The filter banks of a corpus and which classes are heard in every column of patches (160 ms)."""

    def __init__(self, corpus: Corpus, count: int | None = None) -> None:
        self.banks: list[Tensor] = []
        self.tags: list[Tensor] = []
        self.names: list[frozenset[str]] = []
        for index, label in enumerate(corpus.labels[:count]):
            bank = fbank(torch.from_numpy(corpus.wave(index)))
            columns = len(bank) // PATCH
            self.banks.append(bank[: columns * PATCH].half())
            tags = torch.zeros(columns, len(LABELS))
            for event, (start, end) in zip(label["events"], label["spans"], strict=True):
                tags[round(start * 100 / PATCH) : round(end * 100 / PATCH), LABELS.index(event)] = 1
            self.tags.append(tags)
            self.names.append(frozenset(label["events"]))

    def draw(self, rng: np.random.Generator, batch: int, columns: int) -> tuple[Tensor, Tensor]:
        """Draw crops [B, columns x 16, 128] with tags [B, columns, classes], each at another level."""
        banks, tags = [], []
        while len(banks) < batch:
            index = int(rng.integers(len(self.banks)))
            spare = len(self.tags[index]) - columns
            if spare < 0:
                continue
            first = int(rng.integers(0, spare + 1))
            decibel = rng.uniform(-8, 8)
            crop = self.banks[index][first * PATCH : (first + columns) * PATCH].float()
            banks.append(crop + decibel * np.log(10) / 10 / (2 * FBANK_STD))
            tags.append(self.tags[index][first : first + columns])
        return torch.stack(banks), torch.stack(tags)


class Tagger(nn.Module):
    """BEATs with a linear classifier on every token; the classifier is thrown away after pretraining."""

    def __init__(self) -> None:
        super().__init__()
        self.beats = BEATs(CONFIG)
        self.head = nn.Linear(CONFIG.encoder_embed_dim, len(LABELS))

    def forward(self, banks: Tensor) -> Tensor:
        """[B, F, 128] -> logits [B, F / 16, 8, classes]."""
        frames = torch.full((len(banks),), banks.shape[1])
        tokens, _ = self.beats(banks, frames)
        logits: Tensor = self.head(tokens).unflatten(1, (-1, TOKENS_PER_PATCH))
        return logits


def pretrain(data: Path, check: Path, target: Path, *, steps: int, seed: int, batch: int = 24) -> dict[str, float]:
    """Train the encoder and save it.

    Args:
        data: The corpus of scenes to learn from; mixtures are nearly half of it, because they are the hardest.
        check: Another corpus of scenes, to measure on.
        target: File to write, {'cfg', 'model'} with float16 tensors.
        steps: Optimizer steps.
        seed: Of everything random.
        batch: Crops per step.

    Returns:
        Shares of clips of the other corpus whose set of classes is exactly right: all, and by relation.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scenes = Scenes(read_corpus(data))
    other = read_corpus(check)
    others = Scenes(other, 300)
    relations = [label["relation"] for label in other.labels[:300]]
    tagger = Tagger()
    optimizer = torch.optim.AdamW(tagger.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, steps, peak=2e-3, warmup=50)
        banks, tags = scenes.draw(rng, batch, columns=int(rng.integers(10, 30)))
        logits = tagger(banks)
        wanted = tags[:, :, None].expand_as(logits)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=torch.tensor(2.0))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tagger.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 0 or step == steps - 1:
            logger.info("beats step %d loss %.4f (%.0f s)", step, loss.item(), time.monotonic() - started)
        if step % 200 == 199 or step == steps - 1:
            figures = _evaluate(tagger.eval(), others, relations)
            tagger.train()
            logger.info("beats step %d clips right: %s", step, figures)
            _save(tagger.beats, target)
    return figures


@torch.no_grad()
def _evaluate(tagger: Tagger, scenes: Scenes, relations: list[str]) -> dict[str, float]:
    right: dict[str, list[bool]] = {"all": []}
    for bank, names, relation in zip(scenes.banks, scenes.names, relations, strict=True):
        chances = tagger(bank.float()[None])[0].sigmoid().mean(dim=1)
        # A class counts as heard where a second's worth of columns says so.
        level = chances.sort(dim=0, descending=True).values[5]
        heard = frozenset(np.array(LABELS)[(level > 0.5).numpy()].tolist())
        for key in ("all", relation):
            right.setdefault(key, []).append(heard == names)
    return {key: round(float(np.mean(values)), 3) for key, values in right.items()}


def _save(beats: BEATs, target: Path) -> None:
    """Write the released layout: old-style weight norm names, the shared bias table once per layer."""
    state = {_released_name(key): value.half() for key, value in beats.state_dict().items()}
    table = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    for layer in range(1, CONFIG.encoder_layers):
        state[table.format(layer)] = state[table.format(0)]
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"cfg": asdict(CONFIG), "model": state}, target)


def _released_name(ours: str) -> str:
    for released, own in BEATS_KEY_TABLE:
        if ours.startswith(own):
            return released + ours[len(own) :]
    return ours
