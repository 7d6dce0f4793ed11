"""docs/check_numbers.py: true numbers are told from stale ones, and the marks of the pages are well-formed."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = """\
<!-- file: t.csv -->

    system,wer,memory_gb
    a,.06,{memory}
    b,.07,3

prints

<!-- made by: audiolm-evaluator board t.csv --criteria c.yaml{same} -->

    {first}
    {second}

and more.
"""
CRITERIA = (
    "<!-- file: c.yaml -->\n\n    rule: ranks\n    criteria: {wer: 1, memory: {weight: 2, column: memory_gb}}\n\nof\n\n"
)


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_numbers", ROOT / "docs" / "check_numbers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_numbers"] = module
    spec.loader.exec_module(module)
    return module


def write(folder: Path, **values: str) -> Path:
    row = "1  b       0.07  2             3  1             4"
    given = {"memory": "4", "same": "", "first": row, "second": "2  a       0.06  1             4  2             5"}
    page = folder / "page.md"
    page.write_text(CRITERIA + PAGE.format(**given | values))
    return page


def test_true_and_stale_numbers(checker: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checker.check([write(tmp_path)]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.endswith("No block is stale.\n")
    assert checker.check([write(tmp_path, memory="5")]) == 1
    said = capsys.readouterr().out
    assert "STALE  page.md:16  audiolm-evaluator board t.csv" in said
    assert "         2  a       0.06  1             4  2             5\n" in said
    assert "         1  b" not in said


def test_lines_that_differ_from_run_to_run(
    checker: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checker.check([write(tmp_path, second="took 3.1 s", same="; same: 1  b")]) == 0
    assert checker.check([write(tmp_path, second="took 3.1 s")]) == 1
    capsys.readouterr()
    assert checker.check([write(tmp_path, same="; same: 1  b, memory of")]) == 1
    assert "(no line begins with memory of)" in capsys.readouterr().out


def test_the_boards_numbers_are_true(checker: ModuleType) -> None:
    assert checker.check([ROOT / "docs" / "board.md"]) == 0


def test_marks_are_well_formed(checker: ModuleType) -> None:
    made = 0
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        comments = re.findall(r"^<!-- .*", page.read_text(encoding="utf-8"), re.M)
        blocks = list(checker.blocks(page))
        assert len(blocks) == len(comments), page.name
        for block in blocks:
            if block.kind == "made by":
                made += 1
                assert {command.split()[0] for command in block.source.split(" && ")} <= set(checker.PROGRAMS)
                assert any(block.lines), block.where
    assert made >= 6
