"""What a run is made of: noted in its record, and as hashes that must be the same for a run to go on.

In: the model package, the config, the mode, what preflight found. Out: fields of a RunRecord.
"""

import os
import socket
from pathlib import Path

from evaluator.config.config import Config
from evaluator.files import sha256
from evaluator.machine import machine, versions
from evaluator.model import ModelProvider
from evaluator.preflight import Preflight
from evaluator.provider.control import Controlled
from evaluator.provider.loading import name_of
from evaluator.provider.questions import found_fingerprints
from evaluator.run.folder import identity_of
from evaluator.run.record import RunRecord
from evaluator.tasks import Mode


def note_inputs(
    record: RunRecord, provider: ModelProvider, config: Config, mode: Mode, ready: Preflight
) -> dict[str, str]:
    """Note what the run is made of: config, annotation, checkpoint; returns it as hashes."""
    record.mode = mode
    record.rows = len(ready.samples)
    record.annotation = _fingerprint(ready.annotation)
    note_model(record, provider, config)
    record.notices = list(ready.notices)
    record.machine = machine()
    record.process = {"pid": os.getpid(), "host": socket.gethostname()}
    record.limit = None if ready.all_rows is None else len(ready.samples)
    record.identity = identity_of(record, versions())
    return record.identity


def note_model(record: RunRecord, provider: ModelProvider, config: Config) -> None:
    """Note what can be known without the annotation."""
    checkpoint = config.model.get("ckpt")
    record.model = name_of(provider)
    record.config_file = str(config.path)
    record.config = config.public()
    record.checkpoint = _fingerprint(Path(checkpoint)) if isinstance(checkpoint, str) and checkpoint else None
    record.control = provider.control if isinstance(provider, Controlled) else None
    record.model_files = found_fingerprints(provider, config)


def _fingerprint(path: Path) -> dict[str, str | None]:
    """A file's path and hash; None for what is no readable file, of which whoever needs it will tell more."""
    try:
        return {"path": str(path), "sha256": sha256(path) if path.is_file() else None}
    except OSError:
        return {"path": str(path), "sha256": None}
