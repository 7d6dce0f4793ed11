"""Submissions: every rule breaks for a file that breaks it, and nothing that is written is refused."""

import csv
import json
import os
import random
import re
import stat
from pathlib import Path

import pytest

from evaluator.errors import SubmissionError
from evaluator.submission import submission
from evaluator.submission.check import MAX_LINE_BYTES, RowCheck
from evaluator.submission.rules import KEPT_PER_CODE, RULES, FindingCollector
from evaluator.submission.submission import check_submission, write_submission
from evaluator.submission.text import clean_text, is_blank

ROOT = Path(__file__).resolve().parents[1]
HEAD = b"testset_id,text\n"
GOOD = HEAD + b"test0000,hello there\n"


def check(folder: Path, content: bytes, ids: list[str] | None = None) -> list[str]:
    """The findings of a file as "CODE:LINE", the line left out where there is none."""
    path = folder / "a.csv"
    path.write_bytes(content)
    annotation = None
    if ids is not None:
        annotation = folder / "ann.json"
        annotation.write_text(json.dumps([{"testset_id": identifier} for identifier in ids]))
    report = check_submission(path, annotation=annotation)
    assert report.error_count == len(report.errors)
    findings = [*report.errors, *report.warnings]
    assert all(finding.message.startswith(RULES[finding.code] + ": ") for finding in findings)
    assert all(finding.message.isprintable() for finding in findings)
    return [finding.code + (f":{finding.line}" if finding.line else "") for finding in findings]


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.rstrip(b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        HEAD + b"test0000,1234\ntest0001,5678\n",
        HEAD + b'"test0000","a ""quoted"" word, and a comma"\n',
        HEAD + "test0000,été ☃ 𝄞 日本\n".encode(),
        HEAD + b"test0000,nano\n",
        HEAD + b"".join(b"test%04d,text %d\n" % (number, number) for number in range(10_000)),
    ],
)
def test_good_files(tmp_path: Path, content: bytes) -> None:
    assert check(tmp_path, content) == []


@pytest.mark.parametrize("word", ["NA", "null", "nan", "none", "N/A", "<NA>", "NULL"])
def test_missing_value_words_are_texts(tmp_path: Path, word: str) -> None:
    assert check(tmp_path, GOOD + f"test0001,{word}\n".encode()) == ["W201:3"]


