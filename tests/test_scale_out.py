"""Tests of several processes: dealing, finding each other, the same results, and going on after a death.

The processes are real ones, as a launcher starts them: the same command, told apart by RANK, WORLD_SIZE, LOCAL_RANK.
"""

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site

from evaluator.cli import build_evaluate_command
from evaluator.errors import ConfigError, JournalError, ProcessError
from evaluator.evaluate import evaluate, make_run_paths
from evaluator.run.folder import paths_of
from evaluator.run.journal import Journal, Prediction, read_journal
from evaluator.run.record import RunRecord
from evaluator.workers.launch import SINGLE, Launch, device_of, launch_of
from evaluator.workers.leases import MOST_ROWS, Lease, cut_leases
from evaluator.workers.rendezvous import announce_leases, await_leases, join, report_done, wait_for_others
from evaluator.workers.worker import Attempt, WorkerReport

ROOT = Path(__file__).resolve().parents[1]
CLIPS = 23
IDENTITY = {"mode": "valid_asr", "configuration": "a"}

# A model that says what it heard, writes down what it was asked, and holds still after `hold` answers.
SCRIPT = """
import os, sys, time
from pathlib import Path
from fake_model import EchoLM, FakeProvider
from evaluator.cli import build_evaluate_command

config, log, hold = sys.argv[1], sys.argv[2], int(sys.argv[3])
asked = 0

def say(request):
    global asked
    if asked == hold:
        time.sleep(120)
    asked += 1
    with open(log, "a") as file:
        file.write(f"{os.environ.get('RANK', '0')} {request.index}\\n")
    return f"the cat {len(request.audio) % 7} {request.audio[0]:.3f}"

provider = FakeProvider(model=EchoLM(say=say, batch_size=2))
build_evaluate_command(provider, default_config=Path(config))(sys.argv[4:])
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    rows = []
    for index in range(CLIPS):
        length = 16000 + (index * 7919) % 20000
        soundfile.write(site.wavs / f"clip{index}.wav", np.full(length, index / 40), 16000)
        rows.append(
            {"testset_id": f"test{index:04d}", "path": f"clip{index}.wav", "task": "asr", "text": "the cat sat"}
        )
    site.write_annotation(rows)
    # What models are asked is counted here, and the latency pass asks clips a second time.
    site.change({"run": {"latency_clips": 0}})
    return site


@dataclass
class Processes:
    """A launch: its processes, and the file in which their models write what they were asked."""

    site: Site
    started: list["subprocess.Popen[str]"]
    log: Path

    def end(self, timeout: float = 60) -> list[tuple[int, str]]:
        """Wait for all: exit code and standard error of each."""
        found = []
        for process in self.started:
            _, told = process.communicate(timeout=timeout)
            found.append((process.returncode, told))
        return found

    def asked(self) -> list[int]:
        """The rows that the models of all processes were asked."""
        return sorted(int(line.split()[1]) for line in lines_of(self.log))

    def wait_until_asked(self, rank: int, count: int) -> None:
        """Wait until a process has been asked so many rows."""
        deadline = time.monotonic() + 30
        while sum(line.startswith(f"{rank} ") for line in lines_of(self.log)) < count:
            assert time.monotonic() < deadline, "the process was not asked in time"
            time.sleep(0.02)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def environment(rank: int, count: int, port: int = 29501) -> dict[str, str]:
    """What a launcher tells a process."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    told = {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost"}
    return {**os.environ, "PYTHONPATH": path, "HF_TOKEN": "", "MASTER_PORT": str(port), **(told if count > 1 else {})}


@contextlib.contextmanager
def launched(site: Site, count: int, *args: str, holds: Mapping[int, int] | None = None) -> Iterator[Processes]:
    """Start `count` processes of the same command; `holds`: rank -> answers after which its model holds still."""
    log = site.folder / f"asked-{random.getrandbits(32):x}.log"
    processes = Processes(site, [], log)
    try:
        for rank in range(count):
            hold = (holds or {}).get(rank, -1)
            command = [sys.executable, "-c", SCRIPT, str(site.config), str(log), str(hold), *args]
            processes.started.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environment(rank, count),
                )
            )
        yield processes
    finally:
        for process in processes.started:
            process.kill()
            process.communicate()


