"""An encoder of sounds of one's own beside Whisper: `model.audio_encoder: package.module:Class`.

The class is a `torch.nn.Module` of this shape; nothing here needs to be imported for it:

    class MyEncoder(nn.Module):
        width: int                                       # D, of a frame

        @classmethod
        def build(cls, path, *, weights): ...            # an encoder, on the CPU

        def forward(self, waves, lengths): ...           # -> frames, counts

    path      `model.audio_encoder_path`
    weights   whether the numbers count, or the sizes alone: then random ones do
    waves     float32 [B, N] at 16 kHz, zeros behind a clip's own samples
    lengths   int64 [B], a clip's own samples: at least a second, at most what Whisper hears
    frames    [B, T, D] of any float dtype
    counts    int64 [B], a clip's own frames; the others are not looked at

Frames lie beside Whisper's one by one, so they should come at 50 Hz from the clip's beginning. A clip must not depend
on the others of its batch. The encoder is frozen, in evaluation mode, in `model.dtype`; waves stay float32.
`examples/ast_encoder.py` is a complete one.
"""

import importlib
import logging
from typing import Any

import torch
from torch import Tensor, nn

from salmonn.audio.loading import SAMPLING_RATE
from salmonn.errors import CheckpointError
from salmonn.weights.checkpoint import report

logger = logging.getLogger(__name__)

_TRIED = (SAMPLING_RATE, SAMPLING_RATE * 3 // 2)
"""Samples of the clips that an encoder is tried with."""


def build_audio_encoder(name: str, path: str, *, weights: bool) -> nn.Module:
    """Build an encoder on the CPU and try it on two clips, frozen.

    Args:
        name: "package.module:Class".
        path: what it is built from.
        weights: whether its numbers count.

    Raises:
        CheckpointError: there is no such class, it cannot be built, or it gives something else than frames and counts.
    """
    factory = _find(name)
    try:
        encoder = factory.build(path, weights=weights)
    except Exception as error:  # somebody else's code
        raise _wrong(name, f"build({path!r}) fails: {type(error).__name__}: {error}") from error
    if not isinstance(encoder, nn.Module):
        raise _wrong(name, f"build gives a {type(encoder).__name__}, not a torch.nn.Module")
    width: Any = getattr(encoder, "width", None)
    if not isinstance(width, int) or width < 1:
        raise _wrong(name, f"width must be a whole number above 0, not {width!r}")
    encoder.eval().requires_grad_(False)
    _try(name, encoder, width)
    return encoder


def load_audio_encoder(name: str, path: str, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The frozen encoder with its weights on a device; see `build_audio_encoder`."""
    encoder = build_audio_encoder(name, path, weights=True).to(device=device, dtype=dtype)
    report(f"audio encoder {name}", path or "no file", encoder.parameters())
    return encoder


def _find(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise _wrong(name, f"{error}; is its folder on PYTHONPATH?") from error
    except AttributeError as error:
        raise _wrong(name, f"{module} has no {attribute}") from error
    except Exception as error:  # somebody else's code
        raise _wrong(name, f"importing {module} fails: {type(error).__name__}: {error}") from error
    if not callable(getattr(found, "build", None)):
        raise _wrong(name, "it has no class method build(path, weights)")
    return found


@torch.no_grad()
def _try(name: str, encoder: nn.Module, width: int) -> None:
    """Run an encoder on noise of a second and of a second and a half, and look at what it gives."""
    lengths = torch.tensor(_TRIED)
    waves = 0.1 * torch.randn(len(_TRIED), max(_TRIED), generator=torch.Generator().manual_seed(0))
    waves[0, _TRIED[0] :] = 0.0
    try:
        given = encoder(waves, lengths)
    except Exception as error:  # somebody else's code
        shapes = f"waves {list(waves.shape)} and lengths [{len(_TRIED)}]"
        raise _wrong(name, f"it fails on {shapes}: {type(error).__name__}: {error}") from error
    if not isinstance(given, tuple) or len(given) != 2 or not all(isinstance(part, Tensor) for part in given):
        raise _wrong(name, f"it must give frames and counts, two tensors, not a {type(given).__name__}")
    frames, counts = given
    wanted = f"[{len(_TRIED)}, T, {width}]"
    if frames.dim() != 3 or frames.shape[0] != len(_TRIED) or frames.shape[2] != width:
        raise _wrong(name, f"frames must be {wanted}, not {list(frames.shape)}")
    if not frames.is_floating_point():
        raise _wrong(name, f"frames must be floats, not {frames.dtype}")
    if counts.shape != (len(_TRIED),) or counts.is_floating_point():
        raise _wrong(name, f"counts must be {len(_TRIED)} whole numbers, not {counts.dtype} {list(counts.shape)}")
    if int(counts.min()) < 1 or int(counts.max()) > frames.shape[1]:
        raise _wrong(name, f"counts must be from 1 to {frames.shape[1]}, the frames it gives, not {counts.tolist()}")


def _wrong(name: str, what: str) -> CheckpointError:
    return CheckpointError(f"model.audio_encoder {name}: {what} (what it must be is in salmonn/model/audio_encoder.py)")