FILES: dict[str, tuple[bytes, list[str]]] = {
    "empty": (b"", ["E105"]),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), ["E201"]),
    "zip": (b"PK\x03\x04" + bytes(20), ["E201"]),
    "utf-16": (GOOD.decode().encode("utf-16"), ["E202"]),
    "utf-16 without mark": (GOOD.decode().encode("utf-16-be"), ["E202"]),
    "utf-32": (GOOD.decode().encode("utf-32"), ["E202"]),
    "zeros": (bytes(5000), ["E202"]),
    "latin-1": (GOOD + b"test0001,caf\xe9\n", ["E203:3"]),
    "overlong utf-8": (GOOD + b"test0001,\xc0\xaf\n", ["E203:3"]),
    "surrogate": (GOOD + b"test0001,\xed\xa0\x80\n", ["E203:3"]),
    "nul": (GOOD + b"test0001,a\0b\n", ["E204:3"]),
    "no header": (b"test0000,a\ntest0001,b\n", ["E301:1"]),
    "index column": (b",testset_id,text\n0,test0000,a\n", ["E301:1"]),
    "columns swapped": (b"text,testset_id\na,test0000\n", ["E301:1"]),
    "capital header": (b"Testset_id,Text\ntest0000,a\n", ["E301:1"]),
    "space in header": (b"testset_id, text\ntest0000,a\n", ["E301:1"]),
    "header only": (HEAD, ["E302"]),
    "one column": (GOOD + b"test0001\n", ["E303:3"]),
    "three columns": (GOOD + b"test0001,a,b\n", ["E303:3"]),
    "blank line": (HEAD + b"\ntest0000,a\n", ["E303:2"]),
    "blank lines inside and at the end": (GOOD + b"\n\ntest0001,b\n\n \n", ["E303:3", "E303:4", "W304:6"]),
    "a blank line at the end": (GOOD + b"\n", ["W304:3"]),
    "two blank lines at the end": (GOOD + b"\n\n", ["W304:3"]),
    "blank lines of Windows at the end": (GOOD + b"\r\n\r\n", ["W304:3"]),
    "blank lines without a row": (HEAD + b"\n\n", ["E302", "W304:2"]),
    "two cells of nothing at the end": (GOOD + b",\n", ["E401:3", "E501:3"]),
    "json": (b'\xef\xbb\xbf\n[{"testset_id": "test0000"}]', ["E201"]),
    "open quote": (GOOD + b'test0001,"a\ntest0002,b\ntest0002,c\n', ["E304:3", "E402:5", "W302"]),
    "text behind quote": (GOOD + b'test0001,"a"b\ntest0002,c\n', ["E304:3", "W302"]),
    "quote closed by the next": (GOOD + b'test0001,"a\ntest0002,"b"\ntest0000,c\n', ["E304:4", "E402:5", "W302"]),
    "classic mac": (GOOD.replace(b"\n", b"\r"), ["E302", "E305:1"]),
    "carriage return inside": (GOOD + b"test0001,a\rb\n", ["E305:3"]),
    "doubled carriage return": (GOOD.replace(b"\n", b"\r\r\n"), ["E305:1", "E305:2"]),
    "long line": (GOOD + b"test0001," + b"x" * MAX_LINE_BYTES + b"\ntest0001,b\n", ["E306:3"]),
    "long cell": (GOOD + b'test0001,"' + b"x" * 900_000 + b"\n" + b"x" * 900_000 + b'"\n', ["E306:3"]),
    "a million columns": (GOOD + b"test0001" + b"," * 1_000_000 + b"\ntest0002,b\n", ["E303:3"]),
    "capital id": (GOOD + b"TEST0001,a\n", ["E401:3"]),
    "short id": (GOOD + b"test1,a\n", ["E401:3"]),
    "long id": (GOOD + b"test00011,a\n", ["E401:3"]),
    "padded id": (GOOD + b"test0001 ,a\n", ["E401:3"]),
    "foreign digits": (GOOD + "test٠٠٠١,a\n".encode(), ["E401:3"]),
    "id with line break": (GOOD + b'"test0001\n",a\n', ["E401:3"]),
    "duplicate": (GOOD + b"test0000,b\n", ["E402:3"]),
    "line after a text of two lines": (HEAD + b'test0000,"a\nb"\ntest0000,c\n', ["E402:4", "W202:2"]),
    "empty text": (GOOD + b"test0001,\n", ["E501:3"]),
    "quoted empty text": (GOOD + b'test0001,""\n', ["E501:3"]),
    "spaces": (GOOD + b"test0001,   \n", ["E501:3"]),
    "no-break and zero-width spaces": (GOOD + "test0001,\u00a0\u200b\u3000\n".encode(), ["E501:3"]),
    "hangul filler": (GOOD + "test0001,\u3164\ntest0002,a\u3164\n".encode(), ["E501:3"]),
    "blank braille": (GOOD + "test0001,\u2800 \u2800\n".encode(), ["E501:3"]),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, ["W101:1"]),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + GOOD, ["E202:1", "E301:1", "W101:1"]),
    "formula": (GOOD + b"test0001,=cmd()\n", ["W203:3"]),
    "escape": (GOOD + b"test0001,\x1b[31mred\n", ["W204:3"]),
    "bidi": (GOOD + "test0001,a\u202eb\n".encode(), ["W205:3"]),
    "replacement": (GOOD + "test0001,a\ufffdb\n".encode(), ["W206:3"]),
    "special tokens": (GOOD + b"test0001,hi</s>\ntest0002,<|eot_id|>ho\n", ["W207:3", "W207:4"]),
    "very long": (GOOD + b"test0001," + b"x" * 2001 + b"\n", ["W208:3"]),
    "quote inside": (GOOD + b'test0001,5" nails\n', ["W209:3"]),
    "space before quote": (GOOD + b'test0001, "a"\n', ["W209:3"]),
    "all equal": (HEAD + b"test0000,a\ntest0001,a\n", ["W301"]),
    "gap": (GOOD + b"test0003,b\n", ["W302"]),
    "several at once": (
        HEAD + b"x,\ntest0000,a,b\ntest0001,a\0\ntest0001,\xff\n",
        ["E401:2", "E501:2", "E303:3", "E204:4", "E203:5", "E402:5"],
    ),
}


