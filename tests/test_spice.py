"""Tests of SPICE: equal to the golden values, and no worker process left behind, whatever happens."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.captioning import Captions
from evaluator.scoring.java import find_java
from evaluator.scoring.spice import SpiceWorker, cut_words, spice_protocol
from evaluator.scoring.spice_files import CORENLP_JAR, SMALL_MODELS_JAR, SpiceFiles
from evaluator.scoring.spice_worker import _batches

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-12
END_SECONDS = 15.0

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(scope="module")
def files(spice_lib: Path) -> SpiceFiles:
    folder = spice_lib
    return SpiceFiles(corenlp=folder / CORENLP_JAR, models=folder / SMALL_MODELS_JAR, source="test")


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "golden_spice.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def worker(files: SpiceFiles) -> Iterator[SpiceWorker]:
    """One worker for all questions of content: its start takes seconds."""
    with SpiceWorker(files, find_java()) as opened:
        yield opened


def golden_captions(golden: dict[str, Any], prefix: str) -> Captions:
    items = golden["items"]
    return Captions(
        candidates=tuple(item[f"{prefix}candidate"] for item in items),
        references=tuple(tuple(item[f"{prefix}references"]) for item in items),
    )


@pytest.mark.parametrize(("kind", "prefix"), [("ptb", "ptb_"), ("raw", "")])
def test_equal_to_the_golden_values(worker: SpiceWorker, golden: dict[str, Any], kind: str, prefix: str) -> None:
    score = worker.score(golden_captions(golden, prefix), max_words=80)
    assert len(score.rows) == len(golden["items"]) == 36
    counts = zip(*(score.evidence[name] for name in ("matched", "candidate_only", "reference_only")), strict=True)
    for row, counted, item in zip(score.rows, counts, golden["items"], strict=True):
        assert row == pytest.approx(item[kind]["spice"], abs=TOLERANCE), item["id"]
        assert list(counted) == item[kind]["counts"], item["id"]
    assert score.value == pytest.approx(golden["corpus"][kind], abs=TOLERANCE)
    assert score.totals["cut_captions"] == 0


# What Java itself says of each row, of which the worker passes on score and counts.
TUPLES = """
import json, sys
from evaluator.scoring import spice_worker
setup = json.load(sys.stdin)
spice_worker._row = lambda item: item
scorer = spice_worker.SpiceScorer(setup["jvm"], setup["class_path"], 1)
*_, last = scorer.score(setup["candidates"], setup["references"], {})
print(json.dumps(last["result"]))
"""


def test_the_golden_tuples(files: SpiceFiles, golden: dict[str, Any]) -> None:
    items = [item for item in golden["items"] if "candidate_tuples" in item["ptb"]]
    assert items
    setup = {
        "jvm": str(find_java().library()),
        "class_path": [str(path) for path in files.class_path()],
        "candidates": [item["ptb_candidate"] for item in items],
        "references": [item["ptb_references"] for item in items],
    }
    done = subprocess.run(
        [sys.executable, "-c", TUPLES], input=json.dumps(setup), stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    for row, item in zip(json.loads(done.stdout), items, strict=True):
        for found, wanted in (("test_tuples", "candidate_tuples"), ("ref_tuples", "reference_tuples")):
            assert sorted(entry["tuple"] for entry in row[found]) == sorted(item["ptb"][wanted]), item["id"]


def test_each_distinct_caption_is_parsed_once(worker: SpiceWorker) -> None:
    captions = Captions(("a dog barks", "a dog barks", "rain"), (("rain", "rain"), ("a dog barks",), ("rain", "wind")))
    seen: list[tuple[int, int]] = []
    score = worker.score(captions, max_words=80, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    assert list(score.rows) == [0.0, 1.0, pytest.approx(2 / 3)]
    # A reference that is given twice counts once.
    assert score.evidence["reference_only"][0] == 1


def test_long_captions_are_cut_for_spice_and_counted(worker: SpiceWorker) -> None:
    loop = "a dog barks and " * 200
    captions = Captions((loop, "a dog barks"), (("a dog barks",), (f"{loop} a cat",)))
    score = worker.score(captions, max_words=3)
    assert list(score.rows) == [1.0, 1.0]
    assert score.evidence["cut_captions"] == (1, 1)


def test_cut_words() -> None:
    assert cut_words("a a  b b", 3) == "a a b"
    assert cut_words("a a  b", 3) == "a a  b"  # not longer: as it was
    assert cut_words("", 3) == ""
    assert "cut after 3 words for SPICE only" in spice_protocol(3)


def test_batches_keep_order_and_report_often() -> None:
    captions = [f"word{number} " * length for number, length in enumerate((1, 5, 200, 1, 1, 80, 80, 3))]
    batches = list(_batches(captions, words=100))
    assert [caption for batch in batches for caption in batch] == captions
    assert [len(batch) for batch in batches] == [3, 4, 1]
    assert list(_batches([], words=100)) == []


def test_no_rows(worker: SpiceWorker) -> None:
    with pytest.raises(ValueError, match="no rows"):
        worker.score(Captions((), ()), max_words=80)


def alive(process_id: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for yet does not."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
        return status.rpartition(")")[2].split()[0] not in "ZX"
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def assert_ends(process_id: int) -> None:
    deadline = time.monotonic() + END_SECONDS
    while alive(process_id):
        assert time.monotonic() < deadline, f"process {process_id} is left"
        time.sleep(0.05)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, None])
def test_the_worker_ends_with_its_block(files: SpiceFiles, error: type[BaseException] | None) -> None:
    threads = threading.active_count()
    with contextlib.suppress(KeyboardInterrupt, ValueError), SpiceWorker(files, find_java()) as worker:
        process_id = worker._process.pid
        assert alive(process_id)
        if error is not None:
            raise error
    assert not alive(process_id)
    assert threading.active_count() == threads


def test_a_worker_that_says_nothing_is_ended(files: SpiceFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.scoring.spice.STALL_SECONDS", 0.05)
    captions = Captions(("a dog",), (("a dog",),))
    with SpiceWorker(files, find_java()) as worker:
        with pytest.raises(MetricUnavailableError, match=r"reported nothing for 0\.05 s"):
            worker.score(captions, max_words=80)
        process_id = worker._process.pid
    assert not alive(process_id)


def test_a_worker_that_is_killed_is_a_reason(files: SpiceFiles) -> None:
    with SpiceWorker(files, find_java()) as worker:
        os.kill(worker._process.pid, signal.SIGTERM)
        with pytest.raises(MetricUnavailableError, match=r"ended early: .*exit status -15") as caught:
            worker.score(Captions(("a dog",), (("a dog",),)), max_words=80)
    assert "the other metrics do not need SPICE" in caught.value.fix


def test_what_java_says_is_told(files: SpiceFiles) -> None:
    broken = replace(files, models=files.corenlp)
    with SpiceWorker(broken, find_java()) as worker, pytest.raises(MetricUnavailableError, match="englishPCFG"):
        worker.score(Captions(("a dog",), (("a dog",),)), max_words=80)


def test_folders_of_any_name_in_the_locale_c(
    files: SpiceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers are often in the locale C, in which Java alone knows no names but ASCII."""
    folder = tmp_path / "한글 폴더"
    folder.mkdir()
    corenlp, models = (shutil.copy(path, folder) for path in (files.corenlp, files.models))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    there = replace(files, corenlp=Path(corenlp), models=Path(models))
    with SpiceWorker(there, find_java()) as worker:
        assert worker.score(Captions(("a dog barks",), (("a dog barks",),)), max_words=80).value == 1


