"""Tests of evaluator/cli.py and evaluator/commands/session.py: what is typed, exit codes, streams, signals, secrets."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider, Reply
from fake_site import Site, make_site

from evaluator.cli import build_evaluate_command, main
from evaluator.commands.deprecated import chosen_mode
from evaluator.commands.session import ProgressBar
from evaluator.commands.validate import validate_command
from evaluator.config.yaml import spread_values
from evaluator.errors import ContractError
from evaluator.model import Request

ROOT = Path(__file__).resolve().parents[1]
CANARY = "hf_CANARYcanaryCANARY1234"
PLAIN_CANARY = "canary-without-a-known-shape"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def invoke(provider: FakeProvider, site: Site, *args: str) -> Result:
    """Run the evaluate command of a provider in this process."""
    command = build_evaluate_command(provider, default_config=site.config)
    return CliRunner().invoke(command, args)


SPREAD = [
    (["--options", "a=1", "b=2", "--mode", "x"], ["--options", "a=1", "--options", "b=2", "--mode", "x"]),
    (["--mode", "x", "--options", "a=1"], ["--mode", "x", "--options", "a=1"]),
    (["--options", "a.b", "-1", "c", "-.5"],
     ["--options", "a.b", "--options", "-1", "--options", "c", "--options", "-.5"]),
    (["--options", "a=1", "--check", "--options", "b=2"], ["--options", "a=1", "--check", "--options", "b=2"]),
    (["--options=a=1", "--check"], ["--options=a=1", "--check"]),
    (["--options"], ["--options"]),
    (["--options", "--check"], ["--check", "--options"]),
    ([], []),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), SPREAD)
def test_options_take_many_values(given: list[str], expected: list[str]) -> None:
    assert spread_values(given, "--options") == expected


MODES = [
    (("valid_asr", None, False), "valid_asr", False),
    ((None, "asr", False), "valid_asr", True),
    ((None, "aac", False), "valid_aac", True),
    ((None, "asr", True), "submission_asr", True),
    ((None, "aac", True), "submission_aac", True),
    (("valid_asr", "asr", False), "valid_asr", True),
    (("submission_asr", "asr", False), "submission_asr", True),
    (("submission_aac", None, True), "submission_aac", True),
    ((None, None, False), None, False),
]


@pytest.mark.parametrize(("flags", "mode", "notice"), MODES)
def test_deprecated_flags_mean_what_they_say(
    flags: tuple[str | None, str | None, bool], mode: str, notice: bool
) -> None:
    chosen, notices = chosen_mode(flags[0], flags[1], skip_scoring=flags[2])
    assert chosen == mode
    assert bool(notices) == notice
    assert all("deprecated" in text and f"--mode {mode}" in text for text in notices)


@pytest.mark.parametrize(
    ("mode", "task", "skip"),
    [("valid_asr", "aac", False), ("valid_asr", "asr", True), ("submission_aac", "asr", True), (None, None, True),
     ("valid_aac", None, True)],
)  # fmt: skip
def test_contradictions_are_usage_errors(mode: str | None, task: str | None, skip: bool) -> None:
    with pytest.raises(click.UsageError):
        chosen_mode(mode, task, skip_scoring=skip)


def test_help_has_an_example_of_each_mode(site: Site) -> None:
    result = invoke(FakeProvider(), site, "--help")
    assert result.exit_code == 0
    for mode in ("valid_asr", "valid_aac", "submission_asr", "submission_aac"):
        assert f"python evaluate_salmonn.py --mode {mode}" in result.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            [],
            "--mode is required: one of submission_asr, submission_aac, submission_qa, submission_cls, ",
        ),
        (["--mode", "valid_arc"], "'valid_arc' is not one of"),
        (["--mode", "valid_asr", "--task", "aac"], "contradicts"),
        (["--skip_scoring"], "--skip_scoring needs --task"),
        (["--mdoe", "valid_asr"], "--mode"),
        (["--mode", "valid_asr", "stray"], "unexpected extra argument"),
        (["--mode", "valid_asr", "--limit", "0"], "0 is not in the range x>=1"),
        (["--check", "--limit", "3"], "--limit belongs to a run"),
        (["--efficiency", "--limit", "3"], "--efficiency has --clips"),
        (["--efficiency", "--resume", "auto"], "--efficiency always begins anew"),
        (["--check", "--resume", "auto"], "--check always begins anew"),
        (["--mode", "valid_asr", "--control", "noise", "--resume", "auto"], "--control always begins anew"),
    ],
)
def test_usage_errors(site: Site, args: list[str], message: str) -> None:
    result = invoke(FakeProvider(), site, *args)
    assert result.exit_code == 2
    assert message in result.stderr


def test_results_on_stdout_and_the_rest_on_stderr(site: Site) -> None:
    result = invoke(FakeProvider(), site, "--mode", "valid_asr")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("valid_asr: speech recognition\n")
    assert "100 %" in result.stderr
    assert "100 %" not in result.stdout
    assert "Wrote" in result.stderr


@pytest.mark.parametrize("spelling", [["--task", "asr", "--skip_scoring"], ["--task", "asr", "--skip-scoring"]])
def test_deprecated_flags_run(site: Site, spelling: list[str]) -> None:
    result = invoke(FakeProvider(), site, *spelling)
    assert result.exit_code == 0
    assert "--task and --skip_scoring are deprecated; this is --mode submission_asr." in result.stderr
    assert list((site.results / "submission_results").glob("*_submission_asr.csv"))


def test_flags_reach_the_config(site: Site, tmp_path: Path) -> None:
    provider = FakeProvider()
    elsewhere = tmp_path / "elsewhere"
    result = invoke(
        provider, site, "--mode", "valid_asr", "--options", "generate.num_beams=7", "run.batch_size_eval=2",
        "--device", "cuda:1", "--output-dir", str(elsewhere),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    [(config, device)] = provider.loads
    assert (device, config["generate"]["num_beams"], config["run"]["batch_size_eval"]) == ("cuda:1", 7, 2)
    assert list(elsewhere.glob("valid_results/*.csv"))
    assert not (site.results / "valid_results").exists()


def test_config_problems_of_both_sides_in_one_report(site: Site) -> None:
    provider = FakeProvider(problems=[("model.layers", "is too deep; the most is 3")])
    result = invoke(provider, site, "--mode", "valid_asr", "--options", "run.batch_size_eval=none", "model.layers=9")
    assert result.exit_code == 2
    assert "run.batch_size_eval" in result.stderr
    assert "model.layers: is too deep" in result.stderr
    assert provider.loads == []


def test_data_problems_exit_with_3(site: Site) -> None:
    site.write_annotation([{"testset_id": "test0000", "path": "none.wav", "task": "asr", "text": "a"}])
    result = invoke(FakeProvider(), site, "--mode", "valid_asr")
    assert result.exit_code == 3
    assert "none.wav" in result.stderr
    assert "Traceback" not in result.stderr


class OwnError(Exception):
    """What a model package raises with a sentence for the user."""


def test_own_load_errors_are_sentences(site: Site) -> None:
    OwnError.__module__ = "fakelm.errors"
    result = invoke(FakeProvider(model=OwnError("ckpt.pth lacks 2 keys: a, b")), site, "--mode", "valid_asr")
    assert result.exit_code == 4
    assert "OwnError: ckpt.pth lacks 2 keys: a, b" in result.stderr
    assert "Traceback" not in result.stderr


class _OwnFailure(EchoLM):
    """Ends with the package's own error while it answers."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Any]:
        yield from super().generate([next(iter(requests))])
        raise OwnError("clip 2 is longer than the window")