# The bytes of a file -> what its report tells to do.
CURES = {
    "cp949": (
        GOOD.decode().encode() + "test0001,안녕하세요\n".encode("cp949"),
        'CP949: save the file as UTF-8 (Excel: "CSV UTF-8"',
    ),
    "latin-1": (GOOD + b"test0001,caf\xe9\n", "save the file as UTF-8"),
    "index column": (b",testset_id,text\n0,test0000,a\n", "write with to_csv(..., index=False)"),
    "index column read back": (b"Unnamed: 0,testset_id,text\n0,test0000,a\n", "write with to_csv(..., index=False)"),
    "what nobody can see": (
        GOOD + "test0001,\u3164\n".encode(),
        "the row of 'test0001' has '\\u3164'; write something",
    ),
    "semicolons": (b"testset_id;text\ntest0000;a\n", "the separator is a comma"),
    "capital header": (b"Testset_ID,Text\ntest0000,a\n", "capitals and spaces count"),
    "annotation": (b'{"annotation": []}', "this is no CSV but JSON; an annotation belongs to --annotation"),
    "predictions": (b'{"index": 0}\n{"index": 1}\n', "this is no CSV but JSON"),
}


@pytest.mark.parametrize("name", CURES)
def test_what_to_do_is_told(tmp_path: Path, name: str) -> None:
    content, cure = CURES[name]
    (tmp_path / "a.csv").write_bytes(content)
    assert cure in str(check_submission(tmp_path / "a.csv").errors[0])


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file(tmp_path: Path, name: str) -> None:
    content, expected = FILES[name]
    assert check(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["test0000", "test0005"], []),
        (["test0005", "test0000"], ["W303:2"]),
        (["test0000", "test0005", "test0001", "test0002"], ["E403", "E403"]),
        (["test0000"], ["E404:3"]),
        (["test0000", "test0000"], ["E601", "E601"]),
        ([], ["E601"]),
    ],
)
def test_with_annotation(tmp_path: Path, ids: list[str], expected: list[str]) -> None:
    found = check(tmp_path, GOOD + b"test0005,b\n", ids)
    assert [code for code in found if code != "W302"] == expected


def test_a_row_that_is_misshapen_is_not_missing_as_well(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD + b"test0001,a,b\n", ["test0000", "test0001"]) == ["E303:3"]


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    expected = {
        tmp_path: "E102",
        tmp_path / "pipe": "E102",
        Path("/dev/zero"): "E102",
        tmp_path / "missing": "E101",
        Path("https://example.org/a.csv"): "E101",
        Path("a\0b"): "E102",
        tmp_path / "loop": "E103",
        tmp_path / ("x" * 300): "E103",
    }
    for path, code in expected.items():
        assert [finding.code for finding in check_submission(path).errors] == [code]


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert [finding.code for finding in check_submission(path).errors] == ["E104"]


def test_a_file_that_grows_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEAD + b"".join(b"test%04d,%d\n" % (number, number) for number in range(1000)))
    findings = FindingCollector()
    with path.open("rb") as file:
        RowCheck(findings, require_ids=True, expected=None).run(file, max_rows=10_000, max_bytes=500)
    assert [finding.code for finding in findings.report(0).errors] == ["E104"]


