"""Tests of transcript lines: KsponSpeech's .trn files as annotations."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluator.annotation.file import read_rows
from evaluator.annotation.transcript_lines import transcript_rows
from evaluator.cli import main
from evaluator.errors import AnnotationError

LINES = """\ufeffKsponSpeech_eval/eval_clean/KsponSpeech_E00001.pcm :: b/ 아/ 그래서 (3시)/(세 시) 됐나요?\r

eval\\KsponSpeech_E00002.pcm::값은 a::b 이다.
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "eval_clean.trn"
    path.write_bytes(text.encode())
    return path


def test_rows(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, LINES))
    assert [(row.number, row.line) for row in rows] == [(1, 1), (2, 3)]
    assert rows[0].value == {
        "testset_id": "KsponSpeech_E00001",
        "path": "KsponSpeech_eval/eval_clean/KsponSpeech_E00001.pcm",
        "task": "asr",
        "text": "b/ 아/ 그래서 (3시)/(세 시) 됐나요?",
    }
    assert rows[1].value["testset_id"] == "KsponSpeech_E00002"
    assert rows[1].value["text"] == "값은 a::b 이다."


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    text = "a.pcm :: 하나\n둘 (E00002)\nb/a.pcm :: 셋\n :: 넷\n"
    with pytest.raises(AnnotationError) as caught:
        read_rows(written(tmp_path, text))
    told = str(caught.value)
    for problem in (
        "has 3 lines",
        "line 2: expected",
        '"path :: text"',
        "line 3: a is also in line 1",
        "line 4: expected",
    ):
        assert problem in told
    assert transcript_rows("")[0] == []


@pytest.mark.parametrize(("side", "value"), [("spelling", 0.0), ("phonetic", 1 / 9)])
def test_it_is_scored_as_an_annotation(tmp_path: Path, side: str, value: float) -> None:
    """By hand: 아그래서3시됐나요 has 9 characters; 아그래서세시됐나요 too, and one of them is another."""
    path = written(tmp_path, "x/E1.pcm :: b/ 아/ 그래서 (3시)/(세 시) 됐나요?\n")
    answers = tmp_path / "answers.csv"
    answers.write_text("testset_id,text\nE1,아 그래서 3시 됐나요\n", encoding="utf-8")
    options = ["--protocol", "ko-cer", "--options", f"scoring.dual_transcripts={side}", "--json"]
    done = CliRunner().invoke(main, ["score", "--annotation", str(path), "--predictions", str(answers), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"][0]["value"] == pytest.approx(value)
