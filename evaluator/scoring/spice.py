"""SPICE: tokenised captions and references in, the F score of their scene graphs' tuples out, a MetricResult.

The scoring runs in a worker process of its own (`scoring/spice_worker.py`) that loads Java's own SPICE classes; this
file starts it, talks to it and ends it. It never outlives the block that it is used in, nor this process.
"""

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.captioning import Captions
from evaluator.scoring.captions.kept import SPICE, KeptTexts
from evaluator.scoring.java import Java, end_process, java_environment
from evaluator.scoring.result import MetricResult
from evaluator.scoring.spice_files import SpiceFiles

log = logging.getLogger(__name__)

# The worker reports after about 320 words of captions, which takes seconds; a caption of 200 words takes
# minutes.
STALL_SECONDS = 600.0

_FIX = "run again with a lower scoring.spice_max_words or more memory; the other metrics do not need SPICE"
_LOG_LINES = 3
_END_SECONDS = 5.0


def cut_words(caption: str, max_words: int) -> str:
    """The first `max_words` words of a caption: ("a a b b", 3) -> "a a b".

    SPICE's parser needs time that grows with the cube of the length (80 words 11 s, 160 words 83 s), so that
    one answer that loops would cost more than a whole set.
    """
    return " ".join(caption.split()[:max_words]) if len(caption.split()) > max_words else caption


def spice_protocol(max_words: int) -> str:
    """What decides the score besides the captions, for every place where it is shown."""
    return f"SPICE 1.0, CoreNLP 3.6.0 without NER, captions cut after {max_words} words for SPICE only"


class SpiceWorker:
    """The worker process; use it as a context.

    It starts loading at once, so that other work can be done until `score` is called. Leaving the block ends
    it, by errors and Ctrl-C as well; if this process is killed the worker notices and ends itself.

    Args:
        files: SPICE's jars.
        java: the Java whose JVM runs them.
        threads: threads of the parser.

    Example:
        with SpiceWorker(find_spice_files(), find_java()) as worker:
            score = worker.score(captions, max_words=80)
    """

    def __init__(self, files: SpiceFiles, java: Java, *, threads: int = 2) -> None:
        self._setup = {
            "jvm": str(java.library()),
            "class_path": [str(path) for path in files.class_path()],
            "threads": threads,
        }
        # Of other files than the published ones a parse may be another.
        self._kept = KeptTexts("" if files.remark else SPICE)
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "SpiceWorker":
        with contextlib.ExitStack() as opened:
            self._log = opened.enter_context(tempfile.TemporaryFile())
            self._process = _start(self._log)
            opened.callback(end_process, self._process)
            reader = threading.Thread(target=self._read, name="spice-reader", daemon=True)
            reader.start()
            # Killed before it is joined, joined before its pipe is closed.
            opened.callback(reader.join)
            opened.callback(self._process.kill)
            self._send(self._setup)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def score(
        self,
        captions: Captions,
        *,
        max_words: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> MetricResult:
        """Score a set; each distinct caption is parsed once, and references that were parsed before are not at all.

        Args:
            captions: at least one row, tokenised or raw: SPICE has a tokeniser of its own.
            max_words: longer captions are cut to this many words, here only, on both sides.
            progress: called with (captions parsed, distinct captions to parse).

        Returns:
            MetricResult: the mean of the rows, each the F score of all tuples, 0 where nothing matches. The evidence
            counts tuples that both sides have, that only the candidate and only the references have, and captions
            that were cut.

        Raises:
            MetricUnavailableError: the worker failed, ran out of memory or reported nothing for too long.
            ValueError: there are no rows.
        """
        if not captions.candidates:
            raise ValueError("SPICE of no rows is not defined")
        texts = list(zip(captions.candidates, captions.references, strict=True))
        shortened = [
            (cut_words(candidate, max_words), [cut_words(text, max_words) for text in row]) for candidate, row in texts
        ]
        cut = tuple(
            sum(after != before for after, before in zip([new, *new_row], [old, *old_row], strict=True))
            for (new, new_row), (old, old_row) in zip(shortened, texts, strict=True)
        )
        candidates, references = zip(*shortened, strict=True)
        of_references = {text for row in references for text in row}
        known = self._kept.read(sorted(of_references.union(candidates)))
        self._send({"candidates": candidates, "references": references, "known": known})
        while True:
            message = self._receive()
            if "progress" in message:
                self._kept.write({text: told for text, told in message["parsed"].items() if text in of_references})
                progress(*message["progress"])
            elif "result" in message:
                return _result(message["result"], cut)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            log.debug("the SPICE worker has ended; its reason is read next")

    def _read(self) -> None:
        """In a thread: pass the worker's messages on, None at their end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def _receive(self) -> dict[str, Any]:
        try:
            message = self._messages.get(timeout=STALL_SECONDS)
        except queue.Empty:
            reason = f"SPICE's Java process reported nothing for {STALL_SECONDS:g} s"
            raise MetricUnavailableError(reason, fix=_FIX) from None
        if message is None:
            raise MetricUnavailableError(f"SPICE's Java process ended early: {self._last_words()}", fix=_FIX)
        if "error" in message:
            raise MetricUnavailableError(f"SPICE's Java process failed: {message['error']}", fix=_FIX)
        return message

    def _last_words(self) -> str:
        """The end of the worker's log and its exit status, on one line."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_END_SECONDS)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()][-_LOG_LINES:]
        return " / ".join([*said, f"exit status {self._process.returncode}"])


def _result(rows: Sequence[Mapping[str, Any]], cut: tuple[int, ...]) -> MetricResult:
    scores = tuple(float(row["score"]) for row in rows)
    counts = zip(*(row["counts"] for row in rows), strict=True)
    evidence = dict(zip(("matched", "candidate_only", "reference_only"), counts, strict=True))
    return MetricResult("spice", sum(scores) / len(scores), scores, {**evidence, "cut_captions": cut})


def _start(log_file: "IO[bytes]") -> "subprocess.Popen[str]":
    """Start the worker with this interpreter, from the folder that holds the package, wherever that is."""
    root = Path(__file__).resolve().parents[2]
    environment = {**java_environment(), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "evaluator.scoring.spice_worker", str(os.getpid())],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
        encoding="utf-8",
    )