def only_csv(site: Site, name: str) -> Path:
    [path] = (site.folder / name).glob("*_results/*.csv")
    return path


def results(csv: Path) -> list[bytes]:
    """What must be the same whatever the number of processes: the CSV and, in valid modes, the scores."""
    return [path.read_bytes() for path in (csv, csv.with_suffix("") / "scores.json") if path.exists()]


def run(site: Site, count: int, name: str, *args: str, mode: str = "submission_asr") -> tuple[Path, list[int]]:
    """A run that ends well: its CSV and the rows that were asked."""
    with launched(site, count, "--mode", mode, "--output-dir", str(site.folder / name), *args) as processes:
        ended = processes.end()
        assert [code for code, _ in ended] == [0] * count, ended
        assert all(told == "" for _, told in ended[1:]), "only process 0 speaks"
        return only_csv(site, name), processes.asked()


@pytest.mark.parametrize("count", range(1, 6))
def test_every_row_is_in_one_lease_and_leases_become_smaller(count: int) -> None:
    draw = random.Random(count)
    for size in (0, 1, 2, 7, 100, 10_000):
        rows = draw.sample(range(2 * size), size)
        costs = [draw.uniform(1, 30) for _ in rows]
        cost = dict(zip(rows, costs, strict=True))
        leases = cut_leases(rows, costs, count)
        assert sorted(row for lease in leases for row in lease.rows) == sorted(rows)
        assert cut_leases(rows, costs, count) == leases
        assert max((len(lease.rows) for lease in leases), default=0) <= MOST_ROWS
        if count == 1:
            assert [row for lease in leases for row in lease.rows] == rows
            continue
        loads = [sum(cost[row] for row in lease.rows) for lease in leases]
        left = list(itertools.accumulate(reversed(loads)))[::-1]
        for lease, load, rest in zip(leases, loads, left, strict=True):
            assert len(lease.rows) == 1 or load <= rest / (4 * count) + 1e-9


def test_a_process_of_half_the_speed_costs_little() -> None:
    """Simulated: each process takes the next lease when it is done; the ideal is the work over the summed speeds."""
    draw = random.Random(3)
    costs = [draw.uniform(1, 30) for _ in range(2000)]
    free = [(0.0, 1.0), (0.0, 0.5)]
    for lease in cut_leases(range(len(costs)), costs, 2):
        free.sort()
        at, speed = free[0]
        free[0] = (at + sum(costs[row] for row in lease.rows) / speed, speed)
    assert max(free)[0] < 1.02 * sum(costs) / 1.5


def test_launch_of() -> None:
    assert launch_of({}) == SINGLE
    assert launch_of({"WORLD_SIZE": "1", "RANK": "0"}) == SINGLE
    assert launch_of({"TORCHELASTIC_RESTART_COUNT": "1"}).restarted
    told = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}
    launch = launch_of(told)
    assert (launch.rank, launch.world_size, launch.local_rank, launch.restarted) == (3, 4, 1, False)
    assert launch.key == launch_of({**told, "RANK": "0", "LOCAL_RANK": "0"}).key
    assert launch.key != launch_of({**told, "MASTER_PORT": "29501"}).key
    for wrong in ({"RANK": "4"}, {"RANK": ""}, {"LOCAL_RANK": "x"}, {"WORLD_SIZE": "two"}):
        with pytest.raises(ConfigError, match=r"RANK|WORLD_SIZE"):
            launch_of({**told, **wrong})


DEVICES = [
    ("auto", 2, "cuda:1"),
    ("cuda", 2, "cuda:1"),
    ("auto", 0, "auto"),
    ("auto", None, "auto"),
    ("cuda", None, "cuda:1"),
    ("cpu", 2, "cpu"),
    ("cuda:0", 2, "cuda:0"),
]


