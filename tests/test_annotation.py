"""Annotations: the three layouts, what each mode asks of a row, and every problem in one report."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evaluator.annotation.annotation import Sample, read_annotation, submission_ids
from evaluator.errors import AnnotationError
from evaluator.tasks import Mode

KNOWN = {"asr": False, "audiocaption": False, "audiocaption_v2": False, "QA": True}
ROW = {"testset_id": "test0000", "path": "a.flac", "task": "asr", "text": "hello"}


def row(**changes: Any) -> dict[str, Any]:
    """A good row with changes; a value of None takes the field out."""
    return {key: value for key, value in {**ROW, **changes}.items() if value is not None}


def load(
    folder: Path, content: Any, mode: Mode = "submission_asr", *, name: str = "ann.json", **more: Any
) -> list[Sample]:
    path = folder / name
    if isinstance(content, (str, bytes)):
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    else:
        path.write_text(json.dumps(content))
    check = more.pop("check_audio", None)
    arguments: dict[str, Any] = {"prefix": "/audio", "known_tasks": KNOWN, **more}
    annotation = read_annotation(path, mode=mode, **arguments)
    if check is not None:
        annotation.check_audio(check)
    return list(annotation.without_problems())


def problems(folder: Path, content: Any, mode: Mode = "submission_asr", **more: Any) -> list[str]:
    with pytest.raises(AnnotationError) as caught:
        load(folder, content, mode, **more)
    assert caught.value.exit_code == 3
    found = [str(problem) for problem in caught.value.problems] or [caught.value.message]
    return [line.replace(str(folder) + os.sep, "") for line in found]


def test_the_three_layouts_give_the_same_samples(tmp_path: Path) -> None:
    rows = [row(), row(testset_id="test0001", path="/else/b.wav", Q="why?")]
    expected = [
        Sample(0, "test0000", Path("/audio/a.flac"), "asr", "", ()),
        Sample(1, "test0001", Path("/else/b.wav"), "asr", "why?", ()),
    ]
    lines = "\n".join(json.dumps(one) for one in rows) + "\n\n"
    assert load(tmp_path, {"annotation": rows, "version": 1}) == expected
    assert load(tmp_path, rows) == expected
    assert load(tmp_path, lines, name="a.jsonl") == expected
    assert load(tmp_path, lines, name="a.json") == expected
    assert load(tmp_path, lines.replace("\n", "\r\n")) == expected
    assert load(tmp_path, b"\xef\xbb\xbf" + lines.encode()) == expected
    assert load(tmp_path, json.dumps(rows[0]), name="one.jsonl") == expected[:1]


def test_lines_are_told_only_by_line_feeds(tmp_path: Path) -> None:
    lines = json.dumps(row(text="a\u2028b\x85c"), ensure_ascii=False) + "\n" + json.dumps(row())
    samples = load(tmp_path, lines, "valid_asr", name="a.jsonl")
    assert [sample.references for sample in samples] == [("a\u2028b\x85c",), ("hello",)]


def test_reference_annotations_load(reference: Path) -> None:
    folder = reference
    modes: list[tuple[str, Mode, int]] = [
        ("test_asr.json", "valid_asr", 11),
        ("test_aac.json", "valid_aac", 11),
        ("test_mixed.json", "submission_asr", 8),
    ]
    for name, mode, at_least in modes:
        samples = read_annotation(
            folder / "ann" / name, prefix=str(folder / "wavs"), mode=mode, known_tasks=KNOWN
        ).without_problems()
        assert len(samples) >= at_least
        assert all(sample.path.is_file() for sample in samples)


@pytest.mark.parametrize(
    ("mode", "changes", "references"),
    [
        ("submission_asr", {"text": None}, ()),
        ("submission_asr", {"text": ["never", 3, "looked at"]}, ()),
        ("valid_asr", {}, ("hello",)),
        ("valid_asr", {"text": ""}, ("",)),
        ("valid_asr", {"text": ["hello"]}, ("hello",)),
        ("valid_aac", {"task": "audiocaption_v2"}, ("hello",)),
        ("valid_aac", {"task": "audiocaption", "text": ["a dog", "A dog."]}, ("a dog", "A dog.")),
    ],
)
def test_references(tmp_path: Path, mode: Mode, changes: dict[str, Any], references: tuple[str, ...]) -> None:
    assert load(tmp_path, [row(**changes)], mode)[0].references == references


@pytest.mark.parametrize(
    ("mode", "changes", "problem"),
    [
        ("submission_asr", {"testset_id": None}, "row 1: testset_id: the field is missing"),
        ("submission_asr", {"testset_id": 7}, "row 1: testset_id: expected a text, found 7"),
        ("submission_asr", {"testset_id": "test1"}, 'row 1 (test1): testset_id: expected "test" and four digits'),
        ("submission_asr", {"testset_id": "test00000"}, "row 1 (test00000): testset_id: expected"),
        ("submission_asr", {"testset_id": "test٠٠٠٠"}, "row 1 (test٠٠٠٠): testset_id: expected"),
        ("submission_asr", {"testset_id": "test0000\n"}, "row 1 (test0000\\n): testset_id: a control character"),
        ("submission_asr", {"path": None}, "row 1 (test0000): path: the field is missing"),
        ("submission_asr", {"path": ""}, "row 1 (test0000): path: expected a text, found ''"),
        ("submission_asr", {"path": "a\0b"}, "row 1 (test0000): path: a control character"),
        ("submission_asr", {"path": "a\ud800"}, "row 1 (test0000): path: a control character or broken Unicode"),
        ("submission_asr", {"path": "../a.wav"}, "row 1 (test0000): path: '../a.wav' leaves the folder"),
        ("submission_asr", {"path": "x/../../a.wav"}, "row 1 (test0000): path: 'x/../../a.wav' leaves"),
        ("submission_asr", {"task": None}, "row 1 (test0000): task: the field is missing"),
        ("submission_asr", {"task": "ars"}, "row 1 (test0000): task: 'ars' is unknown; did you mean \"asr\"?"),
        ("submission_asr", {"task": "zzz"}, "row 1 (test0000): task: 'zzz' is unknown; known: QA, asr"),
        ("submission_asr", {"task": "QA"}, "row 1 (test0000): Q: the task 'QA' asks the question in this field"),
        ("submission_asr", {"task": "QA", "Q": " "}, "row 1 (test0000): Q: the task 'QA' asks"),
        ("submission_asr", {"Q": 3}, "row 1 (test0000): Q: expected a text, found 3"),
        ("submission_asr", {"Q": "a\ud800"}, "row 1 (test0000): Q: broken Unicode"),
        ("valid_asr", {"text": None}, "row 1 (test0000): text: the field is missing"),
        ("valid_asr", {"text": 3}, "row 1 (test0000): text: expected a text or a list of texts, found 3"),
        ("valid_asr", {"text": []}, "row 1 (test0000): text: expected a text or a list of texts, found []"),
        ("valid_asr", {"text": ["a", None]}, "row 1 (test0000): text: expected a text or a list of texts"),
        ("valid_asr", {"text": ["a", "b"]}, "row 1 (test0000): text: speech recognition compares with exactly one"),
        ("valid_asr", {"text": "a\udc00"}, "row 1 (test0000): text: broken Unicode"),
        ("valid_asr", {"task": "audiocaption"}, "row 1 (test0000): task: 'audiocaption' is not scored by valid_asr"),
        ("valid_aac", {}, "row 1 (test0000): task: 'asr' is not scored by valid_aac"),
        ("valid_asr", {"testset_id": ""}, "row 1: testset_id: expected a text, found ''"),
    ],
)
def test_a_wrong_field(tmp_path: Path, mode: Mode, changes: dict[str, Any], problem: str) -> None:
    found = problems(tmp_path, [row(**changes)], mode)
    assert len(found) == 1
    assert found[0].startswith(f"ann.json: {problem}")


def test_an_id_of_null_is_a_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "ann.json"
    path.write_text(json.dumps([row() | {"testset_id": None}]))
    known = {"asr": False}
    (sample,) = read_annotation(path, prefix="", mode="valid_asr", known_tasks=known).without_problems()
    assert sample.id == "a.flac"


def test_a_near_miss_of_a_field_is_named(tmp_path: Path) -> None:
    wrong = row(path=None) | {"pth": "a.wav"}
    assert problems(tmp_path, [wrong]) == ["ann.json: row 1 (test0000): path: the field is missing; is 'pth' meant?"]


def test_every_problem_is_in_one_report(tmp_path: Path) -> None:
    def check(path: Path) -> str | None:
        return "is text, not audio" if path.name == "bad.wav" else None

    (tmp_path / "audio").mkdir()
    rows = [
        row(path="bad.wav"),
        row(testset_id="x", path="bad.wav", task="ars"),
        3,
        row(),
        row(testset_id="test0001", path="bad.wav"),
    ]
    lines = "\n".join(json.dumps(one) for one in rows)
    expected = [
        "ann.jsonl:2 (x): testset_id: expected \"test\" and four digits, as in test0000, found 'x'",
        "ann.jsonl:2 (x): task: 'ars' is unknown; did you mean \"asr\"?",
        "ann.jsonl:3: expected an object with testset_id, path and task, found 3",
        "ann.jsonl:4 (test0000): testset_id: 'test0000' was used by row 1 already; ids are unique",
        "ann.jsonl:1 (test0000): path: is text, not audio",
        "ann.jsonl:5 (test0001): path: is text, not audio",
    ]
    prefix = str(tmp_path / "audio")
    assert problems(tmp_path, lines, name="ann.jsonl", prefix=prefix, check_audio=check) == expected


def test_a_missing_prefix_is_one_problem(tmp_path: Path) -> None:
    rows = [row(testset_id=f"test000{number}") for number in range(3)] + [row(testset_id="test0009", path="/a.wav")]
    found = problems(tmp_path, rows, prefix=str(tmp_path / "no"), check_audio=lambda path: "is not there")
    assert len(found) == 2
    assert "datasets.prefix: there is no folder" in found[0]
    assert found[1] == "ann.json: row 4 (test0009): path: is not there"


def test_ids_are_free_in_valid_modes(tmp_path: Path) -> None:
    rows = [row(testset_id="any id"), row(testset_id="any id"), row(testset_id=None, path="b.wav")]
    assert [sample.id for sample in load(tmp_path, rows, "valid_asr")] == ["any id", "any id", "b.wav"]


def test_a_repeated_field_is_told(tmp_path: Path) -> None:
    text = '[{"testset_id": "test0000", "path": "a.wav", "path": "b.wav", "task": "asr"}]'
    assert problems(tmp_path, text) == ["ann.json: row 1 (test0000): path: the field appears twice in the row"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "ann.json:1: not valid JSON"),
        (b"[{]\n", "ann.json:1: not valid JSON"),
        (b'{\n"annotation": [\n{"a" 1}]}', "ann.json:3: not valid JSON: Expecting ':' delimiter (column 6)"),
        (b"3", "The annotation ann.json has no rows"),
        (b'{\n"rows": []}', "The annotation ann.json has no rows"),
        (
            b'{"annotations": [], "v": 1}',
            'The annotation ann.json has no rows: expected {"annotation": [...]}, a list, or JSON Lines; '
            "found 'annotations', 'v'.",
        ),
        (b'{"annotation": {}}', "The annotation ann.json has no rows"),
        (b"[]", "ann.json: the annotation has no rows"),
        (b"[" * 100_000, "The annotation file ann.json nests too deep"),
        (b"[" + b"9" * 5000 + b"]", "The annotation file ann.json nests too deep or has a number too long"),
        ('[{"a": "é"}]'.encode("latin-1"), "ann.json:1: not UTF-8"),
        ("[]".encode("utf-16"), "The annotation file ann.json is UTF-16"),
    ],
)
def test_what_is_no_annotation(tmp_path: Path, content: bytes, problem: str) -> None:
    found = problems(tmp_path, content)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_bad_lines_are_all_named(tmp_path: Path) -> None:
    lines = f"{json.dumps(row())}\n{{\n\nx\n"
    assert [line.partition(" ")[0] for line in problems(tmp_path, lines)] == ["ann.json:2:", "ann.json:4:"]


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(AnnotationError, match=r"^The annotation"):
            read_annotation(path, prefix="", mode="valid_asr", known_tasks=KNOWN).without_problems()


def test_terminal_codes_in_values_are_escaped(tmp_path: Path) -> None:
    found = problems(tmp_path, [row(testset_id="\x1b[31m", task="\u202egnp")])
    assert all(line.isprintable() for line in found)


def test_submission_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"testset_id": "test0003"}, {"testset_id": "test0001"}]))
    assert submission_ids(path) == ("test0003", "test0001")
    path.write_text(json.dumps([{"testset_id": "test0003"}, {"testset_id": "test0003"}, {}, 3]))
    with pytest.raises(AnnotationError) as caught:
        submission_ids(path)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (b"testset_id,path,task,text\ntest0000,a.wav,asr,hi\n", "this looks like CSV, and an annotation is JSON"),
        (b"testset_id\tpath\n", "this looks like CSV"),
        ('{"annotation": [{"text": "안녕하세요"}]}'.encode("cp949"), "it reads as CP949: save the file as UTF-8"),
        (b'{"annotation": "caf\xe9"}', "save the file as UTF-8"),
    ],
)
def test_another_file_is_told_with_its_cure(tmp_path: Path, content: bytes, cure: str) -> None:
    path = tmp_path / "annotation.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError) as caught:
        submission_ids(path)
    assert cure in str(caught.value)


def test_broken_json_is_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "annotation.json"
    path.write_text('[{"a": 1, "b": 2},]')
    with pytest.raises(AnnotationError) as caught:
        submission_ids(path)
    assert "CSV" not in str(caught.value)
