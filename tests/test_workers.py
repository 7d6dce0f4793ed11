"""Tests of workers: the same results, rows that end or hang workers, stops and pauses, and what is told of a run.

Workers are real processes of the command that a user types; the model does to each row what a table says.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from fake_model import FakeProvider
from fake_site import Site, make_site

from evaluator.cli import build_evaluate_command, main
from evaluator.run import status
from evaluator.run.folder import paths_of
from evaluator.run.journal import read_journal
from evaluator.run.status import read_status

ROOT = Path(__file__).resolve().parents[1]
CLIPS = 12

# Does to each row what a table says, and writes down whom it asked: "<pid> <row>".
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from fake_model import EchoLM, FakeProvider
from evaluator.cli import build_evaluate_command

config, log, table = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def say(request):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {request.index}\\n")
    print("what a model prints is no result")
    act = table.get(str(request.index), table.get("*"))
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif act == "hang":
        time.sleep(120)
    elif act == "raise":
        raise RuntimeError("out of memory, or so")
    elif act == "slow":
        time.sleep(0.15)
    return f"the cat {len(request.audio) % 7}"

model = ConnectionRefusedError("no such weights") if table.get("load") else EchoLM(say=say, batch_size=1)
provider = FakeProvider(model=model)
if table.get("load") == "die" and "AUDIOLM_WORKER_SOCKET" in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)
build_evaluate_command(provider, default_config=Path(config))(sys.argv[4:])
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    rows = []
    for index in range(CLIPS):
        soundfile.write(site.wavs / f"clip{index}.wav", np.full(16000 + 1000 * index, 0.1), 16000)
        rows.append({"testset_id": f"test{index:04d}", "path": f"clip{index}.wav", "task": "asr", "text": "the cat"})
    site.write_annotation(rows)
    site.change({"run": {"latency_clips": 0, "num_workers": 1}})
    return site


class Command:
    """The evaluate command of a model that misbehaves."""

    def __init__(self, site: Site, table: Mapping[str, str], *arguments: str) -> None:
        self.site, self.log = site, site.folder / "asked.log"
        typed = ["--mode", "valid_asr", "--output-dir", str(site.folder / "out"), *arguments]
        command = [sys.executable, "-c", SCRIPT, str(site.config), str(self.log), json.dumps(table), *typed]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = {**os.environ, "PYTHONPATH": path, "HF_TOKEN": ""}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)

    def end(self) -> tuple[int, str, str]:
        """Wait: exit code, standard output, standard error."""
        out, told = self.process.communicate(timeout=120)
        return self.process.returncode, out, told

    @property
    def folder(self) -> Path:
        """The run's."""
        [record] = (self.site.folder / "out").glob("*_results/*/run.json")
        return record.parent

    @property
    def csv(self) -> list[str]:
        """Lines of the CSV without the header."""
        return self.folder.with_name(f"{self.folder.name}.csv").read_text().splitlines()[1:]

    def asked(self) -> list[tuple[int, int]]:
        """(process, row) as the models were asked."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def wait_until_asked(self, count: int) -> None:
        """Wait until models were asked so often."""
        deadline = time.monotonic() + 60
        while len(self.asked()) < count:
            assert time.monotonic() < deadline, "the models were not asked in time"
            time.sleep(0.02)


@contextlib.contextmanager
def started(site: Site, table: Mapping[str, str], *arguments: str) -> Iterator[Command]:
    command = Command(site, table, *arguments)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


def run(site: Site, table: Mapping[str, str], *arguments: str) -> tuple[Command, int, str, str]:
    with started(site, table, *arguments) as command:
        return command, *command.end()


def is_there(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: set[int], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while any(map(is_there, pids)):
        assert time.monotonic() < deadline, "workers are left behind"
        time.sleep(0.05)


EXPECTED = [f"test{index:04d},the cat {(16000 + 1000 * index) % 7}" for index in range(CLIPS)]


@pytest.mark.parametrize("workers", [["--workers", "3"], ["--supervise"]])
def test_workers_give_what_one_process_gives(site: Site, workers: list[str]) -> None:
    command, code, out, told = run(site, {}, *workers)
    assert code == 0, told
    assert command.csv == EXPECTED
    assert sorted(row for _, row in command.asked()) == list(range(CLIPS)), "every row once"
    assert "what a model prints" not in out
    assert out.startswith("valid_asr: speech recognition")
    assert "latency         not measured: the model ran in workers" in out
    folder = command.folder
    assert {path.name for path in folder.iterdir()} == {"predictions.jsonl", "run.json", "scores.json", "report.html"}
    record = json.loads((folder / "run.json").read_text())
    assert sum(process["rows"] for process in record["processes"]) == CLIPS
    assert {"load_model", "predict"} <= record["seconds"].keys()
    wait_until_gone({pid for pid, _ in command.asked()})


def without(row: int) -> list[str]:
    return [line if index != row else f"test{index:04d},." for index, line in enumerate(EXPECTED)]


@pytest.mark.parametrize(
    ("workers", "act", "reason", "options"),
    [
        ("2", "die", "killed by SIGKILL", []),
        ("1", "raise", "RuntimeError: out of memory, or so", []),
        ("2", "hang", "no answer for 2 s (run.clip_timeout_s)", ["--options", "run.clip_timeout_s=2"]),
    ],
)
def test_a_row_that_ends_workers_is_one_failure(
    site: Site, workers: str, act: str, reason: str, options: list[str]
) -> None:
    command, code, out, told = run(site, {"5": act}, "--workers", workers, *options)
    assert code == 1, told
    assert command.csv == without(5)
    predictions = {record.index: record for record in read_journal(command.folder / "predictions.jsonl")}
    assert predictions[5].error == f"ended 3 workers; the last one: {reason}"
    assert f"test0005 has no answer: it ended 3 worker(s). The last one: {reason}." in told
    assert "failed          1" in out
    assert [row for _, row in command.asked()].count(5) >= 3
    answered = [row for row, record in predictions.items() if record.error is None]
    assert sorted(answered) == [row for row in range(CLIPS) if row != 5]
    wait_until_gone({pid for pid, _ in command.asked()})


def test_a_reader_that_hangs_is_ended_with_its_worker(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip is on a disk that does not answer: a pipe that was a file when it was checked stands in for it."""
    hanging = site.folder / "hang.py"
    hanging.write_text(
        "import time\nfrom evaluator.audio import loading\nread = loading._read\n"
        "def slow(path, stamp):\n    path.name != 'clip7.wav' or time.sleep(600)\n    return read(path, stamp)\n"
        "loading._read = slow\n" + SCRIPT
    )
    monkeypatch.setitem(globals(), "SCRIPT", hanging.read_text())
    command, code, _, told = run(site, {}, "--supervise", "--options", "run.clip_timeout_s=1")
    assert code == 1, told
    assert command.csv == without(7)


