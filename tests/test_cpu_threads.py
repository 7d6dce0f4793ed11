"""The number of threads and how they wait: from affinity and quota, before PyTorch is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluator import cpu_threads
from evaluator.cpu_threads import SPIN_COUNT, available_cpus, prepare_cpu_threads

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cpu_threads, "_CGROUP_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [("max 100000", 16), ("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1), ("9900000 100000", 16),
     ("", 16), ("garbage", 16), ("100000 0", 16)],
)  # fmt: skip
def test_a_containers_quota_bounds_the_threads(cgroup: Path, limit: str, cpus: int) -> None:
    (cgroup / "cpu.max").write_text(limit)
    assert available_cpus() == cpus


def test_an_older_containers_quota_does_too(cgroup: Path) -> None:
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus() == 3
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert available_cpus() == 16


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"OMP_NUM_THREADS": "16", "GOMP_SPINCOUNT": str(SPIN_COUNT)}),
        ({"LOCAL_WORLD_SIZE": "4"}, {"OMP_NUM_THREADS": "4"}),
        ({"LOCAL_WORLD_SIZE": "40"}, {"OMP_NUM_THREADS": "1"}),
        ({"OMP_NUM_THREADS": "7"}, {"OMP_NUM_THREADS": "7", "GOMP_SPINCOUNT": str(SPIN_COUNT)}),
        ({"GOMP_SPINCOUNT": "5"}, {"GOMP_SPINCOUNT": "5"}),
    ],
)
def test_what_the_user_has_set_stays(cgroup: Path, given: dict[str, str], expected: dict[str, str]) -> None:
    environment = dict(given)
    prepare_cpu_threads(environment)
    assert {key: environment[key] for key in expected} == expected


def test_the_users_wait_policy_stays_alone(cgroup: Path) -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    prepare_cpu_threads(environment)
    assert "GOMP_SPINCOUNT" not in environment


@pytest.mark.parametrize("command", ["evaluate_salmonn.py", "audiolm-trainer/train.py", "audiolm-trainer/web_demo.py",
                                     "audiolm-trainer/cli_inference.py"])  # fmt: skip
def test_every_command_chooses_before_torch_is_there(command: str) -> None:
    """The command's own function runs up to its first error; what it leaves in the environment is looked at."""
    code = (
        "import os, runpy, sys\n"
        "script = sys.argv[1]; sys.argv = [script, '--cfg-path', os.devnull] + ['--check'] * ('evaluate' in script)\n"
        "try: runpy.run_path(script, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_NUM_THREADS'))\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "audiolm-trainer")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / command)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-3:-1] == ["False", str(SPIN_COUNT)], done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= 1
