"""Start-up time and memory of a large annotation: `python benchmarks/annotation_memory.py --rows 5000000`.

Writes a made-up annotation to a temporary folder, opens it for the first time in one fresh process and for the second
time in another, which then draws 1,000 batches, once in plain order and once weighted and bucketed by length (Linux
only). Memory is anonymous memory: mapped pages of the table belong to all processes together and can be dropped at
any time.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from salmonn.data.batch_order import build_batch_order
from salmonn.data.dataset import Samples, open_samples

TASKS = {"asr": False, "audiocaption": False, "QA": True}
WEIGHTS = {"asr": 0.5, "QA": 2.25}
FILES = 100
BATCHES = 1000
BATCH_SIZE = 32


def main() -> None:
    """Make the annotation, measure both starts, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--start", nargs=2, metavar=("KIND", "FOLDER"), help="one measurement, in this process")
    options = parser.parse_args()
    if options.start:
        kind, folder = options.start[0], Path(options.start[1])
        first_start(folder) if kind == "first" else second_start(folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_annotation(Path(folder), options.rows)
        # A file that was written a moment ago is not trusted by its times: it would be hashed at the second start.
        time.sleep(3)
        size = (Path(folder) / "train.json").stat().st_size
        print(f"{options.rows:,} rows, {size / 1e6:,.0f} MB of JSON, {FILES} audio files", flush=True)
        print(f"{'':52}{'seconds':>9}{'MB now':>9}{'MB peak':>9}", flush=True)
        for kind in ("first", "second"):
            subprocess.run([sys.executable, __file__, "--start", kind, folder], check=True)
        tables = sum(path.stat().st_size for path in (Path(folder) / "cache" / "annotations").iterdir())
        print(f"the table has {tables / 1e6:,.0f} MB")


def make_annotation(folder: Path, rows: int) -> None:
    """Write few audio files and many rows."""
    for number in range(FILES):
        soundfile.write(folder / f"{number:06}.wav", np.zeros(1600, dtype=np.float32), 16_000)
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(500)]
    names = list(TASKS)
    with (folder / "train.json").open("w", encoding="utf-8") as file:
        file.write('{"annotation": [')
        for number in range(rows):
            text = " ".join(rng.choices(words, k=rng.randint(3, 25)))
            row = {"path": f"{number % FILES:06}.wav", "text": text, "task": names[number % 3], "Q": "what is said?"}
            file.write((",\n" if number else "\n") + json.dumps(row))
        file.write("\n]}\n")


def first_start(folder: Path) -> None:
    """Parse, check and keep the annotation."""
    with measured("first start: parse, check, keep"):
        open_set(folder)


def second_start(folder: Path) -> None:
    """Map the table, plan batches, draw some."""
    with measured("nothing but the imports"):
        pass
    with measured("second start: map the table"):
        samples = open_set(folder)
    with measured(f"{BATCHES} batches of {BATCH_SIZE}, plain order"):
        draw(samples, bucket_by_length=False, task_weights={})
    with measured(f"{BATCHES} batches of {BATCH_SIZE}, weighted and bucketed"):
        draw(samples, bucket_by_length=True, task_weights=WEIGHTS)


def open_set(folder: Path) -> Samples:
    """Open the annotation."""
    return open_samples(str(folder / "train.json"), prefix=str(folder), tasks=TASKS, cache_dir=folder / "cache")


def draw(samples: Samples, *, bucket_by_length: bool, task_weights: dict[str, float]) -> None:
    """Draw batches and read their rows."""
    order = build_batch_order(
        samples,
        batch_size=BATCH_SIZE,
        seed=1,
        drop_last=True,
        bucket_by_length=bucket_by_length,
        task_weights=task_weights,
    )
    characters = 0
    for indices in order.indices(0, min(BATCHES, order.batches_per_pass)):
        characters += sum(len(samples[index].text) for index in indices)
    assert characters > 0


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print seconds, this process's anonymous memory afterwards and its peak meanwhile, sampled every 5 ms."""
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, anonymous_megabytes())
            if done.wait(0.005):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    print(f"{what:52}{seconds:9.1f}{anonymous_megabytes():9.0f}{peak:9.0f}", flush=True)


def anonymous_megabytes() -> float:
    """Memory of this process that is no mapped file."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