def test_a_model_that_never_loads_ends_the_run(site: Site) -> None:
    _, code, _, told = run(site, {"load": "raise"}, "--workers", "2")
    assert code == 4
    assert "Error: The model could not be loaded. ConnectionRefusedError: no such weights" in told


def test_workers_that_die_while_they_load_end_the_run(site: Site) -> None:
    _, code, _, told = run(site, {"load": "die"}, "--workers", "2")
    assert code == 1
    assert "workers died before they had begun a clip. The last one: killed by SIGKILL." in told


def test_where_no_row_is_ever_answered_the_run_ends(site: Site) -> None:
    command, code, _, told = run(site, {"*": "raise"}, "--workers", "1", "--limit", "1")
    assert code == 1
    assert "No clip was ever answered, and 3 workers died. The last one: RuntimeError: out of memory, or so." in told
    assert json.loads((command.folder / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(("most", "borne"), [("5%", 0), ("2", None)])
def test_too_many_failures_end_the_run_early(site: Site, most: str, borne: int | None) -> None:
    """One of twelve rows fails: 5 % bear none."""
    options = ["--options", f"run.max_failures={most}"]
    command, code, _, told = run(site, {"3": "raise"}, "--workers", "1", *options)
    assert code == 1
    record = json.loads((command.folder / "run.json").read_text())
    assert record["status"] == ("finished" if borne is None else "failed")
    assert (f"1 row(s) have no answer, and run.max_failures is {borne}. The last of them: test0003" in told) is (
        borne is not None
    )


def test_a_killed_worker_loses_nothing(site: Site) -> None:
    with started(site, {"*": "slow"}, "--workers", "2") as command:
        command.wait_until_asked(4)
        os.kill(command.asked()[-1][0], signal.SIGKILL)
        code, _, told = command.end()
    assert code == 0, told
    assert command.csv == EXPECTED
    assert "died: killed by SIGKILL." in told
    assert len(command.asked()) <= CLIPS + 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_driver_takes_its_workers_along_and_is_resumed(site: Site, number: int) -> None:
    with started(site, {"*": "slow"}, "--workers", "2") as command:
        command.wait_until_asked(5)
        command.process.send_signal(number)
        code, _, _ = command.end()
    assert code == (-9 if number == signal.SIGKILL else 130)
    wait_until_gone({pid for pid, _ in command.asked()})
    state = read_status(paths_of(command.folder))
    assert state.state == ("dead" if number == signal.SIGKILL else "interrupted")
    kept = state.done
    assert kept >= 3
    before = len(command.asked())
    command, code, _, told = run(site, {}, "--workers", "2", "--resume", "auto")
    assert code == 0, told
    assert command.csv == EXPECTED
    assert len(command.asked()) == before + CLIPS - kept, "what is in a journal is not asked again"


def test_status_while_journals_are_put_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a run are gone when its one journal is there, perhaps between listing and reading them."""
    command, code, _, told = run(site, {})
    assert code == 0, told
    paths = paths_of(command.folder)
    listings = iter([[paths.parts / "1-0.jsonl"], [paths.predictions], [paths.parts / "1-0.jsonl"]])
    monkeypatch.setattr(status, "journals", lambda paths: next(listings))
    state = read_status(paths)
    assert (state.state, state.done, state.failed) == ("finished", CLIPS, 0)


def test_status_of_a_run_that_failed_counts_every_row(site: Site) -> None:
    """The last heart beat is written when the work ends, and not up to two seconds before."""
    command, code, _, told = run(site, {"11": "raise"})
    assert code == 1, told
    state = read_status(paths_of(command.folder))
    assert [worker.beat.rows for worker in state.workers] == [state.done]
    assert state.done > 1


def typed(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_stop_answers_what_is_in_hand_and_is_resumed(site: Site, workers: list[str]) -> None:
    with started(site, {"*": "slow"}, *workers) as command:
        command.wait_until_asked(3)
        folder = str(command.folder)
        code, out = typed("status", folder)
        assert code == 0
        assert "state     running" in out
        assert f"of {CLIPS}" in out
        assert typed("stop", folder) == (0, "The run ends as soon as the clips in hand are answered.\n")
        code, _, told = command.end()
    assert code == 130
    assert "The run was stopped, as was asked for" in told
    assert f"--resume {folder}" in told
    asked = {row for _, row in command.asked()}
    state = read_status(paths_of(command.folder))
    assert (state.state, state.done) == ("interrupted", len(asked)), "what was begun is answered"
    assert state.done < CLIPS
    assert typed("stop", folder) == (3, f"Error: {folder} does not run: it is interrupted.\n")
    command, code, _, told = run(site, {}, *workers, "--resume", "auto")
    assert code == 0, told
    assert command.csv == EXPECTED
    assert len(command.asked()) == CLIPS, "each row once, in both attempts"


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_a_paused_run_waits(site: Site, workers: list[str]) -> None:
    options = ["--options", "run.clip_timeout_s=1"]
    with started(site, {"*": "slow"}, *workers, *options) as command:
        command.wait_until_asked(2)
        folder = str(command.folder)
        assert typed("pause", folder)[0] == 0
        time.sleep(1.5)
        asked = len(command.asked())
        assert asked < CLIPS
        time.sleep(1.5)
        assert len(command.asked()) == asked, "nothing is begun, and no clock runs"
        assert "state     paused" in typed("status", folder)[1]
        assert typed("unpause", folder) == (0, "The run goes on.\n")
        code, _, told = command.end()
    assert code == 0, told
    assert command.csv == EXPECTED
    assert "No answer for" not in told


def test_a_model_that_hangs_in_a_plain_run_is_told(site: Site) -> None:
    with started(site, {"4": "hang"}, "--options", "run.clip_timeout_s=0.5") as command:
        assert command.process.stderr is not None
        for line in command.process.stderr:
            if line.startswith("No answer for 0.5 s (run.clip_timeout_s)"):
                break
        else:
            pytest.fail("nothing was told")
        assert "With --supervise a model that hangs is ended" in line


def test_status_as_json_of_a_finished_run(site: Site) -> None:
    command, *_ = run(site, {}, "--workers", "2")
    code, out = typed("status", str(command.folder), "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["state"], found["rows"], found["done"], found["failed"]) == ("finished", CLIPS, CLIPS, 0)
    code, out = typed("status", str(site.folder))
    assert code == 3
    assert "is no folder of a run" in out


def evaluate_command(site: Site) -> click.Command:
    return build_evaluate_command(FakeProvider(), default_config=site.config)


CONTRADICTIONS = [
    (["--workers", "2", "--check"], "--check runs the model in this process: leave --workers out."),
    (["--supervise", "--efficiency"], "--efficiency runs the model in this process: leave --supervise out."),
    (["--supervise", "--workers", "2"], "--supervise is one worker of this machine"),
    (["--workers", "0"], "'0' is neither auto nor a number from 1 to 4096."),
    (["--ray", ""], "--ray expects an address such as head-node:6379, or auto."),
]


@pytest.mark.parametrize(("arguments", "message"), CONTRADICTIONS)
def test_options_that_do_not_belong_together(site: Site, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(evaluate_command(site), ["--mode", "valid_asr", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize("value", ["-1", "101%", "five", "1.5", "true"])
def test_wrong_numbers_of_failures(site: Site, value: str) -> None:
    result = CliRunner().invoke(
        evaluate_command(site), ["--mode", "valid_asr", "--options", f"run.max_failures={value}"]
    )
    assert result.exit_code == 2
    assert "run.max_failures" in result.output


def test_a_worker_that_stands_still_is_replaced(site: Site) -> None:
    with started(site, {"*": "slow"}, "--workers", "2", "--options", "run.clip_timeout_s=2") as command:
        command.wait_until_asked(4)
        stopped = command.asked()[-1][0]
        os.kill(stopped, signal.SIGSTOP)
        code, _, told = command.end()
    assert code == 0, told
    assert command.csv == EXPECTED
    assert "died: no answer for 2 s (run.clip_timeout_s)." in told
    wait_until_gone({stopped})


def test_a_driver_that_stood_still_goes_on(site: Site) -> None:
    with started(site, {"*": "slow"}, "--workers", "2", "--options", "run.clip_timeout_s=2") as command:
        command.wait_until_asked(3)
        command.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        command.process.send_signal(signal.SIGCONT)
        code, _, told = command.end()
    assert code == 0, told
    assert command.csv == EXPECTED
    assert sorted(row for _, row in command.asked()) == list(range(CLIPS)), "nobody is taken for dead"


def test_two_runs_of_one_folder(site: Site) -> None:
    with started(site, {"5": "hang"}, "--workers", "2") as first:
        first.wait_until_asked(1)
        command, code, _, told = run(site, {}, "--workers", "2", "--resume", str(first.folder))
        assert code == 3
        assert "is being written by a running process" in told
    wait_until_gone({pid for pid, _ in first.asked()})
    command, code, _, told = run(site, {}, "--workers", "2", "--resume", str(first.folder))
    assert code == 0, told
    assert command.csv == EXPECTED


def test_korean_paths_in_the_locale_c(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without a locale: paths, questions and answers are what they are anywhere."""
    folder = site.wavs / "한국어 음성"
    folder.mkdir()
    rows = []
    for index in range(CLIPS):
        (site.wavs / f"clip{index}.wav").rename(folder / f"소리 {index}.wav")
        path = f"한국어 음성/소리 {index}.wav"
        rows.append({"testset_id": f"test{index:04d}", "path": path, "task": "asr", "text": "고양이"})
    site.write_annotation(rows)
    for name in ("LC_ALL", "LANG", "LC_CTYPE"):
        monkeypatch.setenv(name, "C")
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    command, code, _, told = run(site, {}, "--workers", "2")
    assert code == 0, told
    assert command.csv == EXPECTED
    assert read_journal(command.folder / "predictions.jsonl")[0].reference == "고양이"
