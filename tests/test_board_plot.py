"""Tests of evaluator/board/pareto.py, label_places.py and plot.py: frontiers by hand, names that never overlap."""

import random
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

from click.testing import CliRunner

from evaluator.board.label_places import Box, place_labels
from evaluator.board.pareto import Point, frontier
from evaluator.cli import main

SVG = "{http://www.w3.org/2000/svg}"
HEAD = "system,wer,spider,memory_gb,latency_s\n"


def plotted(folder: Path, table: str, *args: str) -> ElementTree.Element:
    source, path = folder / "systems.csv", folder / "board.svg"
    source.write_text(HEAD + table, encoding="utf-8")
    result = CliRunner().invoke(main, ["board", str(source), "--plot", str(path), *args])
    assert result.exit_code == 0, result.output
    return ElementTree.parse(path).getroot()


def texts(root: ElementTree.Element, kind: str) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text") if each.get("class") == kind]


def test_frontier() -> None:
    points = [Point("a", 1, 1), Point("b", 2, 3), Point("c", 3, 2), Point("d", 2, 2), Point("e", 2, 3)]
    # d costs as much as b and is worse; e equals b.
    assert [point.system for point in frontier(points)] == ["a", "b", "e"]
    assert frontier([]) == []


def test_names_do_not_overlap() -> None:
    generator = random.Random(7)
    panel = Box(2, 2, 378, 268)
    for count in (2, 10, 25):
        # Half of them in one corner, as good systems are.
        points = [
            (generator.uniform(10, 370 if number % 2 else 90), generator.uniform(10, 260 if number % 2 else 60))
            for number in range(count)
        ]
        boxes = place_labels(points, [(generator.uniform(8, 70), 15.0) for _ in points], panel)
        found = [box for box in boxes if box is not None]
        assert len(found) == count
        assert not any(one.meets(other) for one, other in combinations(found, 2))
        assert all(panel.holds(box) for box in found)
        assert not any(box.left < x < box.right and box.top < y < box.bottom for box in found for x, y in points)


def test_a_name_without_room_is_left_out() -> None:
    assert place_labels([(5, 5)], [(100, 15)], Box(0, 0, 50, 50)) == [None]


def test_four_panels_with_the_frontier_marked(tmp_path: Path) -> None:
    root = plotted(tmp_path, "good,.05,.36,4,.3\nsmall,.07,.30,3,.2\nbad,.08,.2,9,1.2\n")
    assert texts(root, "title") == [
        "WER against memory (GiB)",
        "WER against latency (s)",
        "SPIDEr against memory (GiB)",
        "SPIDEr against latency (s)",
    ]
    for panel in root.iter(f"{SVG}g"):
        dots = {(each[0].text or "").partition(":")[0]: each.get("class") for each in panel.iter(f"{SVG}circle")}
        assert dots == {"good": "best", "small": "best", "bad": "other"}
    assert len(list(root.iter(f"{SVG}polyline"))) == 4
    assert sorted(texts(root, "name")) == sorted(["good", "small", "bad"] * 4)


def test_better_is_up_and_to_the_left(tmp_path: Path) -> None:
    root = plotted(tmp_path, "good,.05,.36,4,.3\nbad,.08,.2,9,1.2\n")
    for panel in root.iter(f"{SVG}g"):
        places = {
            (dot[0].text or "").partition(":")[0]: (float(dot.get("cx", "")), float(dot.get("cy", "")))
            for dot in panel.iter(f"{SVG}circle")
        }
        assert places["good"][0] < places["bad"][0]
        assert places["good"][1] < places["bad"][1]


def test_any_name_is_valid_xml(tmp_path: Path) -> None:
    root = plotted(tmp_path, "<b>&amp;,.05,.36,4,.3\n아주아주아주아주긴이름의모델,.08,.2,9,1.2\n")
    assert "<b>&amp;" in texts(root, "name")
    assert "아주아주아주아주긴이…" in texts(root, "name")


def test_missing_values_and_changes_are_told(tmp_path: Path) -> None:
    table = "good,.05,.36,4,.3\nF,.073,-,5.87,.198\n"
    root = plotted(tmp_path, table, "--missing", "last", "--what-if", "F memory=3")
    told = texts(root, "faint")
    assert told.count("without a value: F") == 2
    assert "What if: memory of F is 3" in told


def test_one_system_or_equal_values(tmp_path: Path) -> None:
    assert len(list(plotted(tmp_path, "one,0,0,0,0\n").iter(f"{SVG}circle"))) == 4
    root = plotted(tmp_path, "one,.1,.2,3,4\ntwo,.1,.2,3,4\n")
    assert {each.get("class") for each in root.iter(f"{SVG}circle")} == {"best"}


def test_a_plot_that_cannot_be(tmp_path: Path) -> None:
    source = tmp_path / "systems.csv"
    source.write_text(HEAD + "one,.1,.2,3,4\n")
    criteria = tmp_path / "mine.yaml"
    criteria.write_text("criteria: {wer: 1, spider: 1}\n")
    for args, code, part in (
        (["--plot", str(tmp_path / "no" / "board.svg")], 3, "Cannot write"),
        (["--plot", str(tmp_path / "board.svg"), "--criteria", str(criteria)], 2, "needs a quality and a cost"),
    ):
        result = CliRunner().invoke(main, ["board", str(source), *args])
        assert result.exit_code == code
        assert part in result.stderr


def test_colours_follow_the_scheme(tmp_path: Path) -> None:
    style = next(plotted(tmp_path, "one,.1,.2,3,4\n").iter(f"{SVG}style")).text or ""
    plain, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    names = ("--paper", "--ink", "--faint", "--grid", "--mark", "--other")
    assert all(f"{name}: #" in plain and f"{name}: #" in dark for name in names)