@pytest.mark.parametrize(("device", "gpus", "expected"), DEVICES)
def test_each_process_gets_its_gpu(device: str, gpus: int | None, expected: str) -> None:
    launch = Launch(rank=5, world_size=8, local_rank=1)
    assert device_of(device, launch, None if gpus is None else lambda: gpus) == expected
    assert device_of(device, SINGLE, None if gpus is None else lambda: gpus) == device


def test_more_processes_than_gpus() -> None:
    with pytest.raises(ConfigError, match=r"Process 5 is number 2 on this machine, which has 1 GPU"):
        device_of("auto", Launch(rank=5, world_size=8, local_rank=1), lambda: 1)


def test_the_same_results_from_one_two_and_three_processes(site: Site) -> None:
    alone, asked = run(site, 1, "one", mode="valid_asr")
    assert len(results(alone)) == 2
    assert asked == list(range(CLIPS))
    for count in (2, 3):
        csv, asked = run(site, count, f"of{count}", mode="valid_asr")
        assert results(csv) == results(alone)
        assert asked == list(range(CLIPS)), "no clip twice, none missing"
        folder = csv.with_suffix("")
        assert {path.name for path in folder.iterdir()} == {
            "predictions.jsonl",
            "run.json",
            "scores.json",
            "report.html",
        }
        assert {path.name for path in folder.parent.iterdir()} == {csv.name, folder.name}
        assert [prediction.index for prediction in read_journal(folder / "predictions.jsonl")] == list(range(CLIPS))
        facts = json.loads((folder / "run.json").read_text())
        sizes = [process["rows"] for process in facts["processes"]]
        assert sum(sizes) == CLIPS
        assert [process["rank"] for process in facts["processes"]] == list(range(count))
        one = json.loads((alone.with_suffix("") / "run.json").read_text())
        assert facts["counts"] == one["counts"]
        assert facts["audio_seconds"] == one["audio_seconds"]


def test_of_several_processes_the_first_measures_latency(site: Site) -> None:
    args = ("--mode", "submission_asr", "--output-dir", str(site.folder / "out"), "--options", "run.latency_clips=4")
    with launched(site, 2, *args) as processes:
        assert [code for code, _ in processes.end()] == [0, 0]
        asked = Counter(line.partition(" ")[0] for line in lines_of(processes.log))
    facts = json.loads((only_csv(site, "out").with_suffix("") / "run.json").read_text())
    rows = [process["rows"] for process in facts["processes"]]
    measured = facts["latency"]["clips"]["measured"]
    assert measured >= 1
    # The first of its clips is asked once more, to warm up.
    assert (asked["0"], asked["1"]) == (rows[0] + measured + 1, rows[1])


@pytest.mark.parametrize("count", [1, 3])
def test_a_killed_process_loses_nothing(site: Site, count: int) -> None:
    """kill -9 of one of two; then the rest from another number of processes."""
    expected = results(run(site, 1, "whole")[0])
    args = ("--mode", "submission_asr", "--output-dir", str(site.folder / "out"))
    with launched(site, 2, *args, holds={1: 4}) as processes:
        processes.wait_until_asked(1, 4)
        processes.wait_until_asked(0, 11)
        processes.started[1].send_signal(signal.SIGKILL)
        [(code, told), _] = processes.end()
        before = processes.asked()
    assert code == 1
    assert "Process 1 of 2 ended before it had finished." in told
    [folder] = (site.folder / "out" / "submission_results").iterdir()
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "failed"
    kept = [record.index for path in folder.glob("parts/*.jsonl") for record in read_journal(path)]
    assert sorted(facts["missing"]) == [f"test{index:04d}" for index in range(CLIPS) if index not in kept]
    assert f"{len(facts['missing'])} of {CLIPS} rows have no answer ({facts['missing'][0]}, " in told
    assert f"--resume {folder}" in told
    assert set(kept) <= set(before)
    csv, asked = run(site, count, "out", "--resume", "auto")
    assert csv.with_suffix("") == folder
    assert asked == sorted(set(range(CLIPS)) - set(kept)), "what is in a journal is not asked again"
    assert results(csv) == expected
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["status"], facts["attempt"], facts["rows_of_earlier_attempts"]) == ("finished", 2, len(kept))


