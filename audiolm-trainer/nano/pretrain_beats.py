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
from nano.pretrain_config import BeatsPretraining, BeatsSize
from nano.pretrain_step import build_optimizer, set_rate, update
from nano.scenes import LABELS
from salmonn.frontend.features import FBANK_STD, fbank
from salmonn.model.beats import BEATs, BEATsConfig
from salmonn.weights.checkpoint import BEATS_KEY_TABLE, save_checkpoint

logger = logging.getLogger(__name__)

PATCH = 16
TOKENS_PER_PATCH = 8


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

    def draw(self, rng: np.random.Generator, *, batch: int, columns: int, level_db: float) -> tuple[Tensor, Tensor]:
        """Draw crops [B, columns x 16, 128] with tags [B, columns, classes], each at another level."""
        banks, tags = [], []
        while len(banks) < batch:
            index = int(rng.integers(len(self.banks)))
            spare = len(self.tags[index]) - columns
            if spare < 0:
                continue
            first = int(rng.integers(0, spare + 1))
            decibel = rng.uniform(-level_db, level_db)
            crop = self.banks[index][first * PATCH : (first + columns) * PATCH].float()
            banks.append(crop + decibel * np.log(10) / 10 / (2 * FBANK_STD))
            tags.append(self.tags[index][first : first + columns])
        return torch.stack(banks), torch.stack(tags)


class Tagger(nn.Module):
    """BEATs with a linear classifier on every token; the classifier is thrown away after pretraining."""

    def __init__(self, config: BEATsConfig) -> None:
        super().__init__()
        self.beats = BEATs(config)
        self.head = nn.Linear(config.encoder_embed_dim, len(LABELS))

    def forward(self, banks: Tensor) -> Tensor:
        """[B, F, 128] -> logits [B, F / 16, 8, classes]."""
        frames = torch.full((len(banks),), banks.shape[1])
        tokens, _ = self.beats(banks, frames)
        logits: Tensor = self.head(tokens).unflatten(1, (-1, TOKENS_PER_PATCH))
        return logits


def build_config(size: BeatsSize) -> BEATsConfig:
    """Choose the variant that SALMONN uses (deep norm, gated relative bias) in a small size."""
    return BEATsConfig(
        input_patch_size=PATCH,
        embed_dim=size.embed,
        encoder_layers=size.layers,
        encoder_embed_dim=size.width,
        encoder_ffn_embed_dim=size.ffn,
        encoder_attention_heads=size.heads,
        deep_norm=True,
        conv_pos=size.conv_pos,
        conv_pos_groups=size.conv_pos_groups,
        relative_position_embedding=True,
        num_buckets=size.num_buckets,
        max_distance=size.max_distance,
        gru_rel_pos=True,
    )


def pretrain_beats(settings: BeatsPretraining) -> dict[str, float]:
    """Train the encoder and write it, {'cfg', 'model'} with float16 tensors.

    Returns:
        Shares of clips of the other corpus whose set of classes is exactly right: all, and by relation.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    scenes = Scenes(read_corpus(Path(settings.data)))
    other = read_corpus(Path(settings.check))
    others = Scenes(other, settings.check_clips)
    relations = [label["relation"] for label in other.labels[: settings.check_clips]]
    config = build_config(settings.model)
    tagger = Tagger(config)
    parameters = list(tagger.parameters())
    optimizer = build_optimizer(parameters, settings)
    fewest, most = settings.crop_columns
    started = time.monotonic()
    figures: dict[str, float] = {}
    for step in range(settings.steps):
        set_rate(optimizer, step, settings)
        columns = int(rng.integers(fewest, most + 1))
        banks, tags = scenes.draw(rng, batch=settings.batch_size, columns=columns, level_db=settings.level_db)
        logits = tagger(banks)
        wanted = tags[:, :, None].expand_as(logits)
        weight = torch.tensor(settings.positive_weight)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
        update(optimizer, loss, parameters, settings)
        last = step == settings.steps - 1
        if step % settings.log_freq == 0 or last:
            logger.info("beats step %d loss %.4f (%.0f s)", step, loss.item(), time.monotonic() - started)
        if (step + 1) % settings.check_freq == 0 or last:
            figures = _evaluate(tagger.eval(), others, relations)
            tagger.train()
            logger.info("beats step %d clips right: %s", step, figures)
            _save(tagger.beats, config, Path(settings.output))
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


def _save(beats: BEATs, config: BEATsConfig, target: Path) -> None:
    """Write the released layout: old-style weight norm names, the shared bias table once per layer."""
    state = {_released_name(key): value.half() for key, value in beats.state_dict().items()}
    table = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    for layer in range(1, config.encoder_layers):
        state[table.format(layer)] = state[table.format(0)]
    save_checkpoint(target, state, cfg=asdict(config))


def _released_name(ours: str) -> str:
    for released, own in BEATS_KEY_TABLE:
        if ours.startswith(own):
            return released + ours[len(own) :]
    return ours