def test_own_errors_while_answering_are_sentences(site: Site) -> None:
    OwnError.__module__ = "fakelm.errors"
    result = invoke(FakeProvider(model=_OwnFailure()), site, "--mode", "valid_asr")
    assert result.exit_code == 4
    assert "Error: OwnError: clip 2 is longer than the window" in result.stderr
    assert "4 of 5 rows have no answer" in result.stderr
    assert "Traceback" not in result.stderr


def test_other_load_errors_show_where(site: Site) -> None:
    result = invoke(FakeProvider(model=KeyError("eos")), site, "--mode", "valid_asr")
    assert result.exit_code == 4
    assert "Traceback" in result.stderr
    assert "Error: The model could not be loaded. KeyError: 'eos'" in result.stderr


def test_broken_contract_exits_with_4(site: Site) -> None:
    result = invoke(FakeProvider(model=EchoLM(say=lambda request: None)), site, "--mode", "valid_asr")  # type: ignore[arg-type,return-value]
    assert result.exit_code == ContractError.exit_code == 4
    assert "text is None" in result.stderr


def test_recorded_failure_exits_with_1(site: Site) -> None:
    (site.wavs / "clip1.wav").write_text("not audio")
    result = invoke(FakeProvider(), site, "--mode", "submission_asr", "--options", "run.on_audio_error=record")
    assert result.exit_code == 1
    assert "test0001" in result.stdout
    assert "failed          1" in result.stdout


