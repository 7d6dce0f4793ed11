"""Tests of report.html: what it says, that nothing of others runs in it, and how it works in a browser."""

import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import WORDS, Site, make_site
from opened_page import axe, opened, rows_of

from evaluator.cli import build_evaluate_command, main
from evaluator.model import Request
from evaluator.report import write
from evaluator.report.embedding import choose
from evaluator.report.page.document import SCRIPTS, STYLES, asset, policy, wave_style

ROOT = Path(__file__).resolve().parents[1]
VENDORED = (ROOT / "evaluator" / "report" / "assets" / "vendor", ROOT / "tests" / "vendor")
HOSTILE = "</script><script>document.title='gone'</script><img src=x onerror=alert(1)> \u202ecat"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def run(site: Site, answers: dict[int, str], *options: str) -> Path:
    """Run over the five clips, each told by its length; others are answered rightly."""

    def say(request: Request) -> str:
        place = (len(request.audio) - 16000) // 1000
        return answers.get(place, WORDS[place])

    command = build_evaluate_command(FakeProvider(EchoLM(say=say)), default_config=site.config)
    done = CliRunner().invoke(command, ["--mode", "valid_asr", *options])
    assert done.exit_code == 0, done.output
    records = (site.results / "valid_results").glob("*/run.json")
    return max(records, key=lambda path: path.stat().st_mtime_ns).parent


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.mark.parametrize("folder", VENDORED, ids=["page", "tests"])
def test_vendored_files_are_those_that_were_published(folder: Path) -> None:
    told = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "SHA256SUMS"
    }
    assert found == told
    assert any(name.startswith("LICENSE") for name in found)


def test_scripts_can_be_read() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, which checks the scripts' syntax")
    for name in SCRIPTS:
        path = ROOT / "evaluator" / "report" / "assets" / name
        assert subprocess.run([node, "--check", str(path)], check=False).returncode == 0, name


def test_what_a_policy_allows_is_in_the_page_by_hash() -> None:
    told = policy()
    assert told.startswith("default-src 'none'")
    assert "unsafe" not in told
    assert told.count("'sha256-") == len(SCRIPTS) + len(STYLES) + 1
    assert not any("</script" in asset(name) or "sourceMappingURL" in asset(name) for name in SCRIPTS)
    assert "${" not in wave_style()


def test_a_run_writes_its_report(site: Site) -> None:
    folder = run(site, {0: "the cat stood", 2: "loud loud loud loud loud"})
    page = (folder / "report.html").read_text(encoding="utf-8")
    rows = rows_of(page)
    assert [row["id"] for row in rows] == [f"test{number:04d}" for number in range(5)]
    assert rows[0]["pieces"] == ["the", "cat", ["sat", "stood"]]
    assert rows[1]["pieces"] is None
    assert "loop" in rows[2]["flags"]
    assert rows[0]["link"].endswith("/wavs/clip0.wav")
    assert page.count('id="clip-') == 5
    assert re.search(r'<p class="large">\d+\.\d\d %</p>', page)
    assert "http-equiv" in page
    assert policy() in html.unescape(page)


def test_texts_of_others_cannot_leave_their_place(site: Site) -> None:
    data = json.loads((site.folder / "asr.json").read_text())
    data["annotation"][0]["testset_id"] = HOSTILE
    data["annotation"][1]["text"] = HOSTILE
    (site.folder / "asr.json").write_text(json.dumps(data))
    folder = run(site, {0: HOSTILE, 3: "\x00\x1b[2J \ud800"})
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>")
    rows = rows_of(page)
    assert (rows[0]["id"], rows[0]["text"], rows[1]["reference"]) == (HOSTILE, HOSTILE, HOSTILE)


def test_what_changed_since_the_last_run_is_told(site: Site) -> None:
    run(site, {0: "the cat stood", 1: "a dog"})
    folder = run(site, {1: "a dog", 3: "birds sang"})
    rows = rows_of((folder / "report.html").read_text(encoding="utf-8"))
    assert [row["changes"] for row in rows] == [["fixed"], [""], [""], ["broken"], [""]]
    assert rows[0]["others"][0][0] == "the cat stood"
    assert rows[1]["others"] == [None]


