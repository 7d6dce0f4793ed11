"""FENSE's two models (Zhou et al. 2022, arXiv:2110.04684): tokenised captions in, a similarity and an error a row out.

A process of its own runs aac-metrics' code with the models that are on this machine, and fetches nothing. In the folder
FENSE_DATA (else where torch keeps its own, hub/fense_data) lies the detector's .ckpt; the sentence encoder and the
detector's base are folders of their names beside it, or in the cache of huggingface_hub.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.errors import MetricUnavailableError

SBERT = "paraphrase-TinyBERT-L6-v2"
DETECTOR = "echecker_clotho_audiocaps_base"
PENALTY = 0.9
"""What an error takes off a score, as a part of it."""
PACKAGES = ("aac-metrics", "sentence-transformers", "transformers")

_INSTALL = "install what has it: pip install aac-metrics==0.5.4 requests"
_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ModelScores:
    """What the models say.

    Attributes:
        similarity: of each row, the mean over its references of the cosine of their embeddings; () if not asked for.
        errors: of each row 1.0 where the detector finds an error with a probability above 0.9, else 0.0; likewise.
    """

    similarity: tuple[float, ...]
    errors: tuple[float, ...]


def model_folder() -> Path:
    """Where the detector is looked for, as aac-metrics does it."""
    torch_home = os.environ.get("TORCH_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/torch"
    return Path(os.environ.get("FENSE_DATA") or f"{torch_home}/hub/fense_data").expanduser().absolute()


def check_models(*, detector: bool) -> None:
    """Look for what can be looked for without loading anything.

    Raises:
        MetricUnavailableError: aac-metrics, sentence-transformers or the detector is not there.
    """
    for module in ("aac_metrics", "sentence_transformers"):
        if importlib.util.find_spec(module) is None:
            raise MetricUnavailableError(f"{module} is not installed, and FENSE's models need it", fix=_INSTALL)
    file = model_folder() / f"{DETECTOR}.ckpt"
    if detector and not file.is_file():
        address = f"https://github.com/blmoistawinde/fense/releases/download/V0.1/{DETECTOR}.ckpt"
        raise MetricUnavailableError(f"{file} is not there", fix=f"fetch it once from {address}, or set FENSE_DATA")


def run_models(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, encoder: bool, detector: bool
) -> ModelScores:
    """Run the models over tokenised captions.

    Args:
        candidates: N captions.
        references: N lists of captions.
        encoder: whether similarities are wanted.
        detector: whether errors are wanted.

    Raises:
        MetricUnavailableError: a model is not on this machine, or cannot be run.
    """
    check_models(detector=detector)
    folder = model_folder()
    request = {"candidates": candidates, "references": references, "encoder": encoder, "detector": detector}
    root = Path(__file__).resolve().parents[3]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "FENSE_DATA": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH")))),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "evaluator.scoring.captions.sentence_process"],
            cwd=folder if folder.is_dir() else root,  # a folder of a model's name there is that model
            env=environment,
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise MetricUnavailableError(f"FENSE's models took over {_SECONDS:.0f} s", fix="score fewer clips") from error
    if done.returncode:
        last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason")
        told = f"FENSE's models cannot be run: {last}"
        raise MetricUnavailableError(
            told, fix=f"put {SBERT} and the detector's base model into {folder}, or fetch them"
        )
    answer = json.loads(done.stdout)
    return ModelScores(tuple(answer["similarity"]), tuple(answer["errors"]))
