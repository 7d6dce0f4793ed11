"""What a run costs beside the model, by the number of rows: `python benchmarks/many_rows.py [ROWS...]`.

Every row is the same short clip with another text, and the model answers at once. In: numbers of rows (10,000 and
100,000; 1,000,000 takes a quarter of an hour). Out: a line each with the CPU seconds of the whole command, its children
included, those of a row without decoding audio and without the normaliser and jiwer, which are measured alone in the
same process before, and the largest resident size.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

RATE = 16000
ALONE_ROWS = 20_000
"""Rows whose audio and texts are read alone, for comparison."""


class StubAnswer(NamedTuple):
    """An answer of the contract's shape."""

    index: int  # type: ignore[assignment]
    text: str
    num_tokens: int
    finish_reason: str


class Stub:
    """A model that answers at once, a twelfth of the rows wrong."""

    sampling_rate = RATE

    def generate(self, requests: Iterable[Any]) -> Iterator[StubAnswer]:
        """Answer each request when it is pulled."""
        for request in requests:
            yield StubAnswer(request.index, said(request.index + request.index % 983 // 900), 8, "stop")


class StubProvider:
    """The model package of the stub."""

    __name__ = "stub"

    def load_model(self, config: Any, device: str) -> Stub:
        """The stub."""
        return Stub()

    def tasks(self, config: Any) -> dict[str, bool]:
        """Speech recognition alone."""
        return {"asr": False}


def said(number: int) -> str:
    """A short sentence."""
    return f"the cat sat on mat number {number}"


def main() -> None:
    """Measure each number of rows in a process of its own."""
    if sys.argv[1:2] == ["--one"]:
        run_one(int(sys.argv[2]), Path(sys.argv[3]))
        return
    sizes = [int(argument.replace(",", "").replace("_", "")) for argument in sys.argv[1:]] or [10_000, 100_000]
    titles = {"rows": 10, "CPU s": 8, "ms/row": 7, "audio": 7, "scoring": 8, "rest": 7, "MB": 6, "clock s": 8}
    print(" ".join(f"{title:>{width}}" for title, width in titles.items()))
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_set(rows, Path(folder))
            begin = time.monotonic()
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(rows), folder], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            seconds = time.monotonic() - begin
        each = 1000 * found["cpu"] / rows
        rest = each - found["audio"] - found["scoring"]
        print(
            f"{rows:>10,} {found['cpu']:>8.1f} {each:>7.3f} {found['audio']:>7.3f} {found['scoring']:>8.3f} "
            f"{rest:>7.3f} {found['peak'] / 1e6:>6.0f} {seconds:>8.0f}",
            flush=True,
        )


def write_set(rows: int, folder: Path) -> None:
    """One clip of a second, an annotation of so many rows of it, and a configuration."""
    soundfile.write(folder / "clip.wav", np.full(RATE, 0.1), RATE)
    with (folder / "asr.json").open("w", encoding="utf-8") as file:
        file.write('{"annotation": [')
        for row in range(rows):
            text = {"testset_id": f"row{row:07d}", "path": "clip.wav", "task": "asr", "text": said(row)}
            file.write(("," if row else "") + "\n" + json.dumps(text))
        file.write("\n]}\n")
    (folder / "run.yaml").write_text(
        f"model: {{}}\ndatasets: {{prefix: {folder}, test_ann_path_asr: {folder}/asr.json}}\n"
        f"run: {{latency_clips: 0, num_workers: 2, output_dir: {folder}}}\n"
    )


def run_one(rows: int, folder: Path) -> None:
    """Run the command on a set, and print what it took."""
    from evaluator.cli import build_evaluate_command

    audio, scoring = alone(folder)
    before = cpu_seconds()
    command = build_evaluate_command(StubProvider(), default_config=folder / "run.yaml")  # type: ignore[arg-type]
    try:
        command(["--mode", "valid_asr"])
    except SystemExit as ending:
        if ending.code:
            raise
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"cpu": cpu_seconds() - before, "peak": peak, "audio": audio, "scoring": scoring}))


def alone(folder: Path) -> tuple[float, float]:
    """Milliseconds of CPU a row for decoding the clip, and for the normaliser and jiwer on words and on characters."""
    from scoring import seconds_alone

    from evaluator.audio.loading import load_audio

    load_audio(folder / "clip.wav", RATE)
    begin = time.process_time()
    for _ in range(ALONE_ROWS):
        load_audio(folder / "clip.wav", RATE)
    audio = time.process_time() - begin
    rows = range(ALONE_ROWS)
    scoring = seconds_alone([said(row) for row in rows], [said(row + row % 983 // 900) for row in rows])
    return 1000 * audio / ALONE_ROWS, 1000 * scoring / ALONE_ROWS


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