def test_too_many_rows_end_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "MAX_ROWS", 3)
    rows = b"".join(b"test%04d,%d\n" % (number, number) for number in range(10))
    assert check(tmp_path, HEAD + rows[: 3 * 11]) == []
    assert check(tmp_path, HEAD + rows) == ["E307:5"]


def test_findings_are_counted_but_not_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEAD + b"x,y\n" * 5000)
    report = check_submission(path)
    assert (report.rows, report.error_count, len(report.errors)) == (5000, 5000, KEPT_PER_CODE)
    assert not report.valid


def test_unclosed_quotes_all_over_take_no_square_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEAD + b'a,"\n' * 50_001)
    assert not check_submission(path).valid


def test_every_rule_is_broken_by_a_test_and_stands_in_the_documentation() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [code for code in RULES if f'"{code}' not in source] == []
    text = (ROOT / "docs" / "submission.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| ([EW]\d{3}) \| ([^|]+?) \|", text, flags=re.MULTILINE)) == RULES


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("HELLO World", "hello world"),
        (" a  b ", " a  b "),
        ("a\r\n\tb\x00c", "a b c"),
        ("a\u2028b\x85c\x7fd", "a b c d"),
        ("a\ud800b", "a\ufffdb"),
        ("ÄÖ İ", "äö i̇"),
        ('</s>, "x"', '</s>, "x"'),
        ("", ""),
    ],
)
def test_clean_text(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(("text", "blank"), [("", True), (" \n", True), ("\u200b", True), (".", False), ("a", False)])
def test_is_blank(text: str, blank: bool) -> None:
    assert is_blank(text) is blank


def test_the_file_is_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows = [("test0000", "HELLO\nworld"), ("test0001", ""), ("test0002", 'a, "b"'), ("test0003", " \t")]
    report = write_submission(path, rows, empty_text=".", require_ids=True)
    assert path.read_bytes() == (
        b'testset_id,text\ntest0000,hello world\ntest0001,.\ntest0002,"a, ""b"""\ntest0003,.\n'
    )
    assert (report.cut, report.warnings) == ((), ())
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path: Path) -> list[list[str]]:
    """The rows of a CSV, the header included."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


@pytest.mark.parametrize("mode", ["submission_asr", "submission_aac", "valid_asr"])
def test_files_equal_the_originals_but_for_controls_and_empties(reference: Path, tmp_path: Path, mode: str) -> None:
    expected = json.loads((reference / "expected.json").read_text())["evaluator"][mode]
    path = tmp_path / "out.csv"
    write_submission(path, [tuple(row) for row in expected["rows"]], empty_text=".", require_ids=True)
    found = read(path)
    assert found[0] == expected["csv"].partition("\n")[0].split(",")
    for (identifier, text), (_, original) in zip(found[1:], expected["rows"], strict=True):
        folded = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", original)
        assert text == (folded if original.strip() else ".")
        if original == folded and original.strip():
            assert f"{identifier},{original}\n" in expected["csv"] or f'{identifier},"' in expected["csv"]


def test_whatever_a_model_says_can_be_written(tmp_path: Path) -> None:
    random.seed(0)
    alphabet = "aB ,\"'\r\n\t\0\x1b;=<>|\\\u00a0\u200b\u2028\u202e\ufeff\ufffd\ud800\udfffé日𝄞"
    texts = ["".join(random.choices(alphabet, k=random.randrange(8))) for _ in range(5000)]
    rows = [(f"test{number:04d}", text) for number, text in enumerate(texts)]
    path = tmp_path / "out.csv"
    write_submission(path, rows, empty_text="(nothing)", require_ids=True)
    found = read(path)[1:]
    cleaned = [clean_text(text) for text in texts]
    assert [row[1] for row in found] == ["(nothing)" if is_blank(text) else text for text in cleaned]
    assert any(map(is_blank, cleaned))
    assert check_submission(path).valid


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([("a", "x")], "E401"),
        ([("test0000", "x"), ("test0000", "y")], "E402"),
        ([], "E302"),
    ],
)
def test_what_would_not_validate_is_not_written(tmp_path: Path, rows: list[tuple[str, str]], code: str) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(SubmissionError, match=code):
        write_submission(path, rows, empty_text=".", require_ids=True)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_an_invisible_placeholder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="E501"):
        write_submission(tmp_path / "out.csv", [("test0000", "")], empty_text=" ", require_ids=True)


def test_validation_files_have_free_ids(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows = [("clips/a, b.wav", "x"), ("clips/a, b.wav", "y")]
    write_submission(path, rows, empty_text=".", require_ids=False)
    assert len(read(path)) == 1 + 2
    assert path.read_text() == 'testset_id,text\n"clips/a, b.wav",x\n"clips/a, b.wav",y\n'


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="cannot be written: No such file"):
        write_submission(tmp_path / "no" / "a.csv", [("test0000", "x")], empty_text=".", require_ids=True)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SubmissionError, match="No space left on device"):
        write_submission(tmp_path / "a.csv", [("test0000", "x")], empty_text=".", require_ids=True)
    assert list(tmp_path.iterdir()) == []


def test_pandas_reads_back_every_text(tmp_path: Path) -> None:
    """The reader most people have, with the settings that docs/submission.md names."""
    import pandas

    texts = ["NA", "null", "nan", "1234", 'he said "yes", twice', "a\rb", "한국어", "-5", "", "tab\there"]
    path = tmp_path / "file.csv"
    write_submission(path, [(f"test{i:04d}", text) for i, text in enumerate(texts)], empty_text=".", require_ids=True)
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
    assert list(frame.columns) == ["testset_id", "text"]
    assert list(frame["text"]) == [
        "na",
        "null",
        "nan",
        "1234",
        'he said "yes", twice',
        "a b",
        "한국어",
        "-5",
        ".",
        "tab here",
    ]


def test_no_answer_costs_the_file(tmp_path: Path) -> None:
    """Whatever a model says in one row, the others are written."""
    draw = random.Random(5)
    odd = [chr(draw.choice((draw.randrange(0x3000), draw.randrange(0x110000)))) for _ in range(20_000)]
    texts = ["".join(draw.choices(odd, k=draw.randrange(9))) for _ in range(5_000)]
    loops = [
        "x" * (3 << 20),
        '"' * (3 << 20),
        "\U0001f3b5" * (1 << 20),
        "\u3164" * (1 << 20),
        "1" * 5000,
        "\ud800\udc00",
        "\0",
    ]
    rows = [(f"test{number:04d}", text) for number, text in enumerate([*texts, *loops])]
    report = write_submission(tmp_path / "a.csv", rows, empty_text=".", require_ids=True)
    assert report.cut == tuple(f"test{number}" for number in range(5000, 5004))
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert [row[0] for row in found[1:]] == [identifier for identifier, _ in rows]
    assert found[5001][1] == "x" * 100_000
    assert found[5004][1] == "."


@pytest.mark.parametrize("character", ["\u3164", "\uffa0", "\u2800", "\u034f", "\ufe0f"])
def test_what_cannot_be_seen_of_an_id_or_a_header_is_shown_by_its_code(tmp_path: Path, character: str) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(f"testset_id,text\ntest0000{character},hello\n", encoding="utf-8")
    (error,) = check_submission(path).errors
    assert error.message.endswith(f"found 'test0000\\u{ord(character):04x}'")
    path.write_text(f"testset_id{character},text\ntest0000,hello\n", encoding="utf-8")
    (error,) = check_submission(path).errors
    assert f"'testset_id\\u{ord(character):04x},text'" in error.message
