"""Pretrains one part of the nano model as a YAML file says: what `train.py` does with a section `pretrain`.

In goes the file with `--options`; the part is written where the section says, and its figures are logged.
"""

import json
import logging
import time
from pathlib import Path

from nano.pretrain_config import (
    BeatsPretraining,
    LlamaPretraining,
    Pretraining,
    WhisperPretraining,
    load_pretraining,
)

logger = logging.getLogger(__name__)


def run(cfg_path: Path, options: tuple[str, ...]) -> None:
    """Pretrain the part that a YAML file describes.

    Args:
        cfg_path: A YAML file with the section `pretrain`, such as configs/nano/pretrain_whisper.yaml.
        options: Overrides, such as "pretrain.steps=10".

    Raises:
        ConfigError: The section is wrong; every problem is listed with file and line.
        PromptError: The language model's prompt file is wrong.
    """
    settings = load_pretraining(cfg_path, options)
    started = time.monotonic()
    figures = _pretrain(settings)
    seconds = round(time.monotonic() - started)
    logger.info("%s is written to %s after %d s: %s", settings.part, settings.output, seconds, json.dumps(figures))


def _pretrain(settings: Pretraining) -> dict[str, float]:
    """Import what the part needs, no earlier: a wrong file is told before PyTorch is loaded."""
    import torch

    torch.set_num_threads(settings.threads)
    match settings:
        case WhisperPretraining():
            from nano.pretrain_whisper import pretrain_whisper

            return pretrain_whisper(settings)
        case BeatsPretraining():
            from nano.pretrain_beats import pretrain_beats

            return pretrain_beats(settings)
        case LlamaPretraining():
            from nano.pretrain_llama import pretrain_llama

            return pretrain_llama(settings)
    raise TypeError(f"{type(settings).__name__} is the pretraining of no part")
