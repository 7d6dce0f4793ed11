"""Tests of evaluator/scoring/counting/: batches and processes change no count, and processes always end."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.counting import batches
from evaluator.scoring.counting.batches import count_errors
from evaluator.scoring.counting.processes import CountingProcesses
from evaluator.scoring.protocols import comparison

COMPARE = ["challenge_words", "challenge_characters", "basic_word_errors", "unspaced_characters", "respaced_words"]
WORDS = [
    "Mr.",
    "colour",
    "twenty",
    "one",
    "don't",
    "um",
    "50%",
    "나는",
    "집에",
    "がくせい",
    "",
    "\ud800",
    "\u2028",
    "x" * 40,
]


def texts(rows: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(9))) for _ in range(rows)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_batches_and_processes_change_no_count(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    references, hypotheses = texts(257, 0), texts(257, 1)
    whole = [getattr(comparison, name)(references, hypotheses) for name in COMPARE]
    monkeypatch.setattr(batches, "BATCH_ROWS", 10)
    found = count_errors(COMPARE, references, hypotheses, processes=processes)
    assert [errors.columns for errors in found] == [errors.columns for errors in whole]
    assert sum(len(errors.hits) for errors in found) == 257 * len(COMPARE)


def test_large_sets_are_counted_by_processes_on_all_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Counting(CountingProcesses):
        def __init__(self, number: int) -> None:
            started.append(number)
            super().__init__(number)

        def __enter__(self) -> "Counting":
            raise MetricUnavailableError("none here", fix="")

    monkeypatch.setattr(batches, "CountingProcesses", Counting)
    monkeypatch.setattr(batches, "available_cpus", lambda: 3)
    monkeypatch.setattr(batches, "FEWEST_ROWS", 20)
    count_errors(["basic_word_errors"], ["a"] * 19, ["a"] * 19)
    assert started == []
    with pytest.raises(MetricUnavailableError):
        count_errors(["basic_word_errors"], ["a"] * 20, ["a"] * 20)
    assert started == [3]


@pytest.mark.slow
def test_a_process_that_ends_early_is_told_and_the_others_end() -> None:
    with CountingProcesses(2) as workers:
        processes = [workers._idle.get() for _ in range(2)]
        for process in processes:
            workers._idle.put(process)
        processes[0].kill()
        with pytest.raises(MetricUnavailableError, match=r"ended early \(exit status -9\)"):
            list(workers.count(["basic_word_errors"], [(["a"], ["b"])] * 4))
    assert all(process.poll() is not None for process in processes)


@pytest.mark.slow
def test_large_sets_say_how_far_they_are(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(batches, "BATCH_ROWS", 1)
    with caplog.at_level("INFO", "evaluator"):
        count_errors(["basic_word_errors"], ["a"] * 8, ["a"] * 8, processes=2)
    assert [record.args for record in caplog.records] == [(2, 8), (4, 8), (6, 8), (8, 8)]


@pytest.mark.slow
def test_what_a_comparison_raises_is_raised_here() -> None:
    with CountingProcesses(1) as workers, pytest.raises(ValueError, match="2 references cannot be compared with 1"):
        list(workers.count(["basic_word_errors"], [(["a", "b"], ["a"])]))


PARENT = """
import sys
from evaluator.scoring.counting.processes import CountingProcesses
with CountingProcesses(2) as workers:
    started = [workers._idle.get() for _ in range(2)]
    for process in started:
        workers._idle.put(process)
    print(*(process.pid for process in started), flush=True)
    for _ in workers.count(["basic_word_errors"], ([["a b c"] * 500] * 2 for _ in iter(int, 1))):
        pass
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_their_parent(sent: signal.Signals) -> None:
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().split()
        assert len(pids) == 2
        time.sleep(0.5)
        parent.send_signal(sent)
        assert parent.wait(30) != 0
    limit = time.monotonic() + 30
    while any(Path("/proc", pid.decode()).exists() for pid in pids):
        assert time.monotonic() < limit, "a process that counts errors is left"
        time.sleep(0.1)
