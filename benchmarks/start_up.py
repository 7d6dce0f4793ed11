"""Where start-up goes: `python benchmarks/start_up.py [--mid-size] [--against DIR] [--imports]`.

Loads a model as `evaluate_salmonn.py` does, from the interpreter's first moment to the model that can answer, each time
in a fresh process, and times the parts: CPU and wall seconds, medians and ranges. The shipped nano model by default, or
a random one of middle size (float16). `--against` names the checkout of another revision, and both load the same files
in turn. Files are in the page cache: they were read once before. `--imports` adds up what is imported, by package.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "configs/salmonn_eval_config.yaml"
CHILD = "load"
# What is timed: module, function, the name in the table. None of them calls another one.
PARTS: Mapping[tuple[str, str], str] = {
    ("salmonn.model.components", "load_llm"): "language model",
    ("salmonn.model.components", "load_tokenizer"): "tokenizer",
    ("salmonn.model.components", "load_whisper_encoder"): "Whisper",
    ("salmonn.model.components", "load_beats"): "BEATs",
    ("salmonn.model.components", "add_lora"): "LoRA wrapped",
    ("salmonn.model.assembly", "build_speech_encoder"): "bridge built",
    ("salmonn.model.salmonn", "fill_from_checkpoint"): "checkpoint copied",
    ("salmonn.decoding.decoder", "check_supported"): "decoder's try",
}
START, IMPORTS, REST, TOTAL, ENDED = "interpreter", "imports", "everything else", "total", "total, the end included"
ANONYMOUS, PEAK = "anonymous memory, MB", "peak resident, MB"
Times = dict[str, list[float]]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cfg-path", type=Path, default=NANO, help="what to load; default: the nano model")
    parser.add_argument("--mid-size", action="store_true", help="write and load a random model of middle size")
    parser.add_argument("--dtype", default="float16", help="of the model of middle size; default: float16")
    parser.add_argument("--against", type=Path, help="checkout of another revision, the arm 'before'")
    parser.add_argument("--runs", type=int, default=5, help="of each arm; default: 5")
    parser.add_argument("--imports", action="store_true", help="list packages by the time of their imports, and stop")
    options = parser.parse_args()
    arms = {"now": ROOT} if options.against is None else {"before": options.against.resolve(), "now": ROOT}
    if options.imports:
        for name, tree in arms.items():
            print_imports(name, tree)
        return
    with tempfile.TemporaryDirectory() as folder:
        config = options.cfg_path.resolve()
        if options.mid_size:
            from mid_size_parts import write_mid_size

            config = write_mid_size(Path(folder), dtype=options.dtype)
        print_table(measure(arms, config, runs=options.runs))


def measure(arms: Mapping[str, Path], config: Path, *, runs: int) -> dict[str, list[Times]]:
    """Load in fresh processes, the arms in turn, forwards and backwards; one run of each is not counted."""
    found: dict[str, list[Times]] = {name: [] for name in arms}
    for number in range(runs + 1):
        for name in list(arms)[:: 1 if number % 2 else -1]:
            times = run(arms[name], config)
            if number:
                found[name].append(times)
    return found


def run(tree: Path, config: Path) -> Times:
    """One process that loads with the packages of a checkout."""
    began = time.monotonic()
    command = [sys.executable, __file__, CHILD, str(config), str(began)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(tree), check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    times: Times = json.loads(done.stdout.splitlines()[-1])
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    times[ENDED] = [used, time.monotonic() - began]
    return times


def _environment(tree: Path) -> dict[str, str]:
    paths = [str(tree / "audiolm-trainer"), str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Compiled files are kept, as they are for a user: only the first run, which is not counted, compiles.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}


def load(config: Path, began: float) -> None:
    """Load in this process and print the times as JSON: name -> [CPU seconds, wall seconds] (or [MB])."""
    times: Times = {START: [time.process_time(), time.monotonic() - began]}
    # As `salmonn.load_model` does, which keeps the collector away from its imports.
    lasting = importlib.import_module("salmonn.collector").lasting_imports if _has("collector.py") else nullcontext
    with _Clock(times, IMPORTS), lasting():
        inference = importlib.import_module("salmonn.inference.inference")
    for (module, function), part in PARTS.items():
        # The other revision may have it elsewhere.
        if find_spec(module) is not None:
            _time_calls(importlib.import_module(module), function, part, times)
    settings = importlib.import_module("salmonn.config.config").load_config(config, purpose="evaluate")
    model = inference.load_language_model(settings, "cpu")
    times[TOTAL] = [time.process_time(), time.monotonic() - began]
    times[REST] = [times[TOTAL][kind] - sum(t[kind] for n, t in times.items() if n != TOTAL) for kind in (0, 1)]
    times[ANONYMOUS] = [_anonymous_megabytes()]
    times[PEAK] = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    assert model.model is not None
    print(json.dumps(times))


def _has(name: str) -> bool:
    """Whether this checkout's package has a file; an editable install would find the other one's."""
    package = importlib.import_module("salmonn")
    return (Path(str(package.__file__)).parent / name).is_file()


class _Clock:
    """Adds the CPU and wall seconds of its block to a row."""

    def __init__(self, times: Times, part: str) -> None:
        self.row = times.setdefault(part, [0.0, 0.0])

    def __enter__(self) -> None:
        self.began = (time.process_time(), time.monotonic())

    def __exit__(self, *_: object) -> None:
        self.row[0] += time.process_time() - self.began[0]
        self.row[1] += time.monotonic() - self.began[1]


def _time_calls(module: Any, function: str, part: str, times: Times) -> None:
    """Put a clock around a function of a module."""
    original: Callable[..., Any] = getattr(module, function)

    def timed(*arguments: Any, **named: Any) -> Any:
        with _Clock(times, part):
            return original(*arguments, **named)

    setattr(module, function, timed)


def _anonymous_megabytes() -> float:
    """Memory that is no mapped file; 0 where the system does not say."""
    status = Path("/proc/self/status")
    found = status.read_text(encoding="ascii").partition("RssAnon:")[2].split() if status.exists() else []
    return int(found[0]) / 1024 if found else 0.0


def print_table(found: Mapping[str, Sequence[Times]]) -> None:
    """Medians of every part, with the range of the totals."""
    names = [START, IMPORTS, *PARTS.values(), REST, TOTAL, ENDED]
    print("| part | " + " | ".join(f"{arm}: CPU s | {arm}: wall s" for arm in found) + " |")
    print("|---" * (1 + 2 * len(found)) + "|")
    for name in names:
        cells = [_cell([t[name][kind] for t in runs if name in t], name) for runs in found.values() for kind in (0, 1)]
        print(f"| {name} | " + " | ".join(cells) + " |")
    for name in (ANONYMOUS, PEAK):
        print(f"{name}: " + ", ".join(f"{a} {statistics.median(t[name][0] for t in r):.0f}" for a, r in found.items()))


def _cell(values: Sequence[float], name: str) -> str:
    if not values:
        return "-"
    middle = f"{statistics.median(values):.2f}"
    return f"{middle} ({min(values):.2f}-{max(values):.2f})" if name in (TOTAL, ENDED) else middle


def print_imports(arm: str, tree: Path, *, shown: int = 12) -> None:
    """Add up Python's own account of its imports by package. The account itself takes time: read it as shares."""
    command = [sys.executable, "-X", "importtime", "-c", "import salmonn.inference.inference"]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(tree), check=True)
    sums = _by_package(done.stderr.splitlines())
    whole = sum(seconds for seconds, _ in sums.values())
    print(f"{arm}: {whole:.2f} s in {sum(count for _, count in sums.values())} modules")
    for package, (seconds, count) in sorted(sums.items(), key=lambda item: -item[1][0])[:shown]:
        print(f"  {package:24} {seconds:5.2f} s  {100 * seconds / whole:3.0f} %  {count:5} modules")


def _by_package(lines: Iterable[str]) -> dict[str, tuple[float, int]]:
    """Package -> (seconds of its own modules, their number)."""
    sums: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for line in lines:
        fields = line.removeprefix("import time:").split("|")
        if len(fields) == 3 and fields[0].strip().isdigit():
            package = fields[2].strip().partition(".")[0]
            seconds, count = sums[package]
            sums[package] = (seconds + int(fields[0]) / 1e6, count + 1)
    return sums


if __name__ == "__main__":
    load(Path(sys.argv[2]), float(sys.argv[3])) if sys.argv[1:2] == [CHILD] else main()
