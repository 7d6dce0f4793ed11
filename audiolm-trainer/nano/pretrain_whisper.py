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
from nano.part_folder import write_folder
from nano.pretrain_config import EncoderSize, WhisperPretraining
from nano.pretrain_step import build_optimizer, set_rate, update

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 10
FRAMES = 50 * WINDOW_SECONDS
SAMPLES = 16000 * WINDOW_SECONDS
MEL_BINS = 80


@dataclass(frozen=True, slots=True)
class Targets:
    """What is heard in every frame: phoneme and word numbers (0 = neither), int64 [B, T]; word onsets, bool [B, T]."""

    phonemes: Tensor
    words: Tensor
    onsets: Tensor


class LabelledWindows:
    """Draws ten-second windows: several utterances in a row, or one followed by silence as in evaluation.

    Args:
        corpus: Utterances with timed labels.
        rng: Source of chance.
        single_share: Windows that hold one utterance and silence.
        like: Windows whose numbers for phonemes and words are taken over.
    """

    def __init__(
        self,
        corpus: Corpus,
        rng: np.random.Generator,
        *,
        single_share: float,
        like: "LabelledWindows | None" = None,
    ) -> None:
        self.corpus = corpus
        self.rng = rng
        self.single_share = single_share
        self.phonemes = self._vocabulary("phonemes") if like is None else like.phonemes
        self.words = self._vocabulary("words") if like is None else like.words
        self._queue: list[int] = []

    def draw(self, count: int) -> tuple[list[NDArray[np.float32]], Targets]:
        """Draw `count` windows of float32 [N] with their targets."""
        waves = []
        labels = np.zeros((3, count, FRAMES), np.int64)
        for row in range(count):
            alone = self.single_share >= 1 or self.rng.random() < self.single_share
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

    def __init__(self, width: int, phonemes: int, words: int, *, silence_weight: float) -> None:
        super().__init__()
        self.silence_weight = silence_weight
        self.phonemes = nn.Linear(width, phonemes + 1)
        self.words = nn.Linear(width, words + 1)
        self.onsets = nn.Linear(width, 1)

    def loss(self, frames: Tensor, targets: Targets) -> Tensor:
        """Weighted sum of the three losses over frames [B, T, D]."""
        weight = torch.where(targets.words == 0, self.silence_weight, 1.0)
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


def build_model(size: EncoderSize) -> WhisperModel:
    """Build a Whisper with fresh weights over 500 frames; its decoder is as small as the file format allows."""
    config = WhisperConfig(
        vocab_size=16,
        num_mel_bins=MEL_BINS,
        d_model=size.width,
        encoder_layers=size.layers,
        encoder_attention_heads=size.heads,
        encoder_ffn_dim=size.ffn,
        decoder_layers=1,
        decoder_attention_heads=size.heads,
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


def pretrain_whisper(settings: WhisperPretraining) -> dict[str, float]:
    """Train the encoder and write it: config.json, model.safetensors (float16), preprocessor_config.json.

    Returns:
        Shares of spoken frames of the other corpus whose phoneme and word are right.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    windows = LabelledWindows(read_corpus(Path(settings.data)), rng, single_share=settings.single_share)
    others = LabelledWindows(read_corpus(Path(settings.check)), rng, single_share=1.0, like=windows)
    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS, chunk_length=WINDOW_SECONDS)
    model = build_model(settings.model)
    encoder = model.encoder
    heads = Heads(
        settings.model.width, len(windows.phonemes), len(windows.words), silence_weight=settings.silence_weight
    )
    parameters = [p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = build_optimizer(parameters, settings)
    started = time.monotonic()
    figures: dict[str, float] = {}
    for step in range(settings.steps):
        set_rate(optimizer, step, settings)
        waves, targets = windows.draw(settings.batch_size)
        mel = _hide_bands(_mel(extractor, waves), rng, settings)
        loss = heads.loss(encoder(mel).last_hidden_state, targets)
        update(optimizer, loss, parameters, settings)
        last = step == settings.steps - 1
        if step % settings.log_freq == 0 or last:
            logger.info("whisper step %d loss %.3f (%.0f s)", step, loss.item(), time.monotonic() - started)
        if (step + 1) % settings.check_freq == 0 or last:
            figures = _evaluate(encoder.eval(), heads, others, extractor, settings.check_windows)
            encoder.train()
            logger.info("whisper step %d frames right: %s", step, figures)
            _save(model, extractor, Path(settings.output))
    return figures


@torch.no_grad()
def _evaluate(
    encoder: nn.Module, heads: Heads, windows: LabelledWindows, extractor: WhisperFeatureExtractor, count: int
) -> dict[str, float]:
    waves, targets = windows.draw(count)
    phonemes, words = heads.accuracy(encoder(_mel(extractor, waves)).last_hidden_state, targets)
    return {"phonemes": round(phonemes, 3), "words": round(words, 3)}


def _save(model: WhisperModel, extractor: WhisperFeatureExtractor, target: Path) -> None:
    def write(folder: Path) -> None:
        copy.deepcopy(model).half().save_pretrained(folder)
        extractor.save_pretrained(folder)

    write_folder(target, write)


def _mel(extractor: WhisperFeatureExtractor, waves: list[NDArray[np.float32]]) -> Tensor:
    mel: Tensor = extractor(waves, sampling_rate=16000, return_tensors="pt", device="cpu").input_features
    return mel


def _hide_bands(mel: Tensor, rng: np.random.Generator, settings: WhisperPretraining) -> Tensor:
    """Replace one band of mel bins by the window's mean, in some of the windows [B, M, 2T]."""
    fewest, most = settings.masked_bands
    for row in mel:
        if rng.random() < settings.masked_share:
            width = int(rng.integers(fewest, most + 1))
            first = int(rng.integers(0, MEL_BINS - width))
            row[first : first + width] = row.mean()
    return mel
