"""What is in the files of a configuration, as short texts: a run goes on only where they are the same.

Each key that names a file or folder has a digest. Small files are read whole, of large ones pieces spread over their
length, so that weights of any size cost a fraction of a second. Times and places do not count: a copy of a file is the
same file.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from salmonn.config.paths import PATHS
from salmonn.config.schema import Config
from salmonn.weights.exported_folder import ADAPTER_FILE
from salmonn.weights.hub import local_copy

UNKNOWN = ""
"""The digest of what is not on this machine yet."""

READ_WHOLE = 64 << 20
PIECES, PIECE = 64, 64 << 10

# What answers depend on, and what training does. A checkpoint to start from is no longer needed by a run that goes on.
ANSWER_KEYS = (
    *("llama_path", "whisper_path", "beats_path", "audio_encoder_path", "qformer_path"),
    *("ckpt", "speech_llama_proj_model", "test_prompt_path"),
)
TRAINING_KEYS = ("llama_path", "whisper_path", "beats_path", "audio_encoder_path", "qformer_path", "prompt_path")

# Of a folder: what loaders read.
_READ = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".pt", ".pth"}


def fingerprints(config: Config, keys: Iterable[str]) -> dict[str, str]:
    """Digest the files that keys of the section `model` name: {"model.beats_path": "..."}; empty keys are left out."""
    named = {f"model.{key}": str(getattr(config.model, key)) for key in keys}
    named["model.ckpt"] = config.model.checkpoint_path
    return {key: fingerprint(value, key) for key, value in named.items() if value and key.partition(".")[2] in keys}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the keys whose files are others than before; what was or is unknown counts as the same."""
    return [key for key, digest in now.items() if digest and before.get(key) and before[key] != digest]


def fingerprint(value: str, key: str) -> str:
    """Digest one file, folder or hub name; UNKNOWN for what is not here."""
    path = Path(value)
    if PATHS[key].hub and not path.exists():
        path = Path(local_copy(value))
    if path.name == ADAPTER_FILE:
        # The adapter stands for its folder, which holds the bridge.
        path = path.parent
    try:
        if path.is_dir():
            return _digest_of_folder(path)
        return _digest(path) if path.is_file() else UNKNOWN
    except OSError:
        # Whoever opens it next says why it cannot be read.
        return UNKNOWN


def _digest_of_folder(path: Path) -> str:
    files = sorted(file for file in path.iterdir() if file.suffix in _READ and file.is_file())
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name} {_digest(file)}\n".encode())
    return total.hexdigest()


def _digest(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\n".encode())
    with path.open("rb") as file:
        for start, length in _pieces(size):
            file.seek(start)
            digest.update(file.read(length))
    return digest.hexdigest()


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    """Places and lengths to read: the whole file, or pieces from its first to its last byte."""
    if size <= READ_WHOLE:
        yield 0, size
        return
    for number in range(PIECES):
        yield (size - PIECE) * number // (PIECES - 1), PIECE
