"""The picture of a compression: which rows are on the frontier, and where they stand."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from salmonn.compress.figures import Row
from salmonn.compress.plot import Axis, as_svg, frontier

ROW = Row(
    step="original",
    llm_layers=3,
    whisper_layers=3,
    context_seconds=10.0,
    parameters=100,
    weight_bytes=12_600_000,
    memory_bytes=16_900_000,
    ttft_seconds=0.0589,
    tpot_seconds=0.0045,
    loss=0.296,
    accuracy=0.9,
    wer=0.0344,
    chrf=66.5,
)
DROPPED = replace(ROW, step="layers <dropped>", memory_bytes=15_400_000, ttft_seconds=0.04, wer=0.1033, loss=0.545)
HEALED = replace(DROPPED, step="healed", ttft_seconds=0.05, wer=0.037, loss=0.345)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1)], [0]),
        ([(2, 1), (1, 2), (3, 3)], [1, 0]),
        # As cheap and worse; as good and dearer.
        ([(1, 1), (1, 2), (2, 1)], [0]),
        ([(1, 1), (1, 1)], [0, 1]),
    ],
)
def test_the_frontier_by_hand(points: list[tuple[float, float]], expected: list[int]) -> None:
    assert frontier(*zip(*points, strict=True)) == expected


@pytest.mark.parametrize(
    ("values", "ends"),
    [((15.4, 16.9), (15.0, 17.0)), ((3.0,), (3.0, 4.0)), ((0.0, 0.0), (0.0, 0.5)), ((4.5, 103), (0, 150))],
)
def test_ticks_go_round_all_values(values: tuple[float, ...], ends: tuple[float, float]) -> None:
    ticks = Axis("", values).ticks()
    assert ticks[0] <= min(values) <= max(values) <= ticks[-1]
    assert 2 <= len(ticks) <= 7
    if values != (0.0, 0.0):
        assert (ticks[0], ticks[-1]) == pytest.approx(ends)


def test_rows_are_numbered_placed_and_told_apart() -> None:
    root = ET.fromstring(as_svg([ROW, DROPPED, HEALED]))
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert texts[-3:] == ["1  original", "2  layers <dropped>", "3  healed"]
    assert {"WER (%)", "memory (MB)", "TTFT + TPOT (ms)"} <= set(texts)
    groups = list(root.iter(f"{SVG}g"))
    # The dropped one takes as much memory as the healed one and errs more; it is faster.
    assert [each.get("class") for each in groups] == ["point best", "point", "point best", *["point best"] * 3]
    circles = [each.find(f"{SVG}circle") for each in groups]
    places = [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in circles if each is not None]
    assert places[0][0] > places[1][0] == places[2][0]
    # Fewer errors are lower.
    assert places[0][1] > places[2][1] > places[1][1]
    width, height = (float(value) for value in re.findall(r"[\d.]+", root.get("viewBox", ""))[2:])
    assert all(0 < x < width and 0 < y < height for x, y in places)


def test_without_words_the_loss_is_drawn() -> None:
    assert ">loss</text>" in as_svg([replace(ROW, wer=None), DROPPED])
    assert ">WER (%)</text>" not in as_svg([replace(ROW, wer=None), DROPPED])
    # One row, and rows that are alike, have their picture too.
    for rows in ([ROW], [ROW, replace(ROW, step="same")], [replace(ROW, wer=0.0)]):
        ET.fromstring(as_svg(rows))