# A parent that starts a worker, tells its id, and then goes the way the test wants.
PARENT = """
import os, sys, time
from pathlib import Path
from evaluator.scoring.captioning import Captions
from evaluator.scoring.java import find_java
from evaluator.scoring.spice import SpiceWorker
from evaluator.scoring.spice_files import SpiceFiles

folder, behaviour = Path(sys.argv[1]), sys.argv[2]
files = SpiceFiles(folder / sys.argv[3], folder / sys.argv[4], "test")
tell = lambda *_: print(worker._process.pid, flush=True)
with SpiceWorker(files, find_java()) as worker:
    if behaviour == "forks" and os.fork() == 0:
        time.sleep(60)  # holds the worker's input open, as a data loader's process would
        os._exit(0)
    if behaviour == "parses":
        captions = [f"dog {number} barks at the old man" for number in range(2000)]
        worker.score(Captions(tuple(captions), tuple((text,) for text in captions)), max_words=80, progress=tell)
    tell()
    time.sleep(60)
"""


@posix_only
@pytest.mark.parametrize(
    ("behaviour", "number"),
    [
        ("waits", signal.SIGKILL),
        ("waits", signal.SIGTERM),
        ("waits", signal.SIGINT),
        ("forks", signal.SIGKILL),
        pytest.param("parses", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("parses", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_the_worker_never_outlives_its_parent(files: SpiceFiles, behaviour: str, number: signal.Signals) -> None:
    arguments = [str(files.corenlp.parent), behaviour, files.corenlp.name, files.models.name]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            process_id = int(parent.stdout.readline())
            assert alive(process_id)
            parent.send_signal(number)
            assert parent.wait(timeout=END_SECONDS) != 0
            assert_ends(process_id)
        finally:
            # The fork that the parent leaves is of the same session, as is the worker if the test has failed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
