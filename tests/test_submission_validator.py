"""The validator as participants run it: one command, its exit status, its streams, its start-up time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evaluator.commands.validate import SUCCESS, validate_command
from evaluator.submission.rules import RULES

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "submission_validator.py"
GOOD = "testset_id,text\ntest0000,hello\ntest0001,there\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(validate_command, [str(argument) for argument in arguments])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    return path


def test_success_is_one_line(good: Path) -> None:
    result = run(good)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Validation passed: The CSV file is valid.\n", "")
    assert result.stdout == SUCCESS + "\n"


def test_warnings_go_to_the_other_stream(good: Path) -> None:
    good.write_text(GOOD + "test0002,null\n")
    result = run(good)
    assert (result.exit_code, result.stdout) == (0, SUCCESS + "\n")
    assert result.stderr.startswith("warning W201 line 4: Missing-value word: 'null'")


def test_problems_are_listed_with_codes_and_lines(good: Path) -> None:
    good.write_text(GOOD + "test0000,\nx,y\n")
    result = run(good)
    assert result.exit_code == 1
    starts = [line.split(": ")[0] for line in result.stdout.splitlines()]
    assert starts == ["error E402 line 4", "error E501 line 4", "error E401 line 5", "Validation failed"]
    assert SUCCESS not in result.stdout


def test_fifty_are_shown_and_all_are_counted(good: Path) -> None:
    good.write_text("testset_id,text\n" + "x,y\n" * 80)
    lines = run(good).stdout.splitlines()
    assert len(lines) == 52
    assert lines[50].startswith("... and 30 more errors")
    assert lines[51] == "Validation failed: 80 error(s), 1 warning(s)."


def test_several_files_are_told_apart(good: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("testset_id,text\ntest0000,\ntest0001,null\n")
    result = run(good, bad)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{good}: {SUCCESS}",
        f"{bad}: error E501 line 2: Empty text: the row of 'test0000' has ''; write something visible, as a full stop",
        f"{bad}: Validation failed: 1 error(s), 1 warning(s).",
        "1 of 2 files are valid.",
    ]
    assert result.stderr.startswith(f"{bad}: warning W201 line 3")
    reports = json.loads(run(good, bad, "--json").stdout)
    assert [(report["file"], report["valid"]) for report in reports] == [(str(good), True), (str(bad), False)]
    assert run(good, good).exit_code == 0


def test_a_dash_is_standard_input(good: Path) -> None:
    def given(text: bytes, *arguments: str | Path) -> Result:
        return CliRunner().invoke(validate_command, [str(argument) for argument in arguments], input=text)

    assert (given(GOOD.encode(), "-").exit_code, given(GOOD.encode(), "-").stdout) == (0, SUCCESS + "\n")
    assert "error E105" in given(b"", "-").stdout
    assert "error E104" in given(b"testset_id,text\n" + b"x" * (65 << 20), "-").stdout
    both = given(GOOD.encode(), "-", good)
    assert (both.exit_code, both.stdout.splitlines()[0]) == (0, f"-: {SUCCESS}")
    twice = given(GOOD.encode(), "-", "-")
    assert (twice.exit_code, "can be read once" in twice.stderr) == (2, True)
    assert json.loads(given(GOOD.encode(), "-", "--json").stdout)["file"] == "-"


def test_annotation(good: Path, tmp_path: Path) -> None:
    annotation = tmp_path / "a.json"
    annotation.write_text(json.dumps([{"testset_id": "test0000"}, {"testset_id": "test0007"}]))
    result = run(good, "--annotation", annotation)
    assert result.exit_code == 1
    assert "error E403 Missing testset_id: test0007" in result.stdout
    assert "error E404 line 3: Surplus testset_id: test0001" in result.stdout


def test_json_is_for_machines(good: Path) -> None:
    good.write_text(GOOD + "test0001,\n")
    result = run(good, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["valid"], report["rows"], report["error_count"]) == (False, 3, 2)
    assert [(error["code"], error["line"]) for error in report["errors"]] == [("E402", 4), ("E501", 4)]
    assert json.loads(run(good.with_name("missing"), "--json").stdout)["errors"][0]["code"] == "E101"


@pytest.mark.parametrize("arguments", [[], ["--no-such-option", "a"], ["a", "--annotation"]])
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_codes_have_a_title_and_a_kind() -> None:
    assert all(code[0] in "EW" and len(code) == 4 and title for code, title in RULES.items())


def script(*arguments: str | Path, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command itself, in another folder, with ten seconds to end."""
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


def test_the_script_runs_from_any_folder(good: Path, tmp_path: Path) -> None:
    found = script("good.csv", folder=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, SUCCESS + "\n", "")


def test_the_script_never_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("pipe", "/dev/zero", "/dev/stdin", ".", "https://example.org/a.csv", "-"):
        assert script("--", path, folder=tmp_path).returncode == 1


def test_a_terminal_of_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("testset_id,text\ntest日,é\n", encoding="utf-8")
    found = script("a.csv", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert found.returncode == 1
    assert "Malformed testset_id" in found.stdout


def test_it_starts_light_and_fast(good: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPT, good], capture_output=True, text=True, timeout=20, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    heavy = {"numpy", "pandas", "pydantic", "soundfile", "yaml", "torch", "transformers", "jiwer", "requests"}
    assert imported & heavy == set()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        script(good, folder=tmp_path)
        times.append(time.perf_counter() - start)
    assert min(times) < 1