def test_one_process_goes_on_in_two(site: Site) -> None:
    """A plain run, killed; its folder named; a third attempt finds nothing to ask and loads no model."""
    expected = results(run(site, 1, "whole")[0])
    args = ("--mode", "submission_asr", "--output-dir", str(site.folder / "out"))
    with launched(site, 1, *args, holds={0: 6}) as processes:
        processes.wait_until_asked(0, 6)
        [folder] = (site.folder / "out" / "submission_results").iterdir()
        with launched(site, 1, *args, "--resume", "auto") as second:
            [(code, told)] = second.end()
        assert (code, "is being written by a running process" in told) == (3, True)
        processes.started[0].send_signal(signal.SIGKILL)
        processes.end()
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    with (folder / "predictions.jsonl").open("ab") as file:
        file.write(b'{"index": 9, "id": "te')
    kept = [record.index for record in read_journal(folder / "predictions.jsonl")]
    assert len(kept) >= 4
    csv, asked = run(site, 2, "out", "--resume", str(folder))
    assert asked == sorted(set(range(CLIPS)) - set(kept))
    assert results(csv) == expected
    before = json.loads((folder / "run.json").read_text())
    csv, asked = run(site, 1, "out", "--resume", str(csv))
    assert asked == []
    assert results(csv) == expected
    after = json.loads((folder / "run.json").read_text())
    kept_facts = ("processes", "speed", "peak_memory_bytes", "audio_seconds", "latency", "rtfx", "started", "ended")
    assert {name: after[name] for name in kept_facts} == {name: before[name] for name in kept_facts}
    assert len(after["processes"]) == 2
    csv, asked = run(site, 2, "out", "--resume", str(csv))
    assert (asked, results(csv)) == ([], expected)
    again = json.loads((folder / "run.json").read_text())
    assert {name: again[name] for name in kept_facts} == {name: before[name] for name in kept_facts}
    assert again["seconds"]["predict"] == before["seconds"]["predict"]


def test_a_run_of_something_else_is_not_gone_on_with(site: Site) -> None:
    csv, _ = run(site, 1, "out")
    args = ("--mode", "submission_asr", "--output-dir", str(site.folder / "out"), "--resume")
    wrongs: list[tuple[Sequence[str], str]] = [
        ([str(csv), "--options", "generate.num_beams=1"], "configuration differ(s) from then"),
        ([str(site.wavs)], "is no folder of a run"),
    ]
    for extra, message in wrongs:
        with launched(site, 1, *args, *extra) as processes:
            [(code, told)] = processes.end()
        assert code == 3
        assert message in told
        assert processes.asked() == []
    faster = ["--options", "run.batch_size_eval=2", "run.num_workers=0"]
    with launched(site, 1, *args, str(csv), *faster) as processes:
        assert processes.end()[0][0] == 0, "what changes no text may change"


def test_auto_starts_anew_where_nothing_is_left_over(site: Site) -> None:
    csv, _ = run(site, 1, "out")
    old = csv.with_name("2020-01-01_00-00-00_submission_asr")
    old.mkdir()
    (old / "run.json").write_text(json.dumps({"status": "failed", "identity": {"mode": "submission_asr"}}))
    args = ("--mode", "submission_asr", "--output-dir", str(site.folder / "out"), "--resume", "auto")
    with launched(site, 1, *args) as processes:
        [(code, told)] = processes.end()
        assert code == 0
        assert processes.asked() == list(range(CLIPS))
    assert f"{old} is unfinished and stays as it is: configuration, annotation, checkpoint, packages differ" in told
    assert "this one starts anew" in told
    assert len(list(csv.parent.glob("*.csv"))) == 2


def test_a_launch_that_tells_half_is_a_usage_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    result = CliRunner().invoke(build_evaluate_command(provider, default_config=site.config), ["--mode", "valid_asr"])
    assert result.exit_code == 2
    assert "The environment variable RANK is ''" in result.stderr
    assert provider.loads == []


