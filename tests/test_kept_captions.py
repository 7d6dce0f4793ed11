"""Tests of what is kept of captions on disk: the same scores with it, less work, and nothing that damage can break."""

import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from evaluator.scoring.captioning import CaptionMetrics, Captions
from evaluator.scoring.captions import kept
from evaluator.scoring.captions.kept import PTB, SPICE, KeptTexts, kept_folder
from evaluator.scoring.java import find_java
from evaluator.scoring.spice import SpiceWorker
from evaluator.scoring.spice_files import CORENLP_JAR, SMALL_MODELS_JAR, SpiceFiles

ROOT = Path(__file__).resolve().parents[1]
VALUES = {"a dog": "a dog", "개가": [["개", "가"]], 'it\'s \u2028 "x"': [], "'; drop table kept; --": ""}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_what_was_written_is_read(folder: Path) -> None:
    assert KeptTexts(PTB).read(list(VALUES)) == {}
    assert not folder.exists()
    KeptTexts(PTB).write(VALUES)
    assert KeptTexts(PTB).read([*VALUES, "other"]) == VALUES
    assert KeptTexts(SPICE).read(list(VALUES)) == {}
    many = {f"caption {number}": number for number in range(2500)}
    KeptTexts(PTB).write(many)
    assert KeptTexts(PTB).read([*many, "a dog"]) == {**many, "a dog": "a dog"}


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(kept.VARIABLE)
    assert kept_folder() == tmp_path / "audiolm-evaluator" / "captions"
    monkeypatch.setenv(kept.VARIABLE, "off")
    KeptTexts(PTB).write(VALUES)
    assert KeptTexts(PTB).read(list(VALUES)) == {}
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_was_changed_is_none(folder: Path) -> None:
    KeptTexts(PTB).write(VALUES)
    with sqlite3.connect(folder / f"{PTB}.sqlite") as file:
        file.execute("update kept set value = '\"a cat\"' where text = 'a dog'")
    file.close()
    assert KeptTexts(PTB).read(list(VALUES)) == {text: value for text, value in VALUES.items() if text != "a dog"}
    KeptTexts(PTB).write({"a dog": "a dog"})
    assert KeptTexts(PTB).read(list(VALUES)) == VALUES


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 500, None])
def test_a_damaged_file_is_made_anew(folder: Path, damage: bytes | None) -> None:
    path = folder / f"{PTB}.sqlite"
    KeptTexts(PTB).write({f"caption {number}": zlib.crc32(b"%d" % number) for number in range(3000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) // 2) if damage is None else damage)
    found = KeptTexts(PTB).read([f"caption {number}" for number in range(3000)])
    assert all(value == zlib.crc32(text.split()[1].encode()) for text, value in found.items())
    KeptTexts(PTB).write(VALUES)
    KeptTexts(PTB).write(VALUES)  # the first may have met the damage
    assert KeptTexts(PTB).read(list(VALUES)) == VALUES


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    KeptTexts(PTB, tmp_path / "file").write(VALUES)
    assert KeptTexts(PTB, tmp_path / "file").read(list(VALUES)) == {}
    (tmp_path / f"{PTB}.sqlite").mkdir()
    KeptTexts(PTB, tmp_path).write(VALUES)
    assert KeptTexts(PTB, tmp_path).read(list(VALUES)) == {}


WRITER = """
import sys
from evaluator.scoring.captions.kept import PTB, KeptTexts
for turn in range(40):
    KeptTexts(PTB).write({f"{sys.argv[1]} {turn} {number}": number for number in range(50)})
    KeptTexts(PTB).write({f"both {turn}": turn})
"""


def test_processes_write_beside_each_other(folder: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name], cwd=ROOT) for name in "ab"]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    texts = [f"{name} {turn} {number}" for name in "ab" for turn in range(40) for number in range(50)]
    assert len(KeptTexts(PTB).read(texts)) == 4000
    assert len(KeptTexts(PTB).read([f"both {turn}" for turn in range(40)])) == 40


def test_references_are_tokenised_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = CaptionMetrics._tokenize_lines

    def seen(self: CaptionMetrics, lines: list[str]) -> dict[str, str]:
        asked.extend(lines)
        return original(self, lines)

    monkeypatch.setattr(CaptionMetrics, "_tokenize_lines", seen)
    with CaptionMetrics(find_java()) as metrics:
        first = metrics.tokenize(["A dog!", "no.", ""], [["Two dogs.", "5 dogs"], ["no."], [""]])
        assert sorted(asked) == ["5 dogs", "A dog!", "Two dogs.", "no."]
        asked.clear()
        again = metrics.tokenize(["A dog!", "Two dogs.", ""], [["Two dogs.", "5 dogs"], ["no."], [""]])
        assert asked == ["A dog!"]
    assert again.references == first.references == (("two dogs", "5 dogs"), ("no",), ("",))
    assert again.candidates == ("a dog", "two dogs", "")


@pytest.mark.slow
def test_references_are_parsed_once(folder: Path, spice_lib: Path) -> None:
    files = SpiceFiles(spice_lib / CORENLP_JAR, spice_lib / SMALL_MODELS_JAR, "test")
    references = (("two black dogs bark at a man", "the old dog is barking"), ("rain falls on a tin roof", ""))
    parsed: list[tuple[int, int]] = []
    found = []
    for candidates in (("a dog barks", "rain on a roof"), ("a dog barks", "rain falls on a tin roof")):
        with SpiceWorker(files, find_java()) as worker:
            progress = lambda done, total: parsed.append((done, total))  # noqa: E731
            found.append(worker.score(Captions(candidates, references), max_words=80, progress=progress))
    assert parsed == [(6, 6), (1, 1)]
    with pytest.MonkeyPatch.context() as patch, SpiceWorker(files, find_java()) as worker:
        patch.setattr(worker, "_kept", KeptTexts(""))
        plain = worker.score(Captions(("a dog barks", "rain falls on a tin roof"), references), max_words=80)
    assert (found[1].rows, found[1].evidence) == (plain.rows, plain.evidence)
    assert 0 < plain.rows[0] < plain.rows[1] == 1


def test_parses_of_unpublished_files_are_not_kept(folder: Path, spice_lib: Path) -> None:
    files = SpiceFiles(spice_lib / CORENLP_JAR, spice_lib / SMALL_MODELS_JAR, "test", remark="not as published")
    assert SpiceWorker(files, find_java())._kept._path is None