def test_runs_of_other_clips_are_not_compared(site: Site) -> None:
    run(site, {}, "--limit", "3")
    folder = run(site, {})
    assert "No earlier run of this set lies beside this one." in (folder / "report.html").read_text(encoding="utf-8")
    done = report(folder, sorted((site.results / "valid_results").glob("*first3"))[0])
    assert done.exit_code != 0
    assert "cannot be compared" in done.output


def test_a_place_on_a_board_is_told(site: Site, tmp_path: Path) -> None:
    first, second = run(site, {0: "no", 1: "no"}), run(site, {})
    board = tmp_path / "teams.csv"
    board.write_text("system,wer,spider,memory_gb,latency_s\na,0.05,0.3,0.0001,0.0001\nb,0.9,0.3,900,900\n")
    done = report(f"new={second}", f"old={first}", "--board", board, "--output", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8") if done.exit_code == 0 else done.output
    # By WER and the costs that both have; the better run is first by WER.
    assert re.search(r"Place \d → \d of 3 on the board", page), page[-500:]
    assert "Against old" in page
    assert [row["changes"] for row in rows_of(page)] == [["fixed"], ["fixed"], [""], [""], [""]]
    assert "No picture of quality against cost" in page or "data:image/svg+xml;base64," in page


def test_a_report_that_fails_costs_no_run(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_page", fail)
    folder = run(site, {})
    assert (folder / "scores.json").is_file()
    assert not (folder / "report.html").exists()
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert "No report was written (OSError: [Errno 28] No space left on device)" in caplog.text


def test_a_run_can_go_without_a_report(site: Site) -> None:
    assert not (run(site, {}, "--options", "run.report=false") / "report.html").exists()


def test_the_worst_clips_are_embedded_up_to_so_many_seconds() -> None:
    assert choose([3, 1, 0, 2], [4.0, 50.0, None, 7.0], 40.0) == [3, 1]
    assert choose([3, 1, 0, 2], [4.0, 50.0, None, 7.0], 12.0) == [3, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "wide"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)], ids=lambda value: str(value)
)
def test_the_page_works_from_disk(site: Site, browser: Any, scheme: str, wide: int) -> None:
    run(site, {0: "the cat stood", 1: "a dog"})
    folder = run(site, {0: HOSTILE, 1: "a dog bit", 3: "birds sang"})
    trouble: list[str] = []
    page = opened(
        browser, folder / "report.html", trouble, color_scheme=scheme, viewport={"width": wide, "height": 900}
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= wide
    count, ids = page.locator("#count"), page.locator("button.open")
    assert count.text_content() == "5 of 5 clips"
    head = page.locator('.tabulator-col[tabulator-field="id"]')
    head.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert ids.first.text_content() == "test0000"
    page.fill("#search", "BIRDS")
    page.wait_for_selector("#count:text-is('1 of 5 clips')")
    page.fill("#search", "")
    page.wait_for_selector("#count:text-is('5 of 5 clips')")
    page.locator('[data-filter="change:0:broken"]').click()
    assert count.text_content() == "1 of 5 clips"
    page.select_option("#filter", "wrong")
    assert count.text_content() == "3 of 5 clips"
    assert axe(page) == []
    ids.first.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("button.open:focus:text-is('test0001')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".player[data-ready]")
    page.locator("button.wrong").first.click()
    assert "an estimate" in page.locator("dialog [aria-live]").text_content()
    page.wait_for_selector(".play:text-is('Pause')")
    assert axe(page) == []
    page.keyboard.press("Escape")
    page.wait_for_selector("button.open:focus:text-is('test0001')")
    assert page.title().endswith(": report")
    assert trouble == []


def test_a_run_of_very_many_rows_writes_none_by_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(write, "MOST_ROWS", 4)
    caplog.set_level("INFO")
    folder = run(site, {})
    assert not (folder / "report.html").exists()
    assert "No report is written of more than 4 rows by itself." in caplog.text
    assert report(folder).exit_code == 0
    assert (folder / "report.html").is_file()
