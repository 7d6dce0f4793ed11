"""Tests of the organiser's side: ranks, what participants see and never see, and the platforms' own calls."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from evaluator.cli import main
from evaluator.config.sections import ScoringConfig
from evaluator.host import codabench, evalai, kaggle, space
from evaluator.host.board import public_part
from evaluator.host.verdict import TOLD, Reference, judge
from evaluator.tasks import ASR

SECRET = "zebra"
TEXTS = [f"the {SECRET} walks {word} home" for word in ("slowly", "quickly", "never", "always")]


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    rows = [
        {"testset_id": f"test{row:04d}", "path": f"{row}.wav", "task": "asr", "text": text}
        for row, text in enumerate(TEXTS)
    ]
    path = tmp_path / "secret_folder" / "hidden.json"
    path.parent.mkdir()
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def csv_of(texts: list[str]) -> str:
    return "testset_id,text\n" + "".join(f"test{row:04d},{text}\n" for row, text in enumerate(texts))


@pytest.fixture
def submissions(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    good, half = csv_of(TEXTS), csv_of([*TEXTS[:2], "nothing", "nothing"])
    for name, text in (("best", good), ("also_best", good), ("half", half), ("short", csv_of(TEXTS[:3]))):
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def host(hidden: Path, submissions: Path, output: Path, *options: str) -> Any:
    arguments = ["--reference", str(hidden), "--submissions", str(submissions), "--output-dir", str(output)]
    return CliRunner().invoke(main, ["host", *arguments, *options])


def test_submissions_are_ranked_with_ties(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    """By hand: of 20 words half has 2 x 5 wrong in the two rows that say one wrong word: 10 edits / 20."""
    done = host(hidden, submissions, tmp_path / "out")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "out/leaderboard.json").read_text(encoding="utf-8"))
    found = [(row["rank"], row["tied"], row["submission"], row["status"]) for row in rows]
    assert found == [
        (1, True, "also_best.csv", "scored"),
        (1, True, "best.csv", "scored"),
        (3, False, "half.csv", "scored"),
        (None, False, "short.csv", "refused"),
    ]
    assert rows[2]["scores"]["wer"] == 0.5
    assert "| 1= | also_best.csv | scored | 0.000000 | 0.000000 |" in done.output
    assert (tmp_path / "out/leaderboard.csv").read_text(encoding="utf-8").startswith("rank,submission,status")


def test_a_public_part_is_all_that_participants_see(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    ids = tmp_path / "public.txt"
    ids.write_text("test0000\ntest0001\n", encoding="utf-8")
    assert host(hidden, submissions, tmp_path / "out", "--public-ids", str(ids)).exit_code == 0
    seen = json.loads((tmp_path / "out/participants/half.csv.json").read_text(encoding="utf-8"))
    assert seen["scores"]["wer"] == 0.0
    kept = json.loads((tmp_path / "out/organisers/half.csv.json").read_text(encoding="utf-8"))
    assert next(metric["value"] for metric in kept["private"] if metric["name"] == "wer") == 1.0
    assert seen.keys() == {"status", "problems", "scores"}


def test_the_public_part_is_drawn_the_same_way_for_a_seed() -> None:
    ids = [f"test{row:04d}" for row in range(100)]
    assert public_part(ids, share=0.3, seed=1) == public_part(ids[::-1], share=0.3, seed=1)
    assert len(public_part(ids, share=0.3, seed=1)) == 30
    assert public_part(ids, share=0.3, seed=1) != public_part(ids, share=0.3, seed=2)


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)) * 50,
    "nul": b"testset_id,text\ntest0000,a\x00b\n",
    "open_quote": b'testset_id,text\ntest0000,"never closed\n',
    "wrong_header": b"id,answer\ntest0000,a\n",
    "extra_ids": csv_of([*TEXTS, "more"]).encode(),
    "twice": (csv_of(TEXTS) + "test0000,again\n").encode(),
    "formula": csv_of(["=cmd|' /C calc'!A0"] * 4).encode(),
    "brackets": csv_of(["[" * 2000] * 4).encode(),
    "zip": b"PK\x03\x04" + b"0" * 100,
    "utf16": csv_of(TEXTS).encode("utf-16"),
    "huge_cell": csv_of(["word " * 30000, *TEXTS[1:]]).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_leaks_to_participants(hidden: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "upload.csv"
    file.write_bytes(HOSTILE[name])
    seen = json.dumps(judge(file, Reference(hidden, ASR), ScoringConfig()).for_participants(), ensure_ascii=False)
    for secret in (SECRET, "secret_folder", str(tmp_path), "Traceback", "Error:", "hidden.json"):
        assert secret not in seen, seen


def test_files_that_are_none(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    (submissions / "folder.csv").mkdir()
    os.mkfifo(submissions / "pipe.csv")
    (submissions / "link.csv").symlink_to(hidden)
    (submissions / "gone.csv").symlink_to(tmp_path / "nowhere")
    done = host(hidden, submissions, tmp_path / "out")
    assert done.exit_code == 0, done.output
    for name in ("folder", "pipe", "link", "gone"):
        seen = (tmp_path / f"out/participants/{name}.csv.json").read_text(encoding="utf-8")
        assert json.loads(seen)["status"] != "scored"
        assert SECRET not in seen
        assert str(tmp_path) not in seen


def test_a_name_that_is_no_unicode_keeps_nobody_from_a_place(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(submissions) + b"/\xff.csv")).write_text(csv_of(TEXTS), encoding="utf-8")
    done = host(hidden, submissions, tmp_path / "out")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "out/leaderboard.json").read_text(encoding="utf-8"))
    assert [row["rank"] for row in rows] == [1, 1, 1, 4, None]
    assert r"| 1= | \udcff.csv | scored |" in (tmp_path / "out/leaderboard.md").read_text(encoding="utf-8")
    (tmp_path / "out/leaderboard.csv").unlink()
    (tmp_path / "out/leaderboard.csv").mkdir()
    done = host(hidden, submissions, tmp_path / "out")
    assert (done.exit_code, "leaderboard.csv: Is a directory." in done.output) == (3, True), done.output


def test_names_that_print_alike_have_a_file_each(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    for name in ("a\n.csv", "a\\n.csv"):
        (submissions / name).write_text(csv_of(TEXTS), encoding="utf-8")
    before = len(list(submissions.glob("*.csv")))
    done = host(hidden, submissions, tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = sorted(path.name for path in (tmp_path / "out/participants").iterdir())
    assert len(found) == before
    assert {"a\\n.csv.json", "a\\n.csv (2).json"} <= set(found)


def test_a_name_is_no_formula(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    (submissions / "=1+1.csv").write_text(csv_of(TEXTS), encoding="utf-8")
    assert host(hidden, submissions, tmp_path / "out").exit_code == 0
    with (tmp_path / "out/leaderboard.csv").open(encoding="utf-8", newline="") as file:
        names = [row["submission"] for row in csv.DictReader(file)]
    assert "'=1+1.csv" in names
    assert not any(name.startswith("=") for name in names)


def test_what_breaks_in_scoring_is_the_organisers_to_read(
    hidden: Path, submissions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError(f"at {hidden}: {SECRET}")

    monkeypatch.setattr("evaluator.host.verdict.score_answer_file", broken)
    verdict = judge(submissions / "best.csv", Reference(hidden, ASR), ScoringConfig())
    assert verdict.for_participants() == {"status": "failed", "problems": [TOLD], "scores": {}}
    assert verdict.for_organisers()["error"] == f"RuntimeError: at {hidden}: {SECRET}"


def test_results_do_not_go_among_the_submissions(hidden: Path, submissions: Path) -> None:
    before = sorted(submissions.iterdir())
    done = host(hidden, submissions, submissions / ".." / submissions.name)
    assert done.exit_code == 2
    assert "holds the submissions, and leaderboard.csv would be one of them: choose another." in done.output
    assert sorted(submissions.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "wre"], "there is no such metric"),
        (["--public-share", "0.01"], "leaves one of the two parts without a row"),
        (["--public-share", "nan"], "leaves one of the two parts without a row"),
        (["--public-ids", "/nowhere"], "cannot be read"),
        (["--metric", "bleu"], "these references are scored by wer, cer"),
        (["--protocol", "chalenge"], 'did you mean "challenge"?'),
        (["--task", "qa"], "'asr' is not scored by valid_qa"),
        (["--output-dir", "/dev/null/out"], "--output-dir: /dev/null/out cannot be written"),
        (["--submissions", "/nowhere"], "--submissions: /nowhere cannot be read"),
        (["--metric", "wre"], 'did you mean "wer"?\n'),
    ],
)
def test_what_organisers_mistype_is_told(
    hidden: Path, submissions: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = host(hidden, submissions, tmp_path / "out", *options)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code != 0
    assert message in done.output
    assert not list(tmp_path.glob("out/participants/*"))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("test0000\ntest9999\nfoo\n", "has ids that the reference does not have: foo, test9999"),
        ("test0000\ntest0001\ntest0002\ntest0003\n", "leaves one of the two parts without a row"),
        ("\n", "leaves one of the two parts without a row"),
    ],
)
def test_public_ids_that_are_no_part_are_the_organisers_to_mend(
    hidden: Path, submissions: Path, tmp_path: Path, ids: str, message: str
) -> None:
    (tmp_path / "ids.txt").write_text(ids, encoding="utf-8")
    done = host(hidden, submissions, tmp_path / "out", "--public-ids", str(tmp_path / "ids.txt"))
    assert (done.exit_code, message in done.output) == (2, True), done.output
    assert not (tmp_path / "out").exists()


def test_files_of_windows_are_taken(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    """A byte order mark and CRLF in the ids, and a name that ends in capitals."""
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbftest0000\r\ntest0001\r\n")
    (submissions / "best.csv").rename(submissions / "BEST.CSV")
    done = host(hidden, submissions, tmp_path / "out", "--public-ids", str(tmp_path / "ids.txt"))
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out/organisers/BEST.CSV.json").read_text(encoding="utf-8"))["rank"] == 1


def test_kaggles_call(hidden: Path) -> None:
    solution = pd.DataFrame({"testset_id": [f"test{row:04d}" for row in range(4)], "text": TEXTS})
    answers = solution.assign(text=[*TEXTS[:2], "nothing", "nothing"])
    assert kaggle.score(solution, answers, "testset_id") == 0.5
    with pytest.raises(kaggle.ParticipantVisibleError, match="test0003") as caught:
        kaggle.score(solution, answers[:3], "testset_id")
    assert SECRET not in str(caught.value)


def test_evalais_call(hidden: Path, submissions: Path) -> None:
    found = evalai.evaluate(str(hidden), str(submissions / "half.csv"), "asr_test", submission_metadata={})
    assert found["result"][0]["asr_test"]["wer"] == 0.5
    with pytest.raises(ValueError, match="E"):
        evalai.evaluate(str(hidden), str(submissions / "short.csv"), "asr_test")
    with pytest.raises(ValueError, match="begins with no task"):
        evalai.evaluate(str(hidden), str(submissions / "half.csv"), "final")


def test_codabenchs_program(hidden: Path, submissions: Path, tmp_path: Path) -> None:
    for name, file in (("ref/hidden.json", hidden), ("res/answers.csv", submissions / "half.csv")):
        (tmp_path / "input" / name).parent.mkdir(parents=True)
        (tmp_path / "input" / name).write_bytes(file.read_bytes())
    command = [sys.executable, "-m", codabench.__name__, str(tmp_path / "input"), str(tmp_path / "output")]
    assert subprocess.run(command, check=False).returncode == 0
    assert json.loads((tmp_path / "output/scores.json").read_text(encoding="utf-8"))["wer"] == 0.5


def test_a_spaces_handler(hidden: Path, submissions: Path) -> None:
    assert space.handle(str(submissions / "half.csv"), str(hidden))["scores"]["wer"] == 0.5
    assert space.handle(None, str(hidden))["status"] == "refused"