def test_a_launchers_own_restart_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun --max-restarts starts the same command again, and says so."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    command = build_evaluate_command(FakeProvider(model=EchoLM(fail_after=5)), default_config=site.config)
    assert CliRunner().invoke(command, ["--mode", "submission_asr"]).exit_code == 1
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    model = EchoLM()
    command = build_evaluate_command(FakeProvider(model=model), default_config=site.config)
    assert CliRunner().invoke(command, ["--mode", "submission_asr"]).exit_code == 0
    assert len(model.pulled) == CLIPS - 5
    assert len(list(site.results.glob("submission_results/*.csv"))) == 1


def test_a_clip_that_could_not_be_read_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    clip = (site.wavs / "clip3.wav").read_bytes()
    (site.wavs / "clip3.wav").write_text("not audio")
    args = ["--mode", "submission_asr", "--options", "run.on_audio_error=record"]
    command = build_evaluate_command(FakeProvider(), default_config=site.config)
    assert CliRunner().invoke(command, args).exit_code == 1
    [csv] = site.results.glob("submission_results/*.csv")
    assert csv.read_text().splitlines()[4] == "test0003,."
    (site.wavs / "clip3.wav").write_bytes(clip)
    model = EchoLM()
    command = build_evaluate_command(FakeProvider(model=model), default_config=site.config)
    assert CliRunner().invoke(command, [*args, "--resume", str(csv)]).exit_code == 0
    assert [request.index for request in model.pulled] == [3]
    assert csv.read_text().splitlines()[4] == f"test0003,asr {len(model.pulled[0].audio)}"


def test_sigterm_says_what_is_missing(site: Site) -> None:
    """What torchrun does to the others when one process died."""
    args = ("--mode", "submission_asr", "--output-dir", str(site.folder / "out"))
    with launched(site, 2, *args, holds={0: 3, 1: 3}) as processes:
        processes.wait_until_asked(0, 3)
        processes.wait_until_asked(1, 3)
        for process in reversed(processes.started):
            process.send_signal(signal.SIGTERM)
        ended = processes.end()
    assert [code for code, _ in ended] == [143, 143]
    assert re.search(rf"\d+ of {CLIPS} rows have no answer \(test00\d\d, .*--resume ", ended[0][1], re.DOTALL)
    assert "[process 1] Terminated." in ended[1][1]


