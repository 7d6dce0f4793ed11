"""Tests of workers on a Ray cluster of two nodes on this machine: the same bytes, also when a node dies.

The driver is the command that a user types, with the address of the cluster.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_site import Site, make_site

from evaluator.run.folder import paths_of
from evaluator.run.status import read_status

ROOT = Path(__file__).resolve().parents[1]
CLIPS = 60

SCRIPT = """
import os, sys, time
from pathlib import Path
from fake_model import EchoLM, FakeProvider
from evaluator.cli import build_evaluate_command

config, log = sys.argv[1], sys.argv[2]

def say(request):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {request.index}\\n")
    time.sleep(0.1)
    return f"the cat {len(request.audio) % 7}"

provider = FakeProvider(model=EchoLM(say=say, batch_size=1))
build_evaluate_command(provider, default_config=Path(config))(sys.argv[3:])
"""


class TwoNodes:
    """A head without processors, and nodes of one processor each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        os.environ["PYTHONPATH"] = path
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.cluster.wait_for_nodes()

    def lose_one(self) -> None:
        """Kill a node without a word."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def whole(self) -> str:
        """The address of the cluster, with two nodes again."""
        while len(self.nodes) < 2:
            self.nodes.append(self.cluster.add_node(num_cpus=1))
        self.cluster.wait_for_nodes()
        return str(self.cluster.address)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray", reason="Ray is an extra: pip install audiolm-evaluator[ray]")
    nodes = TwoNodes()
    yield nodes
    nodes.cluster.shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    rows = []
    for index in range(CLIPS):
        soundfile.write(site.wavs / f"clip{index}.wav", np.full(16000 + 100 * index, 0.1), 16000)
        rows.append({"testset_id": f"test{index:04d}", "path": f"clip{index}.wav", "task": "asr", "text": "the cat"})
    site.write_annotation(rows)
    site.change({"run": {"latency_clips": 0, "num_workers": 1}})
    return site


EXPECTED = [f"test{index:04d},the cat {(16000 + 100 * index) % 7}" for index in range(CLIPS)]


class Driver:
    """The command on a cluster."""

    def __init__(self, site: Site, address: str, *arguments: str) -> None:
        self.site, self.log = site, site.folder / "asked.log"
        typed = ["--mode", "submission_asr", "--output-dir", str(site.folder / "out"), "--ray", address, *arguments]
        command = [sys.executable, "-c", SCRIPT, str(site.config), str(self.log), *typed]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": path}
        )

    def end(self) -> tuple[int, str]:
        """Wait: exit code and what was told."""
        told, _ = self.process.communicate(timeout=180)
        return self.process.returncode, told

    def asked(self) -> list[int]:
        """Rows as the models were asked."""
        return [int(line.split()[1]) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def wait_until_asked(self, count: int) -> None:
        """Wait until models were asked so often."""
        deadline = time.monotonic() + 120
        while len(self.asked()) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "the models were not asked in time"
            time.sleep(0.05)

    @property
    def csv(self) -> list[str]:
        """Lines of the CSV without the header."""
        [csv] = (self.site.folder / "out").glob("*_results/*.csv")
        return csv.read_text().splitlines()[1:]


@contextlib.contextmanager
def started(site: Site, address: str, *arguments: str) -> Iterator[Driver]:
    driver = Driver(site, address, *arguments)
    try:
        yield driver
    finally:
        driver.process.kill()
        driver.process.communicate()


@pytest.mark.slow
def test_a_node_that_dies_costs_nothing(site: Site, nodes: TwoNodes) -> None:
    with started(site, nodes.whole()) as driver:
        driver.wait_until_asked(10)
        nodes.lose_one()
        lost = time.monotonic()
        code, told = driver.end()
    assert code == 0, told
    assert driver.csv == EXPECTED
    assert sorted(set(driver.asked())) == list(range(CLIPS))
    assert "its actor or node is gone" in told
    assert time.monotonic() - lost < 120


@pytest.mark.slow
def test_a_killed_driver_is_resumed_on_the_cluster(site: Site, nodes: TwoNodes) -> None:
    with started(site, nodes.whole()) as driver:
        driver.wait_until_asked(10)
        driver.process.send_signal(signal.SIGKILL)
        driver.end()
    [folder] = (site.folder / "out" / "submission_results").iterdir()
    deadline = time.monotonic() + 60
    while read_status(paths_of(folder)).state != "dead":
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.2)
    kept, before = read_status(paths_of(folder)).done, len(driver.asked())
    assert kept >= 8
    with started(site, nodes.whole(), "--resume", "auto") as driver:
        code, told = driver.end()
    assert code == 0, told
    assert driver.csv == EXPECTED
    assert len(driver.asked()) == before + CLIPS - kept
    record = json.loads((folder / "run.json").read_text())
    assert len(record["processes"]) == 2


@pytest.mark.slow
def test_no_cluster(site: Site) -> None:
    pytest.importorskip("ray", reason="Ray is an extra: pip install audiolm-evaluator[ray]")
    with started(site, "127.0.0.1:1") as driver:
        code, told = driver.end()
    assert code == 2
    assert "--ray: no cluster answers at 127.0.0.1:1" in told
