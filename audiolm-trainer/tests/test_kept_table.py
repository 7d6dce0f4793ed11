"""Kept tables: made once, mapped afterwards, never served for anything but their source as it is now."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from salmonn.audio.reading import WHOLE, Span
from salmonn.data import annotation, annotation_table
from salmonn.data import table_cache as kept_table
from salmonn.data.annotation import Annotation
from salmonn.data.annotation_table import AnnotationTable, Row, table_in_memory
from salmonn.data.table_cache import open_table
from salmonn.errors import DatasetError

TASKS = {"asr": False, "QA": True}


class Counted(Annotation):
    """Counts how often it is parsed and hashed."""

    parsed = 0
    hashed = 0

    def parts(self) -> Iterator[list[Row]]:
        Counted.parsed += 1
        yield from super().parts()

    def content(self) -> str:
        Counted.hashed += 1
        return super().content()


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.wav").touch()
    write(tmp_path, "ab")
    Counted.parsed = Counted.hashed = 0
    return tmp_path


def write(folder: Path, texts: Sequence[str], *, old: bool = True) -> Path:
    """Write an annotation, by its times an hour old unless it is to look as if written just now."""
    path = folder / "ann.json"
    path.write_text(json.dumps([{"path": "0.wav", "text": text} for text in texts]), encoding="utf-8")
    if old:
        age(path, 3600)
    return path


def age(path: Path, seconds: int) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - seconds * 10**9))


def opened(folder: Path, tasks: dict[str, bool] = TASKS) -> AnnotationTable:
    return open_table(Counted(folder / "ann.json", prefix=str(folder), tasks=tasks), folder / "cache")


def texts(table: AnnotationTable) -> str:
    return "".join(table.row(index).text for index in range(len(table)))


def test_the_second_start_parses_and_hashes_nothing(wavs: Path) -> None:
    first = opened(wavs)
    parsed, hashed = Counted.parsed, Counted.hashed
    second = opened(wavs)
    assert texts(first) == texts(second) == "ab"
    assert first.fingerprint == second.fingerprint
    assert parsed == Counted.parsed == 1
    assert hashed == Counted.hashed


def test_a_changed_annotation_is_read_again_and_the_old_table_goes(wavs: Path) -> None:
    first = opened(wavs)
    write(wavs, "ac")
    second = opened(wavs)
    assert texts(second) == "ac"
    assert texts(first) == "ab"  # what is mapped stays
    assert first.fingerprint != second.fingerprint
    assert len(list((wavs / "cache/annotations").glob("*.arrow"))) == 1


def test_a_change_that_keeps_size_and_time_is_noticed(wavs: Path) -> None:
    before = (wavs / "ann.json").stat()
    opened(wavs)
    write(wavs, "ac", old=False)
    os.utime(wavs / "ann.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (wavs / "ann.json").stat().st_mtime_ns == before.st_mtime_ns
    assert texts(opened(wavs)) == "ac"


def test_a_file_written_just_now_is_not_trusted_by_its_times(wavs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(wavs, "ab", old=False)
    opened(wavs)
    hashed = Counted.hashed
    opened(wavs)
    assert (Counted.parsed, Counted.hashed) == (1, hashed + 1)


def test_the_same_content_under_a_new_time_is_not_parsed_again(wavs: Path) -> None:
    opened(wavs)
    age(wavs / "ann.json", 60)
    assert texts(opened(wavs)) == "ab"
    hashed = Counted.hashed
    opened(wavs)
    assert (Counted.parsed, Counted.hashed) == (1, hashed)


def test_other_tasks_and_prefixes_have_tables_of_their_own(wavs: Path) -> None:
    opened(wavs)
    opened(wavs, {"asr": False})
    assert Counted.parsed == 2
    with pytest.raises(DatasetError, match="no training prompt"):
        opened(wavs, {"QA": True})
    with pytest.raises(DatasetError, match="does not exist"):
        open_table(Annotation(wavs / "ann.json", prefix="/none", tasks=TASKS), wavs / "cache")


def test_a_wrong_annotation_leaves_nothing(wavs: Path) -> None:
    write(wavs, ["a", ""])
    for _ in range(2):
        with pytest.raises(DatasetError, match="row 2: text"):
            opened(wavs)
    assert not [path for path in (wavs / "cache/annotations").iterdir() if path.suffix != ".lock"]


def test_an_annotation_that_changes_while_it_is_read_is_refused(wavs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Counted.parts

    def changing(self: Counted) -> Iterator[list[Row]]:
        yield from parts(self)
        write(wavs, "abc")

    monkeypatch.setattr(Counted, "parts", changing)
    with pytest.raises(DatasetError, match="changed while it was read: start again"):
        opened(wavs)
    monkeypatch.setattr(Counted, "parts", parts)
    assert texts(opened(wavs)) == "abc"


def test_a_lost_table_is_made_again(wavs: Path) -> None:
    opened(wavs)
    [table] = (wavs / "cache/annotations").glob("*.arrow")
    table.unlink()
    assert texts(opened(wavs)) == "ab"


def test_a_damaged_table_is_an_error_and_a_damaged_manifest_none(wavs: Path) -> None:
    opened(wavs)
    [manifest] = (wavs / "cache/annotations").glob("*.json")
    manifest.write_text("{", encoding="utf-8")
    assert texts(opened(wavs)) == "ab"
    [table] = (wavs / "cache/annotations").glob("*.arrow")
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(DatasetError, match="is damaged: delete it"):
        opened(wavs)


def test_a_folder_where_nothing_can_be_kept_is_an_error(wavs: Path) -> None:
    (wavs / "cache").touch()
    with pytest.raises(DatasetError, match=r"nothing can be kept in .*cache.*set datasets\.cache_dir"):
        opened(wavs)


def test_a_missing_annotation_is_named(wavs: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.json cannot be read: No such file"):
        open_table(Annotation(wavs / "none.json", prefix="", tasks=TASKS), wavs / "cache")


START = """
import logging, sys
from pathlib import Path
from salmonn.data.annotation import Annotation
from salmonn.data.table_cache import open_table
logging.basicConfig(level=logging.INFO)
folder = Path(sys.argv[1])
print(open_table(Annotation(folder / "ann.json", prefix=sys.argv[1], tasks={"asr": False}), folder / "c").fingerprint)
"""


def test_of_processes_that_start_at_once_one_makes_the_table(wavs: Path) -> None:
    command = [sys.executable, "-c", START, str(wavs)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in started]
    assert len({fingerprint for fingerprint, _ in outputs}) == 1
    assert len(outputs[0][0].strip()) == 64
    assert sum("for the first time" in log for _, log in outputs) == 1


def test_rows_are_found_across_batches(wavs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = table_in_memory([Row(f"{i}", f"t{i}", "", ("asr", "QA")[i % 2]) for i in range(10)])
    for module in (annotation, annotation_table):
        monkeypatch.setattr(module, "ROWS_PER_BATCH", 3)
    cut = table_in_memory([Row(f"{i}", f"t{i}", "", ("asr", "QA")[i % 2]) for i in range(10)])
    assert [cut.row(i).text for i in range(10)] == [f"t{i}" for i in range(10)]
    assert [cut.row(i).task for i in range(10)] == ["asr", "QA"] * 5
    assert cut.task_ids.tolist() == [0, 1] * 5
    assert cut.fingerprint == whole.fingerprint


def test_a_row_is_read_without_its_column(wavs: Path) -> None:
    write(wavs, [f"text {number}" * 50 for number in range(3000)])
    table = opened(wavs)
    before = pa.total_allocated_bytes()
    assert [table.row(index).text[:10] for index in (5, 2999)] == ["text 5text", "text 2999t"]
    assert pa.total_allocated_bytes() == before
    assert kept_table.FOLDER == "annotations"


def test_folders_and_files_whose_names_are_not_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (folder / "0.wav").touch()
    annotation_file = write(folder, ["a"]).rename(Path(os.fsdecode(os.fsencode(folder) + b"/\xfe.json")))
    for _ in range(2):
        source = Annotation(annotation_file, prefix=str(folder), tasks=TASKS)
        assert open_table(source, folder / "cache").row(0) == Row("0.wav", "a", "", "asr")


def test_joined_clips_are_kept_and_told_apart(wavs: Path) -> None:
    prints = []
    for further in ([], ["1.wav"], ["1.wav", "2.wav"], ["1.wav2.wav"]):
        rows = [Row("0.wav", "a", "", "asr", further=tuple(further)), Row("1.wav", "b", "", "asr")]
        table = table_in_memory(rows)
        assert [table.row(0), table.row(1)] == rows
        prints.append(table.fingerprint)
    assert len(set(prints)) == 4


def test_parts_of_a_file_are_kept_and_told_apart(wavs: Path) -> None:
    prints = []
    for span in (WHOLE, Span(1.5), Span(1.5, 2.0), Span(0.0, 2.0)):
        rows = [Row("0.wav", "a", "", "asr").of_part(span), Row("1.wav", "b", "", "asr")]
        table = table_in_memory(rows)
        assert [table.row(0), table.row(1)] == rows
        assert table.row(0).span == span
        prints.append(table.fingerprint)
    assert len(set(prints)) == 4
    # Whole files have the digest that they had before rows could be parts: encoded clips on disk stay of use.
    assert prints[0] == table_in_memory([Row("0.wav", "a", "", "asr"), Row("1.wav", "b", "", "asr")]).fingerprint
