"""An Audio Spectrogram Transformer in the place of BEATs, an example of an encoder of one's own.

    model:
      audio_encoder: "examples.ast_encoder:ASTEncoder"     # with this folder's parent on PYTHONPATH, or run from there
      audio_encoder_path: "MIT/ast-finetuned-audioset-10-10-0.4593"

AST looks at 10.24 s at a time and gives 12 patches over each tenth of a second. Longer clips are cut into pieces; the
patches of a moment are averaged and repeated five times, which makes 50 frames a second.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

SAMPLING_RATE = 16_000
FRAME_SHIFT = SAMPLING_RATE // 100
OUTPUT_RATE = 50
SPECIAL_TOKENS = 2


class ASTEncoder(nn.Module):
    """AST behind the protocol of `salmonn/model/audio_encoder.py`.

    Args:
        model: the transformer.
        extractor: its filter bank; computes on the CPU.
    """

    def __init__(self, model: ASTModel, extractor: ASTFeatureExtractor) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.width: int = model.config.hidden_size

    @classmethod
    def build(cls, path: str, *, weights: bool) -> "ASTEncoder":
        """Read a folder or a name on the hub; without weights the sizes alone."""
        config: Any = ASTConfig.from_pretrained(path)
        model = ASTModel.from_pretrained(path, dtype=torch.float32) if weights else ASTModel(config)
        return cls(model, ASTFeatureExtractor.from_pretrained(path))

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waves float32 [B, N] and lengths int64 [B] -> frames [B, T, D] at 50 Hz and counts int64 [B]."""
        sizes = lengths.tolist()
        clips = [self._frames(wave[:size]) for wave, size in zip(waves, sizes, strict=True)]
        counts = torch.tensor([clip.shape[0] for clip in clips], device=waves.device)
        return nn.utils.rnn.pad_sequence(clips, batch_first=True), counts

    def _frames(self, wave: Tensor) -> Tensor:
        """One clip alone: [N] -> [T, D]."""
        config = self.model.config
        weight = self.model.embeddings.patch_embeddings.projection.weight
        pieces = [piece.cpu().numpy() for piece in wave.split(config.max_length * FRAME_SHIFT)]
        # A last piece of less than a window has no frame.
        pieces = [piece for piece in pieces if piece.shape[0] >= SAMPLING_RATE // 40] or pieces[:1]
        bank = self.extractor(pieces, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_values
        hidden = self.model(bank.to(weight)).last_hidden_state[:, SPECIAL_TOKENS:]
        rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        moments = hidden.unflatten(1, (rows, -1)).mean(dim=1)
        repeats = OUTPUT_RATE * config.time_stride // 100
        frames = moments.repeat_interleave(repeats, dim=1).flatten(0, 1)
        return frames[: max(wave.shape[0] * OUTPUT_RATE // SAMPLING_RATE, 1)]