LAUNCHER = """
import os, subprocess, sys, time
started = []
for rank in range(2):
    told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": sys.argv[1]}
    environment = {name: value for name, value in {**os.environ, **told}.items() if value}
    started.append(subprocess.Popen([sys.executable, "-c", *sys.argv[2:]], env=environment))
print(*(process.pid for process in started), flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no parents to be asked for")
@pytest.mark.parametrize(("run_id", "ends"), [("a launch", True), ("", False)])
def test_processes_end_soon_after_a_launcher_that_was_killed(site: Site, *, run_id: str, ends: bool) -> None:
    """A script that starts them in the background and ends is no launcher: they outlive it."""
    log = site.folder / "asked"
    mode = ["--mode", "submission_asr", "--output-dir", str(site.folder / "out")]
    command = [sys.executable, "-c", LAUNCHER, run_id, SCRIPT, str(site.config), str(log), "2", *mode]
    launcher = subprocess.Popen(
        command, env=environment(0, 1), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert launcher.stdout is not None
    workers = [int(pid) for pid in launcher.stdout.readline().split()]
    try:
        deadline = time.monotonic() + 30
        while not {"0", "1"} <= {line.split()[0] for line in lines_of(log)}:
            assert time.monotonic() < deadline, "the processes were not asked in time"
            time.sleep(0.05)
        launcher.kill()
        launcher.wait()
        deadline = time.monotonic() + (5 if ends else 2)
        while any(map(is_alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [is_alive(pid) for pid in workers] == [not ends, not ends]
    finally:
        launcher.kill()
        launcher.stdout.close()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process that is no child of ours runs; a zombie that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_an_earlier_launch_left_is_not_believed(site: Site) -> None:
    """Greetings and invitations under the same key, of processes that are gone."""
    place = site.folder / "out" / "submission_results" / f".meeting-{launch_of(environment(0, 2)).key}"
    place.mkdir(parents=True)
    (place / "1-0123.greeting").touch()
    (place / "1-4567.invitation").write_text('{"folder": "gone", "attempt": 1}')
    _, asked = run(site, 2, "out")
    assert asked == list(range(CLIPS))


def attempts(folder: Path, count: int) -> list[Attempt]:
    """An attempt as each process of it sees it."""
    paths = make_run_paths(folder, "valid_asr", datetime.fromisoformat(RunRecord().started))
    paths.parts.mkdir()
    return [Attempt(paths, 1, Launch(rank=rank, world_size=count, key="k")) for rank in range(count)]


def test_whoever_does_not_arrive_is_named(tmp_path: Path) -> None:
    first, second, _ = attempts(tmp_path, 3)
    join(second, locked=True)
    with pytest.raises(ProcessError, match=r"^Process\(es\) 2 of 3 did not arrive within 0 s"):
        announce_leases(first, [Lease((0, 1, 2))], IDENTITY, patience=0.2)
    lonely = replace(second.launch, key="elsewhere")
    with pytest.raises(ProcessError, match="Process 1 heard nothing of process 0"):
        await_leases(first.paths.folder.parent, lonely, IDENTITY, patience=0.2)


def test_processes_that_run_different_things(site: Site) -> None:
    args = ("--mode", "submission_asr", "--output-dir", str(site.folder / "out"))
    with launched(site, 2, *args) as processes:
        processes.started[1].kill()
        processes.started[1].communicate()
        other = [sys.executable, "-c", SCRIPT, str(site.config), str(processes.log), "-1", *args]
        other += ["--options", "generate.num_beams=1"]
        pipe = subprocess.PIPE
        processes.started[1] = subprocess.Popen(other, stdout=pipe, stderr=pipe, text=True, env=environment(1, 2))
        _, told = processes.started[1].communicate(timeout=30)
    assert "[process 1] Error: Process 1 runs something else than process 0: configuration differ(s)." in told


def test_a_process_that_died_is_known_by_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.workers.rendezvous.GRACE_SECONDS", 0.2)
    first, second = attempts(tmp_path, 2)
    done = WorkerReport(
        rank=1, rows=1, audio_seconds=2.0, seconds=1.0, process_memory=None, device_memory=None, device_full_memory=None
    )
    with Journal(second.journal(1)) as journal:
        assert journal.locked
        join(second, locked=journal.locked)
        monkeypatch.setattr("evaluator.workers.rendezvous.STALL_SECONDS", 0.2)
        with pytest.raises(ProcessError, match=r"Process\(es\) 1 answered nothing for 0 s"):
            wait_for_others(first)
    with pytest.raises(ProcessError, match=r"Process 1 of 2 ended before it had finished"):
        wait_for_others(first)
    report_done(second, done)
    assert wait_for_others(first) == [done]


def test_silence_is_counted_for_each_process_from_its_own_last_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that never says anything is noticed soon after the others are done, however long those worked."""
    monkeypatch.setattr("evaluator.workers.rendezvous.STALL_SECONDS", 1.0)
    first, second, third = attempts(tmp_path, 3)
    done = WorkerReport(
        rank=1, rows=1, audio_seconds=2.0, seconds=1.0, process_memory=None, device_memory=None, device_full_memory=None
    )

    def work() -> None:
        for index in range(12):
            time.sleep(0.1)
            busy.append(prediction(index))
        report_done(second, done)

    with Journal(second.journal(1)) as busy, Journal(third.journal(2)) as silent:
        join(second, locked=busy.locked)
        join(third, locked=silent.locked)
        worker = threading.Thread(target=work)
        begin = time.monotonic()
        worker.start()
        with pytest.raises(ProcessError, match=r"Process\(es\) 2 answered nothing"):
            wait_for_others(first)
        assert 1.2 <= time.monotonic() - begin < 1.9
        worker.join()