def test_check_passes_and_fails(site: Site) -> None:
    good = invoke(FakeProvider(), site, "--check")
    assert good.exit_code == 0
    assert good.stdout.endswith("The model keeps the contract.\n")
    counter: Iterator[int] = iter(range(10**6))
    bad = invoke(FakeProvider(model=EchoLM(say=lambda request: str(next(counter)))), site, "--check")
    assert bad.exit_code == 1
    assert "FAILED  the same again" in bad.stdout


def test_check_shows_how_far_it_is(site: Site) -> None:
    told = [line for line in invoke(FakeProvider(), site, "--check").stderr.splitlines() if " checks" in line]
    assert len(told) >= 8
    assert told[-1] == "100 %  14 of 14 checks"


def test_a_limit_is_a_try(site: Site) -> None:
    result = invoke(FakeProvider(), site, "--mode", "submission_asr", "--limit", "2")
    assert result.exit_code == 0
    assert "rows            2 of 5 (--limit): a try and no submission" in result.stdout
    assert "the CSV is a try and no submission" in result.stderr
    assert len(list(site.results.glob("submission_results/*_submission_asr_first2.csv"))) == 1


@pytest.mark.parametrize("flag", ["-h", "--help", "--version"])
def test_every_command_tells_of_itself(site: Site, flag: str) -> None:
    commands = [(main, []), *((main, [name]) for name in main.commands), (validate_command, [])]
    for command, args in commands:
        result = CliRunner().invoke(command, [*args, flag])
        assert result.exit_code == 0, (args, flag, result.output)
        assert result.stdout.startswith("audiolm-evaluator " if flag == "--version" else "Usage: ")
    result = invoke(FakeProvider(), site, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("audiolm-evaluator " if flag == "--version" else "Usage: ")


def test_a_version_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.commands.command_line.PACKAGE", "never-installed-here")
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.stdout.partition(":")[0]) == (0, "never-installed-here, version unknown")


def test_check_begins_with_a_task_of_the_mode(site: Site) -> None:
    model = EchoLM()
    invoke(FakeProvider(model=model), site, "--check", "--mode", "valid_aac")
    assert model.pulled[0].task == "audiocaption"


def test_log_lines_of_the_model_package_are_shown(site: Site) -> None:
    class Talking(FakeProvider):
        def load_model(self, config: Mapping[str, Any], device: str) -> Any:
            logging.getLogger("fakelm.weights").info("loaded 69 tensors")
            logging.getLogger("elsewhere").info("chatter")
            return super().load_model(config, device)

    result = invoke(Talking(), site, "--mode", "submission_asr")
    assert "loaded 69 tensors" in result.stderr
    assert "chatter" not in result.stderr
    assert "loaded" not in result.stdout


