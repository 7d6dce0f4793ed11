"""Pretrains the nano Whisper encoder: which phoneme and which word is heard in every 20 ms frame.

The speech corpus goes in; nano/whisper/ (config, weights, feature extractor) comes out. The decoder that belongs
to the file format is never trained nor used.
"""

import copy
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from nano.corpus import Corpus, read_corpus
from nano.schedule import cosine

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 10
FRAMES = 50 * WINDOW_SECONDS
SAMPLES = 16000 * WINDOW_SECONDS
SINGLE_SHARE = 0.3
SILENCE_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Targets:
    """What is heard in every frame: phoneme and word numbers (0 = neither), int64 [B, T]; word onsets, bool [B, T]."""

    phonemes: Tensor
    words: Tensor
    onsets: Tensor


class LabelledWindows:
    """Draws ten-second windows: several utterances in a row, or one followed by silence as in evaluation."""

    def __init__(self, corpus: Corpus, rng: np.random.Generator, *, like: "LabelledWindows | None" = None) -> None:
        self.corpus = corpus
        self.rng = rng
        self.phonemes = self._vocabulary("phonemes") if like is None else like.phonemes
        self.words = self._vocabulary("words") if like is None else like.words
        self._queue: list[int] = []

    def draw(self, count: int, *, single: bool | None = None) -> tuple[list[NDArray[np.float32]], Targets]:
        """Draw `count` windows of float32 [N] with their targets; `single` forces one utterance per window."""
        waves = []
        labels = np.zeros((3, count, FRAMES), np.int64)
        for row in range(count):
            alone = self.rng.random() < SINGLE_SHARE if single is None else single
            waves.append(self._fill(labels[:, row], alone))
        phonemes, words, onsets = torch.from_numpy(labels)
        return waves, Targets(phonemes, words, onsets.bool())

    def _fill(self, labels: NDArray[np.int64], alone: bool) -> NDArray[np.float32]:
        wave = np.zeros(SAMPLES, np.float32)
        place = 0
        while True:
            if not self._queue:
                self._queue = [int(i) for i in self.rng.permutation(len(self.corpus))]
            clip = self.corpus.wave(self._queue[-1])
            if place + len(clip) > SAMPLES:
                return wave
            self._label(labels, self._queue.pop(), place / 16000)
            clip = clip * self.rng.uniform(0.5, 1.0)
            if self.rng.random() < 0.3:
                clip = clip + self.rng.standard_normal(len(clip)) * 10 ** self.rng.uniform(-3.5, -2.2)
            wave[place : place + len(clip)] = clip
            if alone:
                return wave
            place += len(clip)

    def _label(self, labels: NDArray[np.int64], index: int, offset: float) -> None:
        entry = self.corpus.labels[index]
        for row, (key, vocabulary) in enumerate((("phonemes", self.phonemes), ("words", self.words))):
            for label, start, end in entry[key]:
                labels[row, round((offset + start) * 50) : round((offset + end) * 50)] = vocabulary.get(label, 0)
        for _, start, _ in entry["words"]:
            first = round((offset + start) * 50)
            labels[2, first : first + 4] = 1

    def _vocabulary(self, key: str) -> dict[str, int]:
        found = {item[0] for entry in self.corpus.labels for item in entry[key]}
        return {label: number for number, label in enumerate(sorted(found), start=1)}


