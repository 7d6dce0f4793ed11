"""Tests of evaluator/board/ and its command: ranks worked by hand, rules, merging, what-if, certainty, bad input."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import make_site

from evaluator.board.bootstrap import probabilities
from evaluator.board.criteria import PRESETS
from evaluator.board.measurement import Clips
from evaluator.board.ranking import rank
from evaluator.board.text_columns import aligned, width
from evaluator.cli import build_evaluate_command, main

# What teams of the challenge said of their own systems.
TEAMS = """\
system,wer,spider,memory_gb,latency_s
baseline,.0634,.203,9.32,1.272
A,.0770,.3304,4.05,.846
B,.0699,.3593,3.83,.210
C,.0530,.3549,4.09,.36
D,.0642,.3049,5.32,.463
E,.0585,.3044,5.96,.380
"""
TEAM_F = "F,.073,-,5.87,.198\n"


def run_board(*args: object) -> Result:
    return CliRunner().invoke(main, ["board", *map(str, args)])


def rows_of(*args: object) -> list[dict[str, Any]]:
    result = run_board(*args, "--json")
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def refused(code: int, *args: object) -> str:
    result = run_board(*args)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith(("Error: ", "Usage: "))
    return result.stderr


@pytest.fixture
def teams(tmp_path: Path) -> Path:
    path = tmp_path / "teams.csv"
    path.write_text(TEAMS, encoding="utf-8")
    return path


def write_run(
    folder: Path,
    *,
    task: str = "asr",
    edits: Sequence[float] = (0, 1, 2, 0),
    ids: Sequence[str] = ("t0", "t1", "t2", "t3"),
    references: Sequence[str] | None = None,
    first_step: float = 0.2,
    memory: Mapping[str, int | None] | None = None,
    **run: Any,
) -> Path:
    """A finished run of rows of four reference words (asr), or of captions scored by CIDEr-D (aac)."""
    folder.mkdir(parents=True)
    rows = len(edits)
    if task == "asr":
        value, per_sample = sum(edits) / (4 * rows), {"word_edits": list(edits), "reference_words": [4.0] * rows}
        metrics: list[dict[str, Any]] = [{"name": "wer", "value": value, "protocol": "words"}]
    else:
        value, per_sample = sum(edits) / rows, {"cider_d": list(edits)}
        metrics = [
            {"name": "spider", "value": None, "reason": "SPICE is not installed", "fix": "run setup-metrics"},
            {"name": "cider_d", "value": value},
        ]
    scores = {"task": task, "num_samples": rows, "metrics": metrics, "per_sample": {"id": list(ids), **per_sample}}
    (folder / "scores.json").write_text(json.dumps(scores))
    told = references or [f"reference of {each}" for each in ids]
    lines = [json.dumps({"id": each, "reference": text}) for each, text in zip(ids, told, strict=True)]
    (folder / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    figures = {
        "batch1_first_step_seconds_p50": {"median": first_step},
        "batch1_further_token_seconds_p50": {"median": 0.05},
    }
    record = {
        "status": "finished",
        "mode": f"valid_{task}",
        "peak_memory_bytes": memory or {"process_since_start": 2**30, "device_batch1": 2**31},
        "latency": {"reason": None, "figures": figures, "settings": {"device": "cpu"}},
        **run,
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("lines", "ways"),
    [
        (
            ("protocol:challenge|rows:4", "protocol:basic|rows:4"),
            "one by the protocol challenge, two by the protocol basic",
        ),
        (
            ("protocol:ko-wer|dual:spelling", "protocol:ko-wer|dual:phonetic"),
            "one by the protocol ko-wer with dual transcripts spelling, two by the protocol ko-wer with dual",
        ),
        (("protocol:basic|jiwer:4.0.0", "protocol:basic|dual:none|jiwer:4.0.1"), None),
        (("protocol:basic", None), None),
    ],
)
def test_scores_of_two_protocols_are_not_ranked(
    tmp_path: Path, lines: tuple[str | None, ...], ways: str | None
) -> None:
    for name, line in zip(("one", "two"), lines, strict=True):
        file = write_run(tmp_path / name) / "scores.json"
        scores = json.loads(file.read_text())
        scores["metrics"][0]["signature"] = line
        file.write_text(json.dumps(scores))
    done = CliRunner().invoke(
        main, ["board", str(tmp_path / "one"), str(tmp_path / "two"), "--missing", "last", "--resamples", "0"]
    )
    assert (done.exit_code == 0) == (ways is None), done.output
    assert ways is None or f"WER is measured in different ways ({ways}" in done.output


def write_efficiency(folder: Path, *, first_step: float, memory: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "batch1_first_step_seconds_p50": {"median": first_step},
        "batch1_further_token_seconds_p50": {"median": 0.01},
    }
    path = folder / "efficiency.json"
    path.write_text(json.dumps({"figures": figures, "peak_memory_bytes": {"device_batch1": memory}}))
    return path


def only(path: Path, *lines: str) -> Path:
    """A file of criteria."""
    path.write_text("criteria:\n" + "".join(f"  {line}\n" for line in lines))
    return path


# The golden table


def test_teams_are_ranked_as_by_hand(teams: Path) -> None:
    rows = rows_of(teams, "--preset", "nota-2025")
    # WER + SPIDEr + 2 memory + 2 latency. B: 5 + 1 + 2*1 + 2*1.
    assert [(row["system"], list(row["ranks"].values()), row["weighted_sum"]) for row in rows] == [
        ("B", [5, 1, 1, 1], 10),
        ("C", [1, 2, 3, 2], 13),
        ("A", [6, 3, 2, 5], 23),
        ("E", [2, 5, 5, 3], 23),
        ("D", [4, 4, 4, 4], 24),
        ("baseline", [3, 6, 6, 6], 33),
    ]
    # A and E have equal sums: A was given first.
    assert [line.split()[-1] for line in run_board(teams).stdout.splitlines()[3:9]] == [
        "10",
        "13",
        "23=",
        "23=",
        "24",
        "33",
    ]
    assert list(rows[0]["ranks"]) == ["wer", "spider", "memory", "latency"]
    assert rows[0]["values"] == {"wer": 0.0699, "spider": 0.3593, "memory": 3.83, "latency": 0.21}


def test_a_team_without_a_value_is_refused_or_last(teams: Path) -> None:
    teams.write_text(TEAMS + TEAM_F)
    told = refused(3, teams)
    assert f"{teams}:8: F has no spider (the cell is empty)" in told
    assert "--missing last" in told
    rows = rows_of(teams, "--missing", "last")
    assert [(row["system"], list(row["ranks"].values()), row["weighted_sum"]) for row in rows] == [
        ("B", [5, 1, 1, 2], 12),
        ("C", [1, 2, 3, 3], 15),
        ("F", [6, 7, 5, 1], 25),
        ("A", [7, 3, 2, 6], 26),
        ("D", [4, 4, 4, 5], 26),
        ("E", [2, 5, 6, 4], 27),
        ("baseline", [3, 6, 7, 7], 37),
    ]
    assert rows[2]["values"]["spider"] is None


def test_the_hidden_task_counts_where_it_is_known(teams: Path) -> None:
    lines = TEAMS.splitlines()
    accuracies = ["qa", ".9", ".1", ".2", ".3", ".4", ".5"]
    teams.write_text("\n".join(f"{line},{qa}" for line, qa in zip(lines, accuracies, strict=True)))
    rows = {row["system"]: row for row in rows_of(teams)}
    assert rows["baseline"]["ranks"]["qa"] == 1
    assert rows["baseline"]["weighted_sum"] == 33 + 1
    assert rows["B"]["weighted_sum"] == 10 + 5
    teams.write_text(teams.read_text().replace(",.5", ","))
    assert "E has no qa" in refused(3, teams)


def test_ties_go_to_the_one_that_was_given_first(teams: Path) -> None:
    head = "system,wer,spider,memory_gb,latency_s\n"
    teams.write_text(head + "late,.1,.2,3,1\nearly,.1,.2,3,1\n")
    rows = rows_of(teams)
    assert [row["system"] for row in rows] == ["late", "early"]
    assert [row["ranks"]["wer"] for row in rows] == [1, 2]
    assert rows[0]["tied"] == ["wer", "spider", "memory", "latency"]
    shown = run_board(teams).stdout
    assert "1=" in shown
    assert "as on Kaggle" in shown
    assert rank({"a": 2.0, "b": 1.0, "c": 1.0}, ["a", "b", "c"], higher_is_better=False) == {"b": 1, "c": 2, "a": 3}


# Rules


def test_ratio_to_a_baseline(teams: Path) -> None:
    rows = rows_of(teams, "--preset", "ratio", "--baseline", "baseline")
    by_name = {row["system"]: row for row in rows}
    assert by_name["baseline"]["ratio"] == pytest.approx(1.0)
    # (wer)(spider)(memory squared)(latency squared), the sixth root.
    expected = (0.0634 / 0.0699 * 0.3593 / 0.203 * (9.32 / 3.83) ** 2 * (1.272 / 0.210) ** 2) ** (1 / 6)
    assert by_name["B"]["ratio"] == pytest.approx(expected)
    assert [row["system"] for row in rows] == ["B", "C", "E", "D", "A", "baseline"]
    teams.write_text(TEAMS.replace(".0530", "0"))
    assert "WER of C is 0" in refused(2, teams, "--preset", "ratio", "--baseline", "baseline")


def test_limit_then_the_smallest(teams: Path) -> None:
    rows = rows_of(teams, "--preset", "limit", "--baseline", "baseline")
    # D's WER is (.0642 - .0634) / .0634 = 1.26 % worse, .76 beyond half a percent.
    assert [row["system"] for row in rows] == ["C", "E", "baseline", "D", "B", "A"]
    assert rows[3]["percent_beyond_limit"] == pytest.approx(1.2618 - 0.5, abs=1e-3)
    assert [row["percent_beyond_limit"] for row in rows[:3]] == [0, 0, 0]
    wider = rows_of(teams, "--preset", "limit", "--baseline", "baseline", "--limit-percent", "11")
    assert [row["system"] for row in wider][:3] == ["B", "C", "D"]


def test_a_system_at_the_limit_is_within_it(teams: Path) -> None:
    teams.write_text("system,wer,spider,memory_gb,latency_s\nbase,.1,.5,2,1\nedge,.11,.5,1,1\nover,.1101,.5,.5,1\n")
    rows = rows_of(teams, "--preset", "limit", "--baseline", "base", "--limit-percent", "10")
    assert [row["system"] for row in rows] == ["edge", "base", "over"]


def test_rules_without_their_baseline(teams: Path) -> None:
    assert "--baseline SYSTEM" in refused(2, teams, "--preset", "ratio")
    assert 'did you mean "baseline"?' in refused(2, teams, "--preset", "limit", "--baseline", "basline")
    assert "belongs to the rule limit" in refused(2, teams, "--limit-percent", "1")


def test_criteria_of_ones_own(teams: Path, tmp_path: Path) -> None:
    lines = TEAMS.splitlines()
    speeds = ["speed", "6", "5", "4", "3", "2", "1"]
    teams.write_text("\n".join(f"{line},{speed}" for line, speed in zip(lines, speeds, strict=True)))
    criteria = only(tmp_path / "mine.yaml", "wer: 3", "speed: {better: higher, weight: 0.5}")
    rows = {row["system"]: row for row in rows_of(teams, "--criteria", criteria)}
    assert rows["C"]["ranks"] == {"wer": 1, "speed": 4}
    assert rows["C"]["weighted_sum"] == 3 * 1 + 0.5 * 4


def test_all_problems_of_a_criteria_file_are_told(teams: Path, tmp_path: Path) -> None:
    criteria = tmp_path / "mine.yaml"
    criteria.write_text(
        "rule: rank\nbasline: x\ncriteria:\n  wer: {wieght: 2}\n  speed: {weight: -1, better: up}\n  spider: [1]\n"
    )
    told = refused(2, teams, "--criteria", criteria)
    for part in (
        "mine.yaml:1: rule",
        'did you mean "ranks"?',
        "mine.yaml:2: basline",
        "mine.yaml:4: criteria.wer.wieght",
        'did you mean "weight"?',
        "mine.yaml:5: criteria.speed.weight",
        "mine.yaml:5: criteria.speed.better",
        "mine.yaml:6: criteria.spider",
        "6 problems",
    ):
        assert part in told
    criteria.write_text("rule: limit\ncriteria: {wer: 1}\n")
    assert "needs a criterion with limit_percent" in refused(2, teams, "--criteria", criteria)
    criteria.write_text("criteria: {wer: 0, spider: 0}\n")
    assert "every weight is 0" in refused(2, teams, "--criteria", criteria)
    criteria.write_text("")
    assert "expected criteria" in refused(2, teams, "--criteria", criteria)
    assert "give one of them" in refused(2, teams, "--criteria", criteria, "--preset", "ratio")
    assert 'did you mean "nota-2025"?' in refused(2, teams, "--preset", "nota2025")


# What if


def test_what_if(teams: Path) -> None:
    rows = rows_of(teams, "--what-if", "C memory=3.6", "--what-if", "C latency_s=.2")
    # C passes A and B in memory and B in latency: 1 + 2 + 2*1 + 2*1 = 7; B is second in both: 5 + 1 + 4 + 4.
    assert [(row["system"], row["weighted_sum"]) for row in rows][:2] == [("C", 7), ("B", 14)]
    assert (rows[0]["place"], rows[0]["before"]["place"], rows[0]["before"]["weighted_sum"]) == (1, 2, 13)
    assert rows[0]["values"]["memory"] == 3.6
    assert rows[0]["before"]["values"]["memory"] == 4.09
    assert "before" not in rows_of(teams)[0]
    shown = run_board(teams, "--what-if", "C memory=3.6").stdout
    assert "what if: memory of C is 3.6" in shown
    assert "sum before" in shown


def test_what_if_of_a_name_with_spaces(teams: Path) -> None:
    teams.write_text(TEAMS.replace("\nC,", "\nour best = C,"))
    assert rows_of(teams, "--what-if", "our best = C memory=1")[0]["values"]["memory"] == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("X memory=3", "no system 'X'; known: A, B"),
        ("C memry=3", "no criterion 'memry'; did you mean \"memory\"?"),
        ("C memory=-1", "finite and not negative"),
        ("C memory=inf", "finite and not negative"),
        ("C memory", "expected"),
        ("memory=3", "expected"),
        ("C qa=3", "no criterion 'qa'"),
    ],
)
def test_what_if_that_cannot_be(teams: Path, text: str, part: str) -> None:
    told = refused(2, teams, "--what-if", text)
    assert repr(text) in told
    assert part in told


def test_one_value_is_changed_once(teams: Path) -> None:
    assert "changed twice" in refused(2, teams, "--what-if", "C memory=3", "--what-if", "C memory_gb=4")


# CSV


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        (TEAMS.replace("spider", "spidr"), [':1: the column "spider" is missing; rename "spidr"']),
        (TEAMS.replace("latency_s", "when"), [':1: the column "latency_s" is missing: add it']),
        (
            TEAMS.replace("spider", "a").replace("latency_s", "b"),
            [":1: the columns spider, latency_s are missing: add them"],
        ),
        (TEAMS.replace(",", ";"), [":1: separates its columns by ';'", "1 problem"]),
        (TEAMS.replace("system,", "team,"), [':1: the column "system" is missing']),
        (TEAMS.replace("system,wer", "wer,wer"), ['"wer" is there twice', '"system" is missing']),
        (TEAMS.replace(".0770", "nan"), [":3: wer: nan cannot be"]),
        (TEAMS.replace(".0770", "inf"), [":3: wer: inf cannot be"]),
        (TEAMS.replace("4.05", "-4.05").replace(".846", "fast"), [":3: memory_gb: -4.05", ":3: latency_s: 'fast'"]),
        (TEAMS.replace("\nB,", "\nA,"), [":4: system: 'A' is there twice"]),
        (TEAMS.replace("\nB,", "\n,"), [":4: system: is empty"]),
        (TEAMS.replace("\nB,", "\nB\x1b[2J,"), [":4: system: 'B\\x1b[2J' has characters"]),
        (TEAMS.replace(".36\n", ".36,7\n"), [":5: has 6 cells, and the header 5"]),
        (TEAMS.splitlines()[0], ["has no systems"]),
        ("", ["is empty: expected the columns system,wer,spider"]),
    ],
)
def test_a_csv_that_cannot_be(teams: Path, table: str, parts: list[str]) -> None:
    teams.write_text(table)
    told = refused(3, teams)
    for part in parts:
        assert part in told, told


def test_a_csv_of_another_encoding(teams: Path) -> None:
    teams.write_bytes(TEAMS.replace("baseline", "기준").encode("cp949"))
    assert "is not UTF-8" in refused(3, teams)
    teams.write_bytes(TEAMS.replace("baseline", "기준").encode("utf-8-sig"))
    assert rows_of(teams)[-1]["system"] == "기준"


def test_a_terminal_that_is_not_utf8(teams: Path) -> None:
    teams.write_text(TEAMS.replace("baseline", "기준"), encoding="utf-8")
    code = "import sys; from evaluator.cli import main; main(['board', sys.argv[1]])"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run([sys.executable, "-c", code, str(teams)], env=environment, capture_output=True, check=True)
    assert b"\\uae30\\uc900" in result.stdout


def test_korean_names_are_aligned(teams: Path) -> None:
    teams.write_text(TEAMS.replace("baseline", "기준 모델"), encoding="utf-8")
    lines = [line for line in run_board(teams).stdout.splitlines() if line.endswith((" 10", " 33"))]
    assert len({width(line) for line in lines}) == 1
    assert len({len(line) for line in lines}) == 2
    assert width("모델") == width("모델") == 4
    assert aligned([["가", "1"], ["abc", "22"]], left=(0,)) == ["가    1", "abc  22"]


# Runs


def test_sources_of_one_name_are_one_system(teams: Path, tmp_path: Path) -> None:
    asr = write_run(tmp_path / "1", edits=(0, 1, 2, 0), first_step=0.2)
    aac = write_run(tmp_path / "2", task="aac", edits=(1.0, 2.0), ids=("t0", "t1"), first_step=9.0)
    row = rows_of(f"small={asr}", f"small={aac}", "--captions", "cider_d")[0]
    # The run of speech recognition says what memory and latency are.
    assert row["system"] == "small"
    assert row["values"] == {"wer": 3 / 16, "cider_d": 1.5, "memory": 2.0, "latency": pytest.approx(0.25)}
    # A measurement of its own comes before a run's.
    efficiency = write_efficiency(tmp_path / "3", first_step=0.1, memory=3 * 2**30)
    row = rows_of(f"small={asr}", f"small={aac}", f"small={efficiency}", "--captions", "cider_d")[0]
    assert (row["values"]["memory"], row["values"]["latency"]) == (3.0, pytest.approx(0.11))
    # So does a CSV.
    criteria = only(tmp_path / "costs.yaml", "wer:", "memory:", "latency:")
    teams.write_text("system,wer,memory_gb,latency_s\nsmall,,7,8\n")
    row = rows_of(f"small={asr}", teams, "--criteria", criteria)[0]
    assert row["values"] == {"wer": 3 / 16, "memory": 7, "latency": 8}


def test_an_output_folder_is_a_system(tmp_path: Path) -> None:
    for name, edits in (("one", (0, 0, 1, 0)), ("two", (2, 0, 1, 0))):
        write_run(tmp_path / name / "valid_results" / "a_valid_asr", edits=edits)
        write_run(tmp_path / name / "valid_results" / "b_valid_aac", task="aac")
        write_efficiency(tmp_path / name / "efficiency_results" / "c", first_step=0.5, memory=2**30)
        submission = write_run(tmp_path / name / "submission_results" / "d", mode="submission_asr")
        (submission / "scores.json").unlink()
    rows = rows_of(tmp_path / "one", tmp_path / "two", "--captions", "cider_d")
    assert [row["system"] for row in rows] == ["one", "two"]
    assert rows[0]["values"]["latency"] == pytest.approx(0.51)
    write_run(tmp_path / "one" / "valid_results" / "e_valid_asr")
    told = refused(3, tmp_path / "one", "--captions", "cider_d")
    assert '"one" has it already from' in told


def test_a_score_is_given_once(teams: Path, tmp_path: Path) -> None:
    asr = write_run(tmp_path / "run")
    told = refused(3, teams, f"A={asr}")
    assert f"{asr}/scores.json: wer" in told
    assert f'"A" has it already from {teams}:3: wer' in told


def test_captions_of_two_metrics(teams: Path, tmp_path: Path) -> None:
    asr, aac = write_run(tmp_path / "1"), write_run(tmp_path / "2", task="aac")
    told = refused(3, teams, f"small={asr}", f"small={aac}")
    assert "captions of small have cider_d and no spider (SPICE is not installed; run setup-metrics)" in told
    assert "the two do not compare" in told
    assert "--captions cider_d" in refused(3, f"small={asr}", f"small={aac}")


def test_runs_over_other_clips(tmp_path: Path) -> None:
    criteria = only(tmp_path / "wer.yaml", "wer:", "memory:")
    one = write_run(tmp_path / "one")
    for name, more, part in (
        ("fewer", {"edits": (0, 1), "ids": ("t0", "t1")}, "fewer has 2 rows and one 4"),
        ("others", {"ids": ("t0", "t1", "t5", "t3")}, "row 3 of others is t5 and of one t2"),
        ("texts", {"references": ["a", "b", "c", "d"]}, "row 1 (t0) of texts has another reference"),
    ):
        told = refused(3, one, write_run(tmp_path / name, **more), "--criteria", criteria)
        assert part in told
        assert "same annotation" in told


def test_memory_of_two_kinds(tmp_path: Path) -> None:
    criteria = only(tmp_path / "wer.yaml", "wer:", "memory:")
    on_cpu = write_run(tmp_path / "cpu", memory={"process_since_start": 2**30, "device_batch1": None})
    told = refused(3, write_run(tmp_path / "gpu"), on_cpu, "--criteria", criteria)
    assert "different ways (gpu by device_batch1, cpu by process_since_start)" in told


def test_the_challenges_protocol(tmp_path: Path) -> None:
    """Its figures come before others, and are compared with their kind only."""
    criteria = only(tmp_path / "costs.yaml", "memory: 1", "latency: 2")
    for name, device, latency in (("one", "cuda:0", 0.3), ("two", "cuda:1", 0.2), ("cpu", "cpu", 0.1)):
        path = write_efficiency(tmp_path / name, first_step=9.0, memory=9)
        data = json.loads(path.read_text())
        data["settings"] = {"device": device}
        data["figures"] |= {
            "challenge_latency_seconds": {"median": latency},
            "challenge_memory_bytes": {"median": 3.0 * 2**30},
        }
        path.write_text(json.dumps(data))
    rows = rows_of(tmp_path / "one", tmp_path / "two", "--criteria", criteria)
    assert [(row["system"], row["values"]) for row in rows] == [
        ("two", {"memory": 3.0, "latency": 0.2}),
        ("one", {"memory": 3.0, "latency": 0.3}),
    ]
    assert "device differs: two cuda:1" in run_board(tmp_path / "two", tmp_path / "one", "--criteria", criteria).stdout
    told = refused(3, tmp_path / "one", tmp_path / "cpu", "--criteria", criteria)
    assert "protocol on cuda, cpu by the challenge's protocol on cpu" in told
    plain = write_efficiency(tmp_path / "plain", first_step=0.1, memory=1)
    assert "2 problems" in refused(3, tmp_path / "one", plain, "--criteria", criteria)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda run: (run / "scores.json").unlink(), "has no scores.json"),
        (lambda run: (run / "run.json").unlink(), "has no run.json"),
        (lambda run: (run / "run.json").write_text('{"a": 1}'), "run.json is not that of a run: it has no status."),
        (lambda run: (run / "run.json").write_text('{"status": "interrupted", "reason": "Ctrl-C"}'), "(Ctrl-C), not"),
        (lambda run: (run / "run.json").write_text("[]"), "expected an object"),
        (lambda run: (run / "scores.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "scores.json").write_text("{}"), "no list of metrics"),
        (lambda run: (run / "predictions.jsonl").write_text('{"id": "t0"}\n'), "1 answers and scores.json 4 rows"),
        (
            lambda run: (run / "predictions.jsonl").write_text('{"id": "t0"}\n{"id": "t1", "te'),
            "predictions.jsonl:2 is cut",
        ),
        (lambda run: (run / "predictions.jsonl").write_text('{"id": "t1"}\n'), "predictions.jsonl:1 is of t1"),
        (lambda run: _edit(run, lambda s: s["metrics"][0].update(value=0.5)), "do not add up"),
        (lambda run: _edit(run, lambda s: s["metrics"][0].update(value=float("nan"))), "found nan"),
        (lambda run: _edit(run, lambda s: s["per_sample"]["word_edits"].pop()), "another number of rows"),
    ],
)
def test_a_run_that_cannot_be_ranked(tmp_path: Path, spoil: Any, part: str) -> None:
    run = write_run(tmp_path / "run")
    spoil(run)
    told = refused(3, run)
    assert str(run) in told
    assert part in told


def _edit(run: Path, change: Any) -> None:
    scores = json.loads((run / "scores.json").read_text())
    change(scores)
    (run / "scores.json").write_text(json.dumps(scores))


def test_sources_that_are_none(teams: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = write_run(tmp_path / "run")
    told = refused(3, tmp_path / "nowhere", tmp_path / "empty", f"x={teams}", run / "scores.json", "=x")
    for part in ("nowhere does not exist", "holds no finished run", 'leave out "x="', "give the folder", "NAME=PATH"):
        assert part in told
    assert "5 problems" in told
    assert f"{teams}: is given twice" in refused(3, teams, teams)


def test_whole_runs_make_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(tmp_path)
    criteria = only(tmp_path / "wer.yaml", "wer:", "memory:")
    for name in ("one", "two"):
        command = build_evaluate_command(FakeProvider(EchoLM()), default_config=site.config)
        arguments = ["--mode", "valid_asr", "--output-dir", str(tmp_path / "systems" / name)]
        assert CliRunner().invoke(command, arguments).exit_code == 0
    rows = rows_of(tmp_path / "systems" / "one", tmp_path / "systems" / "two", "--criteria", criteria)
    assert sorted(row["system"] for row in rows) == ["one", "two"]
    assert rows[0]["values"]["wer"] == rows[1]["values"]["wer"]
    assert rows[0]["probabilities"]["clips"] == {"wer": 5}


# Certainty


def test_probabilities_of_places(tmp_path: Path) -> None:
    """Two systems of equal memory, so that WER decides; one clip in two tells them apart."""
    criteria = only(tmp_path / "wer.yaml", "wer:")
    one = write_run(tmp_path / "one", edits=(0, 3), ids=("t0", "t1"))
    two = write_run(tmp_path / "two", edits=(2, 0), ids=("t0", "t1"))
    rows = rows_of(one, two, "--criteria", criteria, "--resamples", "4000")
    # Draws: both t0 (one is better), both t1 (two is), one of each (two is, 2 against 3): a quarter for one.
    found = {row["system"]: row["probabilities"] for row in rows}
    assert found["one"]["places"] == pytest.approx([0.25, 0.75], abs=0.03)
    assert found["two"]["places"] == pytest.approx([0.75, 0.25], abs=0.03)
    assert found["two"]["ranks"]["wer"] == found["two"]["places"]
    shown = run_board(one, two, "--criteria", criteria).stdout.splitlines()
    assert [line.split()[:2] for line in shown if line.startswith(("place", "WER "))] == [
        ["place", "two"],
        ["WER", "two"],
    ]
    again = rows_of(one, two, "--criteria", criteria, "--resamples", "4000")
    assert again == rows
    assert rows_of(one, two, "--criteria", criteria, "--resamples", "4000", "--seed", "1") != rows
    assert rows_of(one, two, "--criteria", criteria, "--resamples", "0")[0]["probabilities"] is None


def test_a_draw_that_tells_nothing_is_shared(tmp_path: Path) -> None:
    """One clip of four tells two systems apart; where it is not drawn, neither has a claim to be first."""
    one = write_run(tmp_path / "one", edits=(1, 1, 1, 1))
    two = write_run(tmp_path / "two", edits=(1, 1, 1, 0))
    criteria = only(tmp_path / "wer.yaml", "wer:")
    missed = (3 / 4) ** 4
    for order in ((one, two), (two, one)):
        rows = {row["system"]: row for row in rows_of(*order, "--criteria", criteria, "--resamples", "4000")}
        assert rows["one"]["probabilities"]["places"][0] == pytest.approx(missed / 2, abs=0.03)


def test_the_same_clips_are_drawn_for_every_system(tmp_path: Path) -> None:
    """A system that is worse by one word in every clip is worse in every draw, however much clips differ."""
    generator = random.Random(3)
    edits = [generator.choice((0, 0, 30)) for _ in range(50)]
    ids = [f"t{number}" for number in range(50)]
    one = write_run(tmp_path / "one", edits=edits, ids=ids)
    two = write_run(tmp_path / "two", edits=[each + 0.1 for each in edits], ids=ids)
    rows = rows_of(one, two, "--criteria", only(tmp_path / "wer.yaml", "wer:"))
    assert [row["probabilities"]["places"] for row in rows] == [[1, 0], [0, 1]]


def test_no_clips_no_probabilities(teams: Path, tmp_path: Path) -> None:
    assert "No probabilities: they need values of single clips" in run_board(teams).stdout
    assert all(row["probabilities"] is None for row in rows_of(teams))
    # One system without clips is enough: its value cannot be resampled with the others'.
    criteria = only(tmp_path / "wer.yaml", "wer:", "memory:")
    run = write_run(tmp_path / "run")
    assert "No probabilities" in run_board(teams, run, "--criteria", criteria).stdout
    # A value that was changed has no clips either.
    two = write_run(tmp_path / "two")
    assert "Probability of each place" in run_board(run, two, "--criteria", criteria).stdout
    assert "No probabilities" in run_board(run, two, "--criteria", criteria, "--what-if", "run wer=.1").stdout


def test_draws_that_cannot_be_compared_do_not_count() -> None:
    """Rule ratio: a draw of clips without an error has no ratio; rows without words have no rate."""
    clips = {
        "wer": {
            name: Clips(("t0", "t1"), (), (edits, 0.0), (4.0, 0.0)) for name, edits in (("base", 2.0), ("other", 1.0))
        }
    }
    preset = PRESETS["ratio"]
    rules = type(preset)("mine", "ratio", preset.criteria[:1], "base")
    found = probabilities({"wer": {"base": 0.5, "other": 0.25}}, clips, ["base", "other"], rules, resamples=400)
    assert found is not None
    # A quarter of the draws is t1 twice.
    assert found.resamples == pytest.approx(300, abs=30)
    assert found.places["other"] == (1.0, 0.0)