@pytest.mark.parametrize("total", [3, 10, 80, 1001])
def test_progress_off_a_terminal_is_a_line_each_tenth(capsys: pytest.CaptureFixture[str], total: int) -> None:
    with ProgressBar() as progress:
        for done in range(1, total + 1):
            progress(done, total)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == min(total, 10)
    assert lines[-1] == f"100 %  {total} of {total} clips"


def test_progress_tells_of_failures(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar() as progress:
        progress(5, 10, 0)
        progress(10, 10, 2)
    assert capsys.readouterr().err.splitlines()[-1] == "100 %  10 of 10 clips, 2 without an answer"


# ------------------------------------------------------------------------------------------------ secrets


class Leaky(FakeProvider):
    """A model package that says what it was given in every way it can."""

    def load_model(self, config: Mapping[str, Any], device: str) -> Any:
        secret = f"{config['model'].get('token')} and {os.environ.get('HF_TOKEN')}"
        print(f"printed {secret}")
        print(f"printed {secret}", file=sys.stderr)
        logging.getLogger("fakelm").info("logged %s", secret)
        logging.getLogger("fakelm").error("logged with a traceback", exc_info=ValueError(secret))
        if self.model is None:
            raise ValueError(f"raised {secret}")

        def generate(requests: Iterable[Request]) -> Iterator[Reply]:
            for request in requests:
                yield Reply(request.index, "said", 1, "stop")
            if self.labels.get("asr"):
                raise RuntimeError(f"raised late {secret}")

        self.model.generate = generate
        return self.model


def everything_written(site: Site, result: Result) -> str:
    files = [path.read_text(errors="replace") for path in site.results.rglob("*") if path.is_file()]
    return "\n".join([result.stdout, result.stderr, *files])


@pytest.mark.parametrize("canary", [CANARY, PLAIN_CANARY])
@pytest.mark.parametrize("place", ["config", "environment"])
@pytest.mark.parametrize("load_fails", [False, True])
def test_token_canary(site: Site, monkeypatch: pytest.MonkeyPatch, canary: str, place: str, load_fails: bool) -> None:
    if place == "config":
        site.change({"model": {"token": canary}})
    else:
        monkeypatch.setenv("HF_TOKEN", canary)
    result = invoke(Leaky(model=None if load_fails else EchoLM()), site, "--mode", "valid_asr")
    written = everything_written(site, result)
    assert result.exit_code == (4 if load_fails else 0), result.output
    assert "printed" in result.stdout
    assert "logged" in result.stderr
    assert canary not in written


def test_token_canary_in_config_errors(site: Site) -> None:
    site.change({"model": {"token": CANARY}, "run": {"device": CANARY, "batch_size": CANARY}})
    result = invoke(FakeProvider(problems=[("model.token", f"{CANARY} is no token")]), site, "--mode", "valid_asr")
    assert result.exit_code == 2
    assert CANARY not in everything_written(site, result)


# ------------------------------------------------------------------------------ processes of their own

SCRIPT = """
import sys, time
from pathlib import Path
from fake_model import EchoLM, FakeProvider, Reply
from fake_site import Site, make_site
from evaluator.cli import build_evaluate_command

class Slow(EchoLM):
    def generate(self, requests):
        for number, request in enumerate(requests):
            if number == 2:
                {at_third}
            yield Reply(request.index, "said", 1, "stop")

build_evaluate_command(FakeProvider(model=Slow()), default_config=Path(sys.argv.pop(1)))()
"""


@contextmanager
def started(site: Site, at_third: str, *args: str, token: str = "") -> "Iterator[subprocess.Popen[str]]":
    """The evaluate command in a process of its own; `at_third` is what the model does at its third clip."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "HF_TOKEN": token}
    command = [sys.executable, "-c", SCRIPT.format(at_third=at_third), str(site.config), *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def journal_lines(site: Site) -> int:
    return sum(len(path.read_text().splitlines()) for path in site.results.rglob("predictions.jsonl"))


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Terminated.")],
)
def test_signals_unwind(site: Site, number: signal.Signals, code: int, word: str) -> None:
    with started(site, "time.sleep(60)", "--mode", "valid_asr") as process:
        deadline = time.monotonic() + 30
        while journal_lines(site) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert word in err
    assert "Traceback" not in err
    assert out == ""
    [record] = site.results.rglob("run.json")
    ended = json.loads(record.read_text())
    assert ended["status"] == "interrupted"
    assert ended["reason"] == ("KeyboardInterrupt" if number == signal.SIGINT else "Terminated: stopped by SIGTERM")
    assert journal_lines(site) == 2


def children(process: "subprocess.Popen[str]") -> list[int]:
    """The process ids of a process's children."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def is_running(number: int) -> bool:
    """Whether a process is there and no zombie."""
    path = Path(f"/proc/{number}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from Linux's /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_java_ends_with_the_run(site: Site, spice_lib: Path, number: signal.Signals, code: int) -> None:
    site.change({"scoring": {"cache_path": str(spice_lib)}})
    found: list[int] = []
    with started(site, "pass", "--mode", "valid_aac") as process:
        deadline = time.monotonic() + 60
        while not found and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            found = children(process) if list(site.results.rglob("*.csv")) else []
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert found
    while any(is_running(child) for child in found) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(child) for child in found)


def test_model_that_raises_in_the_middle(site: Site) -> None:
    at_third = f'raise RuntimeError("fell over with {CANARY} {PLAIN_CANARY}")'
    with started(site, at_third, "--mode", "valid_asr", token=PLAIN_CANARY) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" in err
    assert "fell over" in err
    assert "The run did not finish. What it has is in" in err
    assert journal_lines(site) == 2
    [record] = site.results.rglob("run.json")
    facts = json.loads(record.read_text())
    assert (facts["status"], facts["stage"]) == ("failed", "predict")
    assert "fell over" in facts["reason"]
    for canary in (CANARY, PLAIN_CANARY):
        assert canary not in out + err + record.read_text()


def started_modules(code: str) -> set[str]:
    """The modules that a process has imported after running some code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    path = os.pathsep.join([str(ROOT), str(ROOT / "audiolm-trainer")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


HEAVY = {"torch", "transformers", "pandas", "aac_metrics", "soundfile", "soxr", "numpy", "jiwer", "tqdm", "pydantic"}


@pytest.mark.parametrize(
    "code",
    [
        "import evaluate_salmonn\nevaluate_salmonn.main(['--help'], standalone_mode=False)",
        "import evaluator.cli\nevaluator.cli.main(['--help'], standalone_mode=False)",
        "import evaluate_salmonn, click\n"
        "try: evaluate_salmonn.main(['--mode', 'x'], standalone_mode=False)\n"
        "except click.UsageError: pass",
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(code: str) -> None:
    assert started_modules(code) & HEAVY == set()


def test_config_errors_import_nothing_heavy() -> None:
    code = (
        "import evaluate_salmonn\n"
        "try: evaluate_salmonn.main(['--mode', 'valid_asr', '--options', 'run.devise=cpu'], standalone_mode=False)\n"
        "except SystemExit as error: assert error.code == 2"
    )
    assert started_modules(code) & (HEAVY - {"pydantic", "numpy"}) == set()


def test_group_has_its_commands() -> None:
    def names(command: click.Group) -> Sequence[str]:
        return sorted(command.commands)

    scoring = ["compare", "explain", "host", "report", "score", "setup-metrics", "validate"]
    running = ["pause", "run", "status", "stop", "unpause"]
    assert names(main) == sorted([*scoring, *running, "board", "convert", "doctor", "efficiency", "settings"])


def test_group_validates(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("testset_id,text\ntest0000,a cat\n")
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert (result.exit_code, result.stdout) == (0, "Validation passed: The CSV file is valid.\n")