class Heads(nn.Module):
    """Linear classifiers over the encoder's frames; thrown away after pretraining."""

    def __init__(self, width: int, phonemes: int, words: int) -> None:
        super().__init__()
        self.phonemes = nn.Linear(width, phonemes + 1)
        self.words = nn.Linear(width, words + 1)
        self.onsets = nn.Linear(width, 1)

    def loss(self, frames: Tensor, targets: Targets) -> Tensor:
        """Weighted sum of the three losses over frames [B, T, D]."""
        weight = torch.where(targets.words == 0, SILENCE_WEIGHT, 1.0)
        phonemes = functional.cross_entropy(self.phonemes(frames).mT, targets.phonemes, reduction="none")
        words = functional.cross_entropy(self.words(frames).mT, targets.words, reduction="none")
        onsets = functional.binary_cross_entropy_with_logits(
            self.onsets(frames)[..., 0], targets.onsets.float(), reduction="none"
        )
        return ((phonemes + words + onsets) * weight).sum() / weight.sum()

    def accuracy(self, frames: Tensor, targets: Targets) -> tuple[float, float]:
        """Shares of spoken frames whose phoneme and word are right."""
        spoken = targets.words != 0
        phonemes = (self.phonemes(frames).argmax(-1) == targets.phonemes)[spoken]
        words = (self.words(frames).argmax(-1) == targets.words)[spoken]
        return float(phonemes.float().mean()), float(words.float().mean())


def build_model() -> WhisperModel:
    """The nano Whisper with fresh weights: 3 encoder layers of width 128 over 500 frames."""
    config = WhisperConfig(
        vocab_size=16,
        num_mel_bins=80,
        d_model=128,
        encoder_layers=3,
        encoder_attention_heads=4,
        encoder_ffn_dim=384,
        decoder_layers=1,
        decoder_attention_heads=4,
        decoder_ffn_dim=16,
        max_source_positions=FRAMES,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return WhisperModel(config)


def pretrain(data: Path, check: Path, target: Path, *, steps: int, seed: int, batch: int = 8) -> dict[str, float]:
    """Train the encoder and save it.

    Args:
        data: The corpus of utterances with timed labels.
        check: Another corpus of the same kind, to measure on.
        target: Folder to write: config.json, model.safetensors (float16), preprocessor_config.json.
        steps: Optimizer steps.
        seed: Of everything random.
        batch: Windows per step.

    Returns:
        Frame accuracies on the other corpus.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    corpus = read_corpus(data)
    windows = LabelledWindows(corpus, rng)
    others = LabelledWindows(read_corpus(check), rng, like=windows)
    extractor = WhisperFeatureExtractor(chunk_length=WINDOW_SECONDS)
    model = build_model()
    encoder = model.encoder
    heads = Heads(128, len(windows.phonemes), len(windows.words))
    parameters = [p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, steps, peak=2e-3, warmup=80)
        waves, targets = windows.draw(batch)
        mel = _hide_bands(_mel(extractor, waves), rng)
        loss = heads.loss(encoder(mel).last_hidden_state, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 25 == 0 or step == steps - 1:
            logger.info("whisper step %d loss %.3f (%.0f s)", step, loss.item(), time.monotonic() - started)
        if step % 200 == 199 or step == steps - 1:
            figures = _evaluate(encoder.eval(), heads, others, extractor)
            encoder.train()
            logger.info("whisper step %d frames right: %s", step, figures)
            copy.deepcopy(model).half().save_pretrained(target)
            extractor.save_pretrained(target)
    return figures


@torch.no_grad()
def _evaluate(
    encoder: nn.Module, heads: Heads, windows: LabelledWindows, extractor: WhisperFeatureExtractor
) -> dict[str, float]:
    waves, targets = windows.draw(32, single=True)
    phonemes, words = heads.accuracy(encoder(_mel(extractor, waves)).last_hidden_state, targets)
    return {"phonemes": round(phonemes, 3), "words": round(words, 3)}


def _mel(extractor: WhisperFeatureExtractor, waves: list[NDArray[np.float32]]) -> Tensor:
    mel: Tensor = extractor(waves, sampling_rate=16000, return_tensors="pt", device="cpu").input_features
    return mel


def _hide_bands(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Replace one band of up to 12 mel bins by the window's mean, in every other window [B, M, 2T]."""
    for row in mel:
        if rng.random() < 0.5:
            width = int(rng.integers(2, 13))
            first = int(rng.integers(0, 80 - width))
            row[first : first + width] = row.mean()
    return mel
