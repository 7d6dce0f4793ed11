"""From waveforms to audio tokens: Whisper || BEATs -> windows -> Q-Former -> projection (SALMONN, arXiv:2310.13289).

`encode` is the frozen half (both encoders), `bridge` the trained half. Thirty seconds give T = 1500 frames at 50 Hz,
windows of 17 with stride 17 -> W = 88, and with Q = 1 query per window 88 audio tokens, whatever the clip's length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2QFormerConfig, Blip2QFormerModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.frontend.features import Features, FrontEnd
from salmonn.model.beats import BEATs

FRAMES_PER_30_SECONDS = 1500
SIMILAR = 0.75
"""Clips shorter than this part of a group's longest are run in another group."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the frozen encoders say of B clips.

    Attributes:
        whisper: [B, T, Dw], Whisper's last hidden state.
        beats: [B, T, Db], BEATs' tokens (or [B, 0, 0] without BEATs); what lies past a clip's tokens means nothing.
        beats_tokens: int64 [B], BEATs' valid tokens of each clip.
    """

    whisper: Tensor
    beats: Tensor
    beats_tokens: Tensor


@dataclass(frozen=True, slots=True)
class Windows:
    """How frames are cut into windows, in frames; None for one window over everything."""

    length: int
    stride: int

    @classmethod
    def from_seconds(cls, *, length: float, stride: float) -> "Windows":
        """0.333333 s -> 17 frames, the original's rounding at 1500 frames per 30 s.

        Raises:
            ValueError: a length or stride that rounds to no frame.
        """
        frames = [round(FRAMES_PER_30_SECONDS * seconds / 30) for seconds in (length, stride)]
        if min(frames) < 1:
            raise ValueError(f"a window of {length} s with stride {stride} s rounds to no frame (20 ms each)")
        return cls(length=frames[0], stride=frames[1])


class SpeechEncoder(nn.Module):
    """Both encoders, the window-level Q-Former and the projection to the language model's width.

    Args:
        front_end: features of both encoders.
        whisper: Whisper's encoder, width Dw.
        beats: BEATs or another encoder of sounds (`audio_encoder.py`), width Db, or None.
        qformer_config: sizes of the Q-Former; `encoder_hidden_size` must be Dw + Db.
        num_queries: Q, query tokens per window.
        windows: window length and stride in frames, or None for a single window over all frames.
        output_width: H, the width of the language model.
    """

    def __init__(
        self,
        *,
        front_end: FrontEnd,
        whisper: WhisperEncoder,
        beats: nn.Module | None,
        qformer_config: Blip2QFormerConfig,
        num_queries: int,
        windows: Windows | None,
        output_width: int,
    ) -> None:
        super().__init__()
        self.front_end = front_end
        self.whisper = whisper
        self.beats = beats
        self.windows = windows
        self.ln_speech = nn.LayerNorm(whisper.config.d_model)
        self.ln_audio = None if beats is None else nn.LayerNorm(audio_width(beats))
        self.query_tokens = nn.Parameter(torch.zeros(1, num_queries, qformer_config.hidden_size))
        nn.init.normal_(self.query_tokens, std=qformer_config.initializer_range)
        self.qformer = Blip2QFormerModel(qformer_config)
        self.projection = nn.Linear(qformer_config.hidden_size, output_width)

    def hold_bridge(self, dtype: torch.dtype) -> None:
        """Hold norms, queries, Q-Former and projection in a dtype."""
        bridge: tuple[nn.Module | None, ...] = (self.ln_speech, self.ln_audio, self.qformer, self.projection)
        for module in bridge:
            if module is not None:
                module.to(dtype)
        self.query_tokens.data = self.query_tokens.data.to(dtype)

    def frozen_modules(self) -> list[nn.Module]:
        """The encoders, which are never trained."""
        return [module for module in (self.whisper, self.beats) if module is not None]

    @torch.no_grad()
    def encode(self, waves: Sequence[NDArray[np.float32]]) -> Encoded:
        """Run both frozen encoders on B waveforms, float32 [N] each at 16 kHz."""
        features = self.front_end(waves, self.whisper.conv1.weight.device)
        return self.with_sounds(self.hear_speech(features), features)

    def hear_speech(self, features: Features) -> Tensor:
        """Whisper alone: -> [B, T, Dw]."""
        hidden: Tensor = self.whisper(features.mel.to(self.whisper.conv1.weight.dtype)).last_hidden_state
        return hidden

    def with_sounds(self, whisper: Tensor, features: Features) -> Encoded:
        """Add what BEATs or the encoder in its place hears, where there is one, to what Whisper has."""
        if self.beats is None:
            return self.without_sounds(whisper)
        if not isinstance(self.beats, BEATs):
            assert features.waves is not None, "the front end keeps waves for an encoder of one's own"
            frames, found = self.beats(features.waves, features.wave_lengths)
            return Encoded(whisper, frames, found)
        counts = self.beats.count_tokens(features.fbank_frames, bins=features.fbank.shape[2])
        return Encoded(whisper, self._hear_sounds(self.beats, features), counts)

    @staticmethod
    def without_sounds(whisper: Tensor) -> Encoded:
        """What Whisper hears alone."""
        clips = whisper.shape[0]
        return Encoded(whisper, whisper.new_zeros(clips, 0, 0), torch.zeros(clips, dtype=torch.int64))

    @staticmethod
    def _hear_sounds(beats: BEATs, features: Features) -> Tensor:
        """Run BEATs on clips of similar length together: padding would cost it as much as sound, attention squared.

        The host knows the lengths, and the device orders the clips itself, so that neither waits for the other.

        Returns:
            [B, T, Db], zeros behind a clip's group.
        """
        fbank, frames = features.fbank.to(beats.patch_embedding.weight.dtype), features.fbank_frames
        groups = similar_lengths(features.fbank_lengths)
        if len(groups) == 1:
            together: Tensor = beats(fbank, frames)[0]
            return together
        # Longest first, equal ones as they come: the order in which `similar_lengths` deals clips to groups.
        order = frames.argsort(descending=True, stable=True)
        heard: list[tuple[Tensor, Tensor]] = []
        for group, chosen in zip(groups, torch.split(order, [len(group) for group in groups]), strict=True):
            longest = features.fbank_lengths[group[0]]
            bank = fbank[:, :longest].index_select(0, chosen)
            heard.append((chosen, beats(bank, frames.index_select(0, chosen))[0]))
        longest_heard = heard[0][1]
        joined = longest_heard.new_zeros(fbank.shape[0], *longest_heard.shape[1:])
        for chosen, tokens in heard:
            joined[:, : tokens.shape[1]].index_copy_(0, chosen, tokens)
        return joined

    def bridge(self, encoded: Encoded) -> Tensor:
        """Fuse, window, query and project: -> [B, W x Q, H] in the bridge's dtype."""
        return self.project(self.attend(encoded), clips=encoded.whisper.shape[0])

    def attend(self, encoded: Encoded) -> Tensor:
        """Fuse, window and query: -> [B x W, Q, D], D the Q-Former's width."""
        frames = self.fuse(encoded)
        windows = frames if self.windows is None else self._cut(frames, self.windows)
        queries = self.query_tokens.expand(windows.shape[0], -1, -1)
        attended: Tensor = self.qformer(query_embeds=queries, encoder_hidden_states=windows).last_hidden_state
        return attended

    def project(self, attended: Tensor, *, clips: int) -> Tensor:
        """Project to the language model's width: [B x W, Q, D] of B clips -> [B, W x Q, H]."""
        projected: Tensor = self.projection(attended)
        return projected.reshape(clips, -1, self.projection.out_features)

    def fuse(self, encoded: Encoded) -> Tensor:
        """Normalise both streams and lay them side by side: -> [B, T, Dw + Db].

        BEATs' places past a clip's own tokens become exact zeros after the norm, which is what a clip alone has there.
        """
        dtype = self.ln_speech.weight.dtype
        speech: Tensor = self.ln_speech(encoded.whisper.to(dtype))
        if self.ln_audio is None:
            return speech
        audio = self.ln_audio(encoded.beats.to(dtype))
        places = torch.arange(audio.shape[1], device=audio.device)
        # Kept clips bring their counts in the host's memory.
        tokens = encoded.beats_tokens.to(audio.device, non_blocking=True)
        audio = audio.masked_fill(places[None, :, None] >= tokens[:, None, None], 0.0)
        length = max(speech.shape[1], audio.shape[1])
        return torch.cat([functional.pad(x, (0, 0, 0, length - x.shape[1])) for x in (speech, audio)], dim=-1)

    @staticmethod
    def _cut(frames: Tensor, windows: Windows) -> Tensor:
        """[B, T, D] -> [B x W, length, D]; frames after the last whole window are dropped."""
        # unfold: [B, T, D] -> [B, W, D, length]
        cut = frames.unfold(1, windows.length, windows.stride)
        return cut.transpose(2, 3).flatten(0, 1)


def audio_width(encoder: nn.Module) -> int:
    """Db, the width of what BEATs or the encoder in its place gives."""
    width: int = encoder.config.encoder_embed_dim if isinstance(encoder, BEATs) else encoder.width  # type: ignore[assignment]
    return width


def similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Group places so that none of a group is much shorter than its longest; longest first, in groups and within.

    Example:
        >>> similar_lengths([100, 10, 90, 9])
        [[0, 2], [1, 3]]
    """
    groups: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not groups or lengths[place] < SIMILAR * longest:
            groups.append([])
            longest = lengths[place]
        groups[-1].append(place)
    return groups
