"""What a run will need: memory for the model's files, room for what is written.

In: the configuration and what is known of the clips. Out: findings; the estimates say what they count.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from evaluator.config.config import Config
from evaluator.doctor.finding import Finding
from evaluator.machine import free_memory
from evaluator.preflight import Preflight
from evaluator.tasks import Mode, is_scored

GIB, MIB = 2**30, 2**20
# Measured on runs of data/sample and rounded up: the journal and the CSV, a row's part of scores.json and of the page.
BYTES_A_ROW, BYTES_A_SCORED_ROW = 1000, 1500
# The page itself, and Opus of what a run's page embeds at most.
PAGE_BYTES, EMBEDDED_SECONDS, BYTES_A_SECOND = 1_200_000, 60.0, 6000


def clips(found: Preflight, mode: Mode) -> Finding:
    """How much will be heard."""
    seconds = float(sum(found.seconds))
    texts = [f"{len(found.samples)} for {mode}, {seconds:.1f} s of audio are heard"]
    if found.cut:
        texts.append(f"{found.cut} of them are cut at {found.limit:g} s")
    return Finding("ok", "clips", ", ".join(texts))


def weights(model: Mapping[str, object]) -> Finding | None:
    """Hold the files that the section model names against free memory; None where none is on this machine."""
    paths = {Path(value) for value in model.values() if isinstance(value, str) and value and Path(value).exists()}
    size = sum(_bytes_of(path) for path in paths)
    if not size:
        return None
    free = free_memory()
    text = f"{_shown(size)} in the files that the section model names; in memory as much, and what answering takes"
    if free is not None and size > free:
        return Finding("note", "weights", f"{text}; only {_shown(free)} of main memory are free")
    return Finding("ok", "weights", text)


def disk(config: Config, found: Preflight, mode: Mode) -> Finding:
    """Hold what will be written against what is free where results go."""
    folder = Path(config.run.output_dir)
    rows = len(found.samples)
    need = rows * BYTES_A_ROW
    if is_scored(mode):
        need += rows * BYTES_A_SCORED_ROW
        if config.run.report:
            need += PAGE_BYTES + int(min(float(sum(found.lengths)), EMBEDDED_SECONDS) * BYTES_A_SECOND)
    free = shutil.disk_usage(folder).free
    text = f"about {_shown(need)} will be written to {folder}, where {_shown(free)} are free"
    if need > free:
        return Finding("WRONG", "disk", f"{text}; choose another folder (--output-dir)", exit_code=2)
    return Finding("ok", "disk", text)


def _bytes_of(path: Path) -> int:
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files)


def _shown(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"
