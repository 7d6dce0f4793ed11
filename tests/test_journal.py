"""Tests of evaluator/run/journal.py: whole lines only, everything read back as it was."""

import errno
import json
import os
import queue
import random
import resource
import signal
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from evaluator.errors import JournalError
from evaluator.run import disk_sync
from evaluator.run.journal import Journal, JournalTail, Prediction, read_journal

FIRST = Prediction(
    index=3,
    id="test0003",
    task="asr",
    text="a cat",
    num_tokens=4,
    finish_reason="stop",
    audio_seconds=1.5,
    seconds=0.25,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two\nlines\r\n",
        "\u2028 and \x85",
        "Grüße 🎵",
        'a "quote", a comma',
        "\ud800 alone",
        "\x00",
        "null",
    ],
)
def test_text_survives(tmp_path: Path, text: str) -> None:
    path = tmp_path / "predictions.jsonl"
    with Journal(path) as journal:
        journal.append(replace(FIRST, text=text))
        journal.append(FIRST)
    assert read_journal(path) == [replace(FIRST, text=text), FIRST]
    assert path.read_bytes().count(b"\n") == 2


def test_each_record_is_on_disk_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append(replace(FIRST, index=number))
            assert [record.index for record in read_journal(path)] == list(range(number + 1))


def test_failed_clip_keeps_its_reason(tmp_path: Path) -> None:
    failed = replace(FIRST, text="", finish_reason="error", error="broken.wav: not audio", audio_seconds=0.0)
    with Journal(tmp_path / "predictions.jsonl") as journal:
        journal.append(failed)
    assert read_journal(tmp_path / "predictions.jsonl") == [failed]


def test_two_runs_never_share_a_file(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("kept")
    with pytest.raises(JournalError, match=r"Cannot create .*File exists"):
        Journal(tmp_path / "predictions.jsonl")
    assert (tmp_path / "predictions.jsonl").read_text() == "kept"


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    written = 0
    try:
        with Journal(path) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            with pytest.raises(JournalError, match="Cannot write"):  # noqa: PT012 - how many fit is asked
                for written in range(100):
                    journal.append(replace(FIRST, index=written))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [record.index for record in read_journal(path)] == list(range(written))
    assert path.read_bytes().endswith(b"\n")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring answers onto the disk at once."""
    monkeypatch.setattr(disk_sync, "SYNC_SECONDS", 0.001)


def test_nobody_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        begun.set()
        assert goes_on.wait(60)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "predictions.jsonl"
    with Journal(path) as journal:
        journal.append(FIRST)
        assert begun.wait(60)
        # The disk is at work on the first line and gets no further until this one is written.
        journal.append(replace(FIRST, index=4))
        assert [record.index for record in read_journal(path)] == [3, 4]
        goes_on.set()


def test_answers_reach_the_disk_though_no_other_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """Each line is followed by a sync of its own accord, also when the model takes long for the next answer."""
    path = tmp_path / "predictions.jsonl"
    synced: queue.Queue[int] = queue.Queue()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.put(path.read_bytes().count(b"\n")))
    with Journal(path) as journal:
        for number in range(1, 4):
            journal.append(FIRST)
            while synced.get(timeout=60) < number:
                pass


def test_what_the_disk_refuses_is_told_with_the_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(JournalError, match="Cannot write to"), Journal(tmp_path / "p") as journal:  # noqa: PT012
        for _ in range(60_000):
            journal.append(FIRST)
            time.sleep(0.001)
        pytest.fail("no answer was refused")


def test_a_journal_that_does_not_reach_the_disk_at_the_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(JournalError, match="Input/output error"), Journal(tmp_path / "first") as journal:
        journal.append(FIRST)
    with pytest.raises(ZeroDivisionError), Journal(tmp_path / "second") as journal:  # noqa: PT012 - what ends it is told
        journal.append(FIRST)
        raise ZeroDivisionError


def test_no_thread_is_left_behind(tmp_path: Path, impatient: None) -> None:
    before = threading.active_count()
    with Journal(tmp_path / "predictions.jsonl") as journal:
        journal.append(FIRST)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_torn_last_line_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with Journal(path) as journal:
        journal.append(FIRST)
    path.write_bytes(path.read_bytes() + b'{"index": 4, "id": "te')
    assert read_journal(path) == [FIRST]


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    good = json.dumps({name: getattr(FIRST, name) for name in FIRST.__dataclass_fields__})
    wrong_reference = good.replace('"reference": null', '"reference": [1]')
    wrong_type = good.replace('"num_tokens": 4', '"num_tokens": "4"')
    wrong_reason = good.replace('"stop"', '"tired"')
    path.write_text("\n".join([good, "not json", "{}", wrong_type, wrong_reason, good, wrong_reference, ""]))
    with pytest.raises(JournalError) as caught:
        read_journal(path)
    assert [(problem.where, problem.message.split(":")[0]) for problem in caught.value.problems] == [
        (f"{path}:2", "this is not JSON"),
        (f"{path}:3", "expected an object with the keys index, id, task, text, num_tokens, finish_reason, "
         "audio_seconds, seconds, error, path, reference"),
        (f"{path}:4", "num_tokens"),
        (f"{path}:5", "finish_reason"),
        (f"{path}:7", "reference"),
    ]  # fmt: skip


@pytest.mark.parametrize("reference", [None, "a cat", ("a cat", "the cat")])
def test_path_and_reference_are_kept_and_may_be_missing(
    tmp_path: Path, reference: str | tuple[str, ...] | None
) -> None:
    path = tmp_path / "predictions.jsonl"
    given = replace(FIRST, path="wavs/é.wav", reference=reference)
    with Journal(path) as journal:
        journal.append(given)
    assert read_journal(path) == [given]
    # A line of before, whose checksum is of what it has.
    record = {name: getattr(FIRST, name) for name in FIRST.__dataclass_fields__ if name not in ("path", "reference")}
    checksum = zlib.crc32(json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace"))
    path.write_bytes(json.dumps({**record, "crc32": checksum}, ensure_ascii=False).encode() + b"\n")
    assert read_journal(path) == [FIRST]


def test_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"Cannot read .*No such file"):
        read_journal(tmp_path / "none.jsonl")


def test_no_flipped_byte_changes_a_record(tmp_path: Path) -> None:
    """Any byte of a journal that a disk turns over is found: the line is named, or it is the torn end."""
    path = tmp_path / "predictions.jsonl"
    with Journal(path) as journal:
        for index in range(4):
            journal.append(replace(FIRST, index=index, text="Grüße 고양이"))
    whole, good = path.read_bytes(), read_journal(path)
    draw = random.Random(0)
    for _ in range(400):
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ draw.randrange(1, 256)]) + whole[place + 1 :])
        found = read_or_refuse(path)
        assert f"{path}:" in found if isinstance(found, str) else found == good[:3]


def read_or_refuse(path: Path) -> list[Prediction] | str:
    try:
        return read_journal(path)
    except JournalError as error:
        return str(error)


def test_a_growing_journal_is_counted_across_its_pieces(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    tail = JournalTail(path)
    assert not tail.has_grown()
    with Journal(path) as journal:
        for index in range(9000):
            failed = index % 3 == 0
            reason = "error" if failed else "stop"
            text = '"finish_reason": "error"' if not failed else ""
            error = "no" if failed else None
            journal.append(replace(FIRST, index=index, text=text, finish_reason=reason, error=error))
            if index % 1000 == 0:
                assert tail.has_grown()
    assert tail.has_grown()
    assert not tail.has_grown()
    assert path.stat().st_size > 1 << 20
    assert (tail.lines, tail.failed) == (9000, 3000)
