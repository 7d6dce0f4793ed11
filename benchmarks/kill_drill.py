"""Kill what runs, at random, and compare the CSV: `python benchmarks/kill_drill.py --rows 20000 --kills 20 [--ray]`.

A stub model answers many short rows with two workers, on this machine or (--ray) on two nodes of a Ray cluster that
lives on it. Again and again a worker, the driver or (--ray) a node is killed with SIGKILL; a driver is started again
with `--resume auto`. Out: a line for each kill (of a node also how soon the run noticed), and whether the CSV has the
bytes of a run of one process that nobody disturbed.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from many_rows import StubProvider, write_set  # noqa: E402

from evaluator.run.folder import paths_of  # noqa: E402
from evaluator.run.status import RunStatus, read_status  # noqa: E402

LEAST_SECONDS = 0.5
"""Between two kills."""
NOTICE_SECONDS = 60


def main() -> None:
    """Run the drill."""
    if sys.argv[1:2] == ["--serve"]:
        serve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--most-seconds", type=float, default=6.0, help="between two kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Drill(Path(folder), options).run()


def serve() -> None:
    """The evaluate command of the stub."""
    from evaluator.cli import build_evaluate_command

    config = Path(sys.argv[2])
    build_evaluate_command(StubProvider(), default_config=config)(sys.argv[3:])  # type: ignore[arg-type]


class Drill:
    """One drill in a folder."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._rows, self._kills = folder, options.rows, options.kills
        self._most_seconds, self._draw = options.most_seconds, random.Random(options.seed)
        self._cluster = Cluster() if options.ray else None
        self._driver: subprocess.Popen[bytes] | None = None
        self._killed: Counter[str] = Counter()

    def run(self) -> None:
        """Reference, kills, comparison."""
        write_set(self._rows, self._folder)
        self._start("reference")
        self._wait()
        expected = self._digest("reference")
        print(f"{self._rows:,} rows; one process, undisturbed: {expected[:16]}", flush=True)
        begin = time.monotonic()
        while True:
            self._start("drill", *self._workers(), "--resume", "auto")
            if not self._disturb():
                break
        self._wait()
        found = self._digest("drill")
        kills = ", ".join(f"{count} {name}" for name, count in sorted(self._killed.items()))
        same = "the same bytes" if found == expected else "OTHER BYTES"
        print(f"{kills} killed in {time.monotonic() - begin:.0f} s: {found[:16]}, {same}")
        if self._cluster is not None:
            self._cluster.close()
        raise SystemExit(found != expected)

    def _workers(self) -> list[str]:
        return ["--ray", self._cluster.address()] if self._cluster is not None else ["--workers", "2"]

    def _start(self, name: str, *arguments: str) -> None:
        output = ["--output-dir", str(self._folder / name)]
        scoring = ["--options", "scoring.bootstrap_resamples=0", "scoring.metrics=[wer]"]
        config = str(self._folder / "run.yaml")
        command = [sys.executable, __file__, "--serve", config, "--mode", "valid_asr", *output, *arguments, *scoring]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
        with (self._folder / "log").open("ab") as log:
            self._driver = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _wait(self) -> None:
        assert self._driver is not None
        if self._driver.wait():
            raise SystemExit((self._folder / "log").read_text()[-3000:])

    def _disturb(self) -> bool:
        """Kill until the driver is gone: then the run is to be resumed; False when all is done."""
        assert self._driver is not None
        while sum(self._killed.values()) < self._kills:
            deadline = time.monotonic() + self._draw.uniform(LEAST_SECONDS, self._most_seconds)
            while time.monotonic() < deadline:
                if self._driver.poll() is not None:
                    return False
                time.sleep(0.05)
            status = self._status()
            if status is None or not _pids(status):
                continue
            kind = self._draw.choice(["worker", "worker", "driver", *(["node"] if self._cluster else [])])
            deaths = self._deaths()
            self._kill(kind, status)
            self._killed[kind] += 1
            told = f", noticed after {self._notice(deaths)}" if kind == "node" else ""
            print(f"  {kind:6} killed at {status.done:,} of {self._rows:,} rows{told}", flush=True)
            if self._cluster is not None:
                self._cluster.address()
            if kind == "driver":
                self._driver.wait()
                time.sleep(3)
                return True
        return False

    def _kill(self, kind: str, status: RunStatus) -> None:
        if kind == "driver":
            assert self._driver is not None
            self._driver.kill()
        elif kind == "node":
            assert self._cluster is not None
            self._cluster.lose_one()
        else:
            os.kill(self._draw.choice(_pids(status)), signal.SIGKILL)

    def _deaths(self) -> int:
        """Of workers, that the run has told of."""
        return (self._folder / "log").read_bytes().count(b" died: ")

    def _notice(self, deaths: int) -> str:
        """How long it takes until the run tells of one more."""
        begin = time.monotonic()
        while self._deaths() == deaths:
            if time.monotonic() > begin + NOTICE_SECONDS:
                return f"more than {NOTICE_SECONDS} s"
            time.sleep(0.05)
        return f"{time.monotonic() - begin:.1f} s"

    def _status(self) -> RunStatus | None:
        folders = sorted((self._folder / "drill" / "valid_results").glob("*/run.json"))
        return read_status(paths_of(folders[-1].parent)) if folders else None

    def _digest(self, name: str) -> str:
        [csv] = (self._folder / name / "valid_results").glob("*.csv")
        return hashlib.sha256(csv.read_bytes()).hexdigest()


def _pids(status: RunStatus) -> list[int]:
    """Of the living workers."""
    return [worker.beat.pid for worker in status.workers if worker.alive and worker.number]


class Cluster:
    """Two nodes of one processor each, beside a head that has none."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
        self._cluster: Any = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._nodes: list[Any] = []

    def address(self) -> str:
        """Where it is, with two nodes again."""
        while len(self._nodes) < 2:
            self._nodes.append(self._cluster.add_node(num_cpus=1))
        self._cluster.wait_for_nodes()
        return str(self._cluster.address)

    def lose_one(self) -> None:
        """Kill a node without a word."""
        self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)

    def close(self) -> None:
        """End it."""
        self._cluster.shutdown()


if __name__ == "__main__":
    main()
