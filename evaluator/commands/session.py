"""The surroundings of a command that runs a model: signals, logging, progress, secrets, exit codes.

In: the body of a command. Out: the same body, of which every stream is masked, every user error is a sentence
with its exit code, and Ctrl-C (130) and SIGTERM (143) unwind it so that files are closed and child processes
end.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from evaluator.errors import AudioLMError, ModelLoadError
from evaluator.wording import duration

if TYPE_CHECKING:
    from evaluator.redaction import Redactor

logger = logging.getLogger(__name__)

_LAUNCHER_POLL_SECONDS = 0.5
_UNWINDING_SECONDS = 30.0
INTERRUPTED = 130
TERMINATED = 143


class Terminated(SystemExit):
    """SIGTERM arrived. It unwinds the stack as Ctrl-C does, and ends the process with 143."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)

    def __str__(self) -> str:
        return "stopped by SIGTERM"


@dataclass(frozen=True, slots=True)
class Session:
    """A running command: what masks its secrets, and which of several processes it is, from 0."""

    redact: "Redactor"
    rank: int = 0

    def say(self, text: str) -> None:
        """Tell the user something beside the results."""
        sys.stderr.write(_named(self.redact(text), self.rank) + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def session(provider: object, *, rank: int = 0, launched: bool = False) -> Iterator[Session]:
    """Surround the body of a command.

    Args:
        provider: the model package, whose own log lines are shown and whose own errors need no traceback.
        rank: which of several processes this is: all but process 0 log warnings only, under their number.
        launched: whether a launcher waits for this process; its death is then as good as a SIGTERM.

    Raises:
        SystemExit: for user errors and signals, with the exit code.
    """
    from evaluator.redaction import RedactingStream, Redactor

    redact = Redactor()
    current = Session(redact, rank)
    sys.excepthook = _masked_excepthook(redact)
    out = cast(TextIO, RedactingStream(sys.stdout, redact))
    err = cast(TextIO, RedactingStream(sys.stderr, redact))
    package = str(getattr(provider, "__name__", "")).partition(".")[0]
    streams = (contextlib.redirect_stdout(out), contextlib.redirect_stderr(err))
    with streams[0], streams[1], _logging(package, redact, rank), _sigterm(), _launcher_watched(watched=launched):
        try:
            yield current
        except KeyboardInterrupt:
            current.say("Interrupted.")
            raise SystemExit(INTERRUPTED) from None
        except Terminated:
            current.say("Terminated.")
            raise
        except AudioLMError as error:
            if isinstance(error, ModelLoadError) and not _is_own(error.__cause__, package):
                current.say("".join(traceback.format_exception(error.__cause__)))
            current.say(f"Error: {error}")
            raise SystemExit(error.exit_code) from error
        except Exception as error:
            if not package or not _is_own(error, package):
                raise
            current.say(f"Error: {type(error).__name__}: {error}")
            raise SystemExit(ModelLoadError.exit_code) from error


class ProgressBar:
    """Progress on standard error: a bar on a terminal, elsewhere a line for each tenth."""

    def __init__(self, unit: str = "clip") -> None:
        """Start nothing yet: the first of what is counted, named in the singular, does."""
        self._unit = unit
        self._bar: Any = None
        self._tenths = 0
        self._began: tuple[float, int] | None = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int, failed: int = 0) -> None:
        """Show that `done` of `total` samples are done, so many of them without an answer."""
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=total, unit=self._unit, file=sys.stderr, dynamic_ncols=True)
            if failed:
                self._bar.set_postfix_str(_failures(failed), refresh=False)
            self._bar.update(done - self._bar.n)
            if done == total:
                self._bar.close()
            return
        self._began = self._began or (time.monotonic(), done)
        if (tenths := done * 10 // total) > self._tenths:
            self._tenths = tenths
            told = f", {_failures(failed)}" if failed else ""
            sys.stderr.write(f"{tenths * 10:3d} %  {done} of {total} {self._unit}s{told}{self._rate(done, total)}\n")
            sys.stderr.flush()

    def _rate(self, done: int, total: int) -> str:
        """ ", 9.1/s, 1 min 4 s left"; nothing before a second has passed, which says too little."""
        began, first = self._began or (time.monotonic(), done)
        seconds = time.monotonic() - began
        if seconds < 1 or done == first:
            return ""
        rate = (done - first) / seconds
        return f", {rate:.1f}/s" + (f", {duration((total - done) / rate)} left" if done < total else "")


def _failures(count: int) -> str:
    return f"{count} without an answer"


def _named(text: str, rank: int) -> str:
    return f"[process {rank}] {text}" if rank else text


def _is_own(error: BaseException | None, package: str) -> bool:
    """Whether the model package raised an error type of its own: a sentence meant for the user."""
    return error is None or type(error).__module__.partition(".")[0] == package


@contextlib.contextmanager
def _logging(package: str, redact: "Redactor", rank: int) -> Iterator[None]:
    """Show the log lines of the evaluator and the model package from INFO (process 0), all others from WARNING."""
    from evaluator.redaction import RedactingFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(_named("%(message)s", rank), redact))
    root = logging.getLogger()
    root.addHandler(handler)
    levels = {}
    for name in filter(None, ("evaluator", package)):
        levels[name] = logging.getLogger(name).level
        logging.getLogger(name).setLevel(logging.INFO if rank == 0 else logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _sigterm() -> Iterator[None]:
    """Turn SIGTERM into Terminated, once: a second one kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _launcher_watched(*, watched: bool) -> Iterator[None]:
    """End this process soon after its launcher, which may be killed without a word to those it has started."""
    if not watched or sys.platform == "win32":
        yield
        return
    launcher = os.getppid()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LAUNCHER_POLL_SECONDS):
            if os.getppid() != launcher:
                logger.warning("The launcher of this process has died.")
                os.kill(os.getpid(), signal.SIGTERM)
                # A main thread that hangs in a library's call never sees the signal.
                if not over.wait(_UNWINDING_SECONDS):
                    os._exit(TERMINATED)
                return

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _masked_excepthook(redact: "Redactor") -> Any:
    """What the interpreter calls for a bug: the whole traceback, masked."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))

    return show
