"""Annotations: every wrong row in one report, the same rows whatever the chunks, errors with their line."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from salmonn.data import annotation, annotation_rows
from salmonn.data.annotation import Annotation
from salmonn.data.annotation_rows import AnnotationRows
from salmonn.data.annotation_table import Row
from salmonn.data.row_checks import PATHS_AT_ONCE, SHOWN_PROBLEMS, find_files
from salmonn.errors import DatasetError

TASKS = {"asr": False, "QA": True}


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.wav").touch()
    return tmp_path


def write(folder: Path, data: object, name: str = "ann.json") -> Path:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def rows_of(path: Path, prefix: Path | str = "") -> list[Row]:
    source = Annotation(path, prefix=str(prefix), tasks=TASKS)
    return [row for part in source.parts() for row in part]


def test_rows_become_samples_with_the_originals_defaults(wavs: Path) -> None:
    rows = [
        {"path": "0.wav", "text": "one"},
        {"path": str(wavs / "1.wav"), "text": "two", "task": "QA", "Q": "What?", "expand_wav": []},
    ]
    expected = [Row("0.wav", "one", "", "asr"), Row(str(wavs / "1.wav"), "two", "What?", "QA")]
    for data in ({"annotation": rows}, rows, {"a": [1], "annotation": rows, "b": {"annotation": []}}):
        assert rows_of(write(wavs, data), wavs) == expected
    lines = "\n\n".join(json.dumps(row) for row in rows)
    for end in ("", "\n"):
        assert rows_of(write(wavs, lines + end, "ann.jsonl"), wavs) == expected


@pytest.mark.parametrize("rows_at_once", [1, 4, 100])
def test_every_wrong_row_is_in_one_report(wavs: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(annotation, "ROWS_PER_BATCH", rows_at_once)
    rows: list[Any] = [
        {"path": "0.wav", "text": "fine"},
        {"path": "none.wav", "text": "a"},
        {"path": "0.wav"},
        {"path": 3, "text": ""},
        {"path": "0.wav", "text": "a", "task": "asrr"},
        {"path": "0.wav", "text": "a", "task": "QA"},
        {"path": "../0.wav", "text": "a"},
        {"path": ".", "text": "a"},
        "row",
        {"path": "0.wav", "text": "a", "task": ["asr"]},
        {"path": "0.wav", "text": "half \ud83d"},
        {"path": "nul\0.wav", "text": "a"},
    ]
    with pytest.raises(DatasetError) as caught:
        rows_of(write(wavs, {"annotation": rows}), wavs)
    report = str(caught.value).splitlines()
    assert "has 12 problems" in report[0]
    expected = [
        ("row 2: path: ", "none.wav' does not exist"),
        ("row 3: text: must be a text (found None)", ""),
        ("row 4: path: must be a text (found 3)", ""),
        ("row 4: text: must be a text (found '')", ""),
        ("row 5: task: 'asrr' has no training prompt (known: QA, asr)", ""),
        ("row 6: Q: task 'QA' needs a question", ""),
        ("row 7: path: '../0.wav' leaves the folder datasets.prefix", ""),
        ("row 8: path: ", "is not a file"),
        ("row 9: must be an object", ""),
        ("row 10: task: ['asr'] has no training prompt", ""),
        ("row 11: text: holds half of a character", ""),
        ("row 12: path: ", "does not exist"),
    ]
    for line, (start, part) in zip(report[1:], expected, strict=True):
        assert line.startswith(f"  {start}")
        assert part in line


def test_a_long_report_is_cut_and_counted(wavs: Path) -> None:
    rows = [{"path": f"none{number}.wav", "text": "a"} for number in range(SHOWN_PROBLEMS + 7)]
    with pytest.raises(DatasetError, match="and 7 more") as caught:
        rows_of(write(wavs, rows), wavs)
    assert len(str(caught.value).splitlines()) == SHOWN_PROBLEMS + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("{}", "must hold"),
        ('{"annotation": []}', "has no rows"),
        ('{"annotation": {}}', "must hold"),
        ('{"annotation": [], "annotation": []}', "twice"),
        ("3", "must hold"),
        ("[] []", "Extra data: line 1 column 4"),
        ('[\n{"path": "0.wav"},\n{"path": oh}\n]', "is not JSON: Expecting value: line 3 column 10"),
        ('[\n{"path": "0.wav"}\n{}]', "line 3 column 1"),
        ('[{"path": "0.wav"}', "line 1 column 19"),
        ("\ufeff[]", "has no rows"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_files_that_are_no_annotation_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, chunk: int
) -> None:
    monkeypatch.setattr(annotation_rows, "CHUNK_BYTES", chunk)
    with pytest.raises(DatasetError, match=message):
        rows_of(write(tmp_path, text))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        rows_of(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes('["ä"]'.encode("latin-1"))
    with pytest.raises(DatasetError, match="not UTF-8"):
        rows_of(tmp_path / "latin.json")


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_wrong_line_is_named(tmp_path: Path, end: str) -> None:
    with pytest.raises(DatasetError, match="line 3 column 2"):
        rows_of(write(tmp_path, '{"text": "a"}\n\n{oh}' + end, "a.jsonl"))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1 << 20])
def test_values_may_be_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(annotation_rows, "CHUNK_BYTES", chunk)
    rows = [12.5, -3, 'ü \u20ac \U0001f600 "x" \\', {"a": [1, {"b": None}]}, True, [], "line\nend", 123456789]
    for indent in (None, 2):
        path = write(tmp_path, json.dumps({"x": {"y": [1]}, "annotation": rows, "z": 1}, indent=indent))
        assert list(AnnotationRows(path)) == rows
    raw = write(tmp_path, json.dumps(rows, ensure_ascii=False))
    assert list(AnnotationRows(raw)) == rows


def test_the_digest_is_of_the_bytes_that_were_parsed(wavs: Path) -> None:
    path = write(wavs, [{"path": "0.wav", "text": "a"}])
    source = Annotation(path, prefix=str(wavs), tasks=TASKS)
    list(source.parts())
    assert source.content() == Annotation(path, prefix="", tasks=TASKS).content()
    write(wavs, [{"path": "0.wav", "text": "b"}])
    assert source.content() != Annotation(path, prefix="", tasks=TASKS).content()


def test_files_are_looked_for_in_threads_and_reported_by_place(wavs: Path) -> None:
    paths = [str(wavs / f"{number % 4}.wav") for number in range(2 * PATHS_AT_ONCE + 2)]
    with ThreadPoolExecutor(3) as executor:
        found = find_files("", paths, executor)
    assert found.paths == paths
    assert sorted(found.problems) == [place for place in range(len(paths)) if place % 4 == 3]
    assert found.problems[3] == f"{paths[3]!r} does not exist"


@pytest.mark.parametrize(
    ("data", "cure"),
    [
        (b"path,text\na.wav,hello\n", "this looks like CSV, and an annotation is JSON"),
        ('[{"path": "a.wav", "text": "안녕"}]'.encode("cp949"), "it reads as CP949: save the file as UTF-8"),
        ("[]".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"[" * 100_000, "nests too deep"),
        (b"[" + b"9" * 5000 + b"]", "nests too deep or has a number too long"),
    ],
)
def test_a_mistaken_file_is_told_with_its_cure(tmp_path: Path, data: bytes, cure: str) -> None:
    (tmp_path / "ann.json").write_bytes(data)
    with pytest.raises(DatasetError, match=cure):
        rows_of(tmp_path / "ann.json")


def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path, clause in ((tmp_path / "pipe.json", "is not a regular file"), (tmp_path, "is a folder")):
        with pytest.raises(DatasetError, match=clause):
            list(AnnotationRows(path))