@pytest.mark.parametrize("named", [".", "predictions.jsonl", "..", "./."])
def test_a_run_is_found_from_inside_its_folder(site: Site, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    provider = FakeProvider(model=EchoLM(fail_after=4))
    with pytest.raises(RuntimeError):
        evaluate(provider, site.load(), "submission_asr")
    [folder] = (site.results / "submission_results").iterdir()
    (folder / "parts").mkdir(exist_ok=True)
    for name in ("notes.jsonl", "1-0.jsonl.bak", "x-1.jsonl", "2024.notes", "99999999999999999999-0.jsonl"):
        (folder / "parts" / name).write_text("not ours\n")
    monkeypatch.chdir(folder / "parts" if named == ".." else folder)
    result = evaluate(FakeProvider(), site.load(), "submission_asr", resume=named)
    assert result.csv_path == folder.with_name(f"{folder.name}.csv")
    assert [record.index for record in read_journal(folder / "predictions.jsonl")] == list(range(CLIPS))
    assert len(list((folder / "parts").iterdir())) == 5, "what others keep there stays"


def prediction(index: int) -> Prediction:
    return Prediction(index, f"test{index:04d}", "asr", "Grüße \ud800 🎵", 4, "stop", 1.5, 0.1 + 0.2)


def test_a_changed_line_is_known_by_its_checksum(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "predictions.jsonl"
    with Journal(path) as journal:
        for index in range(3):
            journal.append(prediction(index))
    lines = path.read_bytes().splitlines(keepends=True)
    assert read_journal(path) == [prediction(index) for index in range(3)]
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"test0002", b"test0092")]))
    assert [record.index for record in read_journal(path)] == [0, 1]
    assert "the last line is torn and is left out" in caplog.text
    path.write_bytes(b"".join([lines[0].replace(b"test0000", b"test0090"), *lines[1:]]))
    with pytest.raises(JournalError, match=r"predictions\.jsonl:1: .*checksum"):
        read_journal(path)


def test_a_journal_of_other_rows_is_refused(site: Site) -> None:
    csv, _ = run(site, 1, "out")
    paths = paths_of(csv.with_suffix(""))
    paths.parts.mkdir()
    with Journal(paths.parts / "2-0.jsonl") as journal:
        journal.append(prediction(CLIPS))
    with launched(
        site, 1, "--mode", "submission_asr", "--output-dir", str(site.folder / "out"), "--resume", str(csv)
    ) as one:
        [(code, told)] = one.end()
    assert code == 3
    assert "2-0.jsonl holds a prediction for row 24 (test0023), which the annotation does not have" in told


def sample_config(folder: Path, clips: int) -> Path:
    """The default configuration with the first clips of the sample data."""
    rows = json.loads((ROOT / "data" / "sample" / "asr.json").read_text(encoding="utf-8"))["annotation"][:clips]
    annotation = folder / "few.json"
    annotation.write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    return annotation


@pytest.mark.slow
def test_torchrun_gives_the_same_bytes_with_the_nano_model(tmp_path: Path) -> None:
    """The command of the documentation on 1, 2 and 3 processes."""
    annotation = sample_config(tmp_path, 24)
    search = os.pathsep.join([str(ROOT / "audiolm-trainer"), os.environ.get("PYTHONPATH", "")])
    found = {}
    for count in (1, 2, 3):
        launcher = [] if count == 1 else ["-m", "torch.distributed.run", "--nproc_per_node", str(count)]
        out = tmp_path / f"of{count}"
        done = subprocess.run(
            [
                sys.executable, *launcher, str(ROOT / "evaluate_salmonn.py"), "--mode", "valid_asr", "--device", "cpu",
                "--output-dir", str(out), "--options", f"datasets.test_ann_path_asr={annotation}", "run.num_workers=1",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("valid_asr: speech recognition") == 1
        [csv] = out.glob("valid_results/*.csv")
        found[count] = results(csv)
        assert len(found[count]) == 2
        records = read_journal(csv.with_suffix("") / "predictions.jsonl")
        assert Counter(record.index for record in records) == Counter(range(24))
    assert found[1] == found[2] == found[3]
