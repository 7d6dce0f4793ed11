"""The speech encoder of a configuration: which encoders it has, how wide their frames are and how these are cut.

A model that is loaded, one without weights (`meta.py`) and a tiny one (`tiny.py`) differ in where their encoders come
from. All get their bridge here, so that an encoder or a window is known in one place.
"""

from collections.abc import Mapping
from copy import copy
from pathlib import Path

import torch
from torch import nn
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.audio.reading import MAX_SECONDS
from salmonn.config.choices import FRAMES_A_SECOND
from salmonn.config.schema import ModelConfig
from salmonn.frontend.features import FrontEnd
from salmonn.model import components
from salmonn.model.audio_encoder import load_audio_encoder
from salmonn.model.beats import BEATs
from salmonn.model.speech_encoder import SpeechEncoder, Windows, audio_width
from salmonn.quantization.layers import unpack_for_cpu


def build_speech_encoder(
    parts: ModelConfig,
    *,
    whisper: WhisperEncoder,
    beats: nn.Module | None,
    extractor: WhisperFeatureExtractor,
    output_width: int,
    qformer_sizes: Mapping[str, int] | None = None,
) -> SpeechEncoder:
    """Lay an untrained bridge, as configured, over encoders.

    Args:
        parts: the section `model`.
        whisper: Whisper's encoder.
        beats: BEATs, another audio encoder (`audio_encoder.py`), or None.
        extractor: Whisper's feature extractor.
        output_width: H, the width of the language model.
        qformer_sizes: sizes of the Q-Former that take the place of the configured ones.

    Raises:
        CheckpointError: the Q-Former's sizes cannot be read.
    """
    if parts.context_seconds < MAX_SECONDS:
        extractor = shorten_context(whisper, extractor, parts.context_seconds)
    width, patch_frames = whisper.config.d_model, 0
    if beats is not None:
        width += audio_width(beats)
        patch_frames = beats.config.input_patch_size if isinstance(beats, BEATs) else 0
    qformer = components.qformer_config(parts.qformer_path, encoder_width=width)
    qformer.update(dict(qformer_sizes or {}))
    windows = Windows.from_seconds(length=parts.second_per_window, stride=parts.second_stride)
    return SpeechEncoder(
        front_end=FrontEnd(
            extractor, patch_frames=patch_frames, keeps_waves=beats is not None and not isinstance(beats, BEATs)
        ),
        whisper=whisper,
        beats=beats,
        qformer_config=qformer,
        num_queries=parts.num_speech_query_token,
        windows=windows if parts.window_level_Qformer else None,
        output_width=output_width,
    )


def shorten_context(
    whisper: WhisperEncoder, extractor: WhisperFeatureExtractor, seconds: float
) -> WhisperFeatureExtractor:
    """Let Whisper hear the first seconds of its window: its later positions are dropped, for good.

    A Whisper that hears no more anyway stays as it is.

    Args:
        whisper: the encoder.
        extractor: its feature extractor.
        seconds: a whole number of frames of 20 ms.

    Returns:
        WhisperFeatureExtractor: one whose window has these seconds.
    """
    frames = round(seconds * FRAMES_A_SECOND)
    positions: nn.Embedding = whisper.embed_positions
    if frames >= positions.num_embeddings:
        return extractor
    kept = nn.Parameter(positions.weight.detach()[:frames].clone(), requires_grad=False)
    whisper.embed_positions = nn.Embedding(frames, positions.embedding_dim, _weight=kept)
    whisper.embed_positions.requires_grad_(False)
    whisper.max_source_positions = whisper.config.max_source_positions = frames
    shorter = copy(extractor)
    shorter.chunk_length = seconds
    shorter.n_samples = round(seconds * extractor.sampling_rate)
    shorter.nb_max_frames = shorter.n_samples // extractor.hop_length
    return shorter


def load_speech_encoder(
    parts: ModelConfig, *, output_width: int, device: torch.device, dtype: torch.dtype, token: str | None, drawn: bool
) -> SpeechEncoder:
    """Load the configured encoders and lay an untrained bridge over them.

    Args:
        parts: the section `model`.
        output_width: H, the width of the language model.
        device: where all of it is put.
        dtype: of the encoders; the bridge is float32.
        token: for the hub.
        drawn: whether the bridge gets its random initial values; False where all of them are loaded next.

    Raises:
        CheckpointError: a part cannot be loaded.
    """
    whisper = components.load_whisper_encoder(
        parts.whisper_path, device=device, dtype=dtype, token=token, kind=parts.quantize.kind_of("whisper")
    )
    unpack_for_cpu(whisper, train=False)
    beats: nn.Module | None = None
    if parts.audio_class:
        beats = load_audio_encoder(parts.audio_class, parts.audio_encoder_path, device=device, dtype=dtype)
    elif parts.beats_file:
        beats = components.load_beats(Path(parts.beats_file), device=device, dtype=dtype)
    extractor = components.load_front_end_extractor(parts.whisper_path, token)
    # Drawn on the CPU whatever the device, so that a seed gives the same bridge everywhere.
    with torch.device("cpu" if drawn else "meta"):
        encoder = build_speech_encoder(
            parts, whisper=whisper, beats=beats, extractor=extractor, output_width=output_width
        )
    components.give_memory(encoder, device)
    return encoder.to(device)
