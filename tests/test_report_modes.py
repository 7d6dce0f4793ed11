"""Tests of report.html of other tasks than speech recognition, with measured efficiency, and of hostile names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site
from opened_page import axe, opened, rows_of

from evaluator.cli import build_evaluate_command, main
from evaluator.model import Request

CHOICES = {"Q": "What barks?", "choices": ["cow", "dog"]}
SETS: dict[str, tuple[str, list[str], dict[str, Any], str]] = {
    "aac": (
        "audiocaption_v2",
        ["a cat sits", "a dog barks", "rain falls", "birds sing", "a door opens"],
        {},
        "birds sing",
    ),
    "qa": ("QA", ["dog", "cow", "dog", "dog", "cow"], CHOICES, "B"),
    "cls": ("emotion_recognition", ["sad", "happy", "sad", "angry", "happy"], {}, "sad"),
    "st": ("translation_en2de", ["der Hund", "die Katze", "es regnet", "Vögel singen", "eine Tür"], {}, "der Hund"),
}
"""Task: label, references, further fields of a row, what the model says."""
MARKUP = "</script><script>document.title='gone'</script>"
NAMES = (
    "</script><script>document.title='gone'</script>.wav",
    "<img src=x onerror=\"document.title='gone'\">.wav",
    "quotes '\"`.wav",
    "&lt;b&gt;  two  spaces &amp; \\n.wav",
    "한국어 이름 \u202egnp.wav",
    "%00%2e%2e%2f#part?query=1&a=b.wav",
    "javascript:alert(1).wav",
    "l" + "o" * 230 + "ng.wav",
)
"""Names of files that a page could take for something else; a slash makes a folder, line breaks are refused."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def run(site: Site, task: str, rows: Sequence[Mapping[str, Any]], say: Any, *options: str, kind: str = "valid") -> Path:
    """Run a mode over rows, and return the run's folder."""
    path = site.folder / "rows.json"
    path.write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    provider = FakeProvider(model=EchoLM(say=say))
    provider.labels = {str(row["task"]): "Q" in row for row in rows}
    settings = (f"datasets.test_ann_path_{task}={path}", f"datasets.prefix={site.wavs}", *options)
    command = build_evaluate_command(provider, default_config=site.config)
    done = CliRunner().invoke(command, ["--mode", f"{kind}_{task}", "--options", *settings])
    assert done.exit_code == 0, done.output
    records = (site.results / f"{kind}_results").glob("*/run.json")
    return max(records, key=lambda found: found.stat().st_mtime_ns).parent


def rows_for(task: str) -> list[dict[str, Any]]:
    label, texts, further, _ = SETS[task]
    return [
        {"testset_id": f"test{row:04d}", "path": f"clip{row}.wav", "task": label, "text": text, **further}
        for row, text in enumerate(texts)
    ]


def twice(site: Site, task: str) -> Path:
    """Two runs, the second of which answers one clip more; the second one's folder."""
    for most in (3, 4):
        folder = run(site, task, rows_for(task), lambda request, most=most: answer(request, task, most))
    return folder


def answer(request: Request, task: str, most: int) -> str:
    return SETS[task][3] if (len(request.audio) - 16000) // 1000 < most else "x"


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.mark.parametrize("task", SETS)
def test_every_task_has_its_report(site: Site, task: str) -> None:
    folder = twice(site, task)
    page = (folder / "report.html").read_text(encoding="utf-8")
    rows = rows_of(page)
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert [row["text"] for row in rows] == [SETS[task][3]] * 4 + ["x"]
    # No words are laid below one another where errors are not counted.
    assert {row["pieces"] for row in rows} == {None}
    for metric in scores["metrics"]:
        assert metric["value"] is None or f"{metric['value']:.4f}" in page, metric["name"]
    if task == "st":
        earlier, own = sorted(path.parent for path in folder.parent.glob("*/scores.json"))
        assert own == folder
        told = [json.loads((each / "scores.json").read_text(encoding="utf-8")) for each in (earlier, own)]
        before, now = (each["metrics"][1]["value"] for each in told)
        assert f"chrF {before:.4f} \u2192 {now:.4f}. Clips are not compared: " in page
        assert "BLEU is no mean over clips" in page
        assert "Scores of the clips" not in page
        assert {row["score"] for row in rows} == {None}
    else:
        first = next(each["name"] for each in scores["metrics"] if each["value"] is not None)
        assert [row["score"] for row in rows] == pytest.approx(scores["per_sample"][first], abs=1e-4)
        assert "Scores of the clips" in page
        changed = "better" if task == "aac" else "fixed"
        expected = [[""], [""], [""], [changed] if task in ("aac", "qa") else [""], [""]]
        assert [row["changes"] for row in rows] == expected


def test_a_question_is_told_as_it_was_asked(site: Site) -> None:
    asked: dict[int, str] = {}

    def say(request: Request) -> str:
        asked[len(request.audio)] = request.question
        return "A"

    folder = run(site, "qa", rows_for("qa"), say, "datasets.shuffle_choices=3", "run.latency_clips=0")
    rows = rows_of((folder / "report.html").read_text(encoding="utf-8"))
    assert [row["question"] for row in rows] == [asked[length] for length in sorted(asked)]
    assert len({row["question"] for row in rows}) == 2
    captions = rows_of((twice(site, "aac") / "report.html").read_text(encoding="utf-8"))
    assert {row["question"] for row in captions} == {""}


def test_a_submission_has_no_report(site: Site) -> None:
    rows = [{key: value for key, value in row.items() if key != "text"} for row in rows_for("aac")]
    folder = run(site, "aac", rows, lambda _: "birds sing", kind="submission")
    assert not (folder / "report.html").exists()
    done = report(folder)
    assert done.exit_code != 0
    assert "Error: " in done.output
    assert len(done.output.splitlines()) <= 3


def hostile(site: Site) -> Path:
    """A run over clips, ids, speakers and texts that a page could take for its own."""
    rows = []
    for row, name in enumerate(NAMES):
        path = site.wavs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.sin(np.arange(16000 + 1000 * row)), 16000)
        speaker = f'kim\n"{MARKUP}' if row < 3 else "lee"
        rows.append(
            {"testset_id": f"{row} {name}", "path": name, "task": "asr", "text": "the cat sat", "speaker": speaker}
        )
    return run(site, "asr", rows, lambda request: MARKUP if len(request.audio) < 19000 else "the cat sat")


def test_names_of_others_cannot_leave_their_place(site: Site) -> None:
    folder = hostile(site)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert MARKUP not in page
    assert "<img src=x" not in page
    assert 'onerror="' not in page
    assert page.count("<script") == page.count("</script>")
    rows = rows_of(page)
    assert [row["id"] for row in rows] == [f"{row} {name}" for row, name in enumerate(NAMES)]
    for row, name in zip(rows, NAMES, strict=True):
        assert row["link"] == (site.wavs / name).as_uri()
    assert rows[5]["link"].endswith("/%2500%252e%252e%252f%23part%3Fquery%3D1%26a%3Db.wav")


@pytest.mark.slow
@pytest.mark.parametrize("embed", ["900", "0"], ids=["embedded", "linked"])
def test_clips_of_hostile_names_open_and_play(site: Site, browser: Any, embed: str) -> None:
    folder = hostile(site)
    assert report(folder, "--embed", embed).exit_code == 0
    trouble: list[str] = []
    page = opened(browser, folder / "report.html", trouble, viewport={"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    count = page.locator("#count")
    [speaker] = [each for each in page.locator("#filter option").all() if "speaker kim" in (each.text_content() or "")]
    page.select_option("#filter", speaker.get_attribute("value"))
    assert count.text_content() == f"3 of {len(NAMES)} clips"
    page.select_option("#filter", "")
    for row, name in enumerate(NAMES):
        page.locator(f'button.open[data-row="{row + 1}"]').click()
        assert page.locator("#clip-title").evaluate("title => title.textContent") == f"{row} {name}"
        if embed == "0":
            page.wait_for_selector("dialog audio")
            seconds = page.locator("dialog audio").evaluate(
                "audio => new Promise((told) => { audio.onloadedmetadata = () => told(audio.duration);"
                " audio.onerror = () => told(-1); audio.load(); })"
            )
            assert seconds == pytest.approx(1 + row / 16, abs=0.01), name
        else:
            page.wait_for_selector(".player[data-ready]")
        page.keyboard.press("Escape")
    assert page.locator("script").count() == page.evaluate("document.scripts.length")
    assert page.title().endswith(": report")
    assert axe(page) == []
    assert trouble == []


def efficiency_of(folder: Path) -> dict[str, Any]:
    """An efficiency.json as `--efficiency --protocol challenge` writes it, of a run's model."""
    spread = {"median": 0.0141, "lowest": 0.0123, "highest": 0.0157, "rounds": [0.0123, 0.0141, 0.0157]}
    components = {
        name: {
            "seconds": spread | {"median": 0.002 * (place + 1)},
            "weights_bytes": (place % 6) << 20,
            "activations_bytes": 3 << 30,
        }
        for place, name in enumerate(("features", "whisper", "beats", "qformer", "projection", "prompt", "step"))
    }
    figures = {f"challenge_{name}_seconds": spread for name in ("ttft", "tpot", "latency")}
    memory = {"median": 550141952.0, "lowest": 550141952.0, "highest": 550141952.0, "rounds": [550141952.0]}
    return {
        "config": json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"],
        "protocol": {"name": "challenge", "clip": "10 s of noise, alone"},
        "settings": {"device": "cpu"},
        "figures": figures | {"challenge_memory_bytes": memory},
        "components": components,
        "notes": ["The machine was busy.", MARKUP],
    }


def test_measured_efficiency_is_told_by_component(site: Site) -> None:
    folder = twice(site, "aac")
    assert "Efficiency, measured apart" not in (folder / "report.html").read_text(encoding="utf-8")
    file = site.results / "efficiency_results" / "2026-01-31_09-05-00_efficiency" / "efficiency.json"
    file.parent.mkdir(parents=True)
    told = efficiency_of(folder)
    file.write_text(json.dumps(told), encoding="utf-8")
    assert report(folder).exit_code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    for part in (
        *("10 s of noise, alone, cpu", "14.1 ms", "12.3 ms to 15.7 ms", "0.51 GiB", "The machine was busy."),
        *("Time by component", "whisper <b>4 ms</b>", "Weights", "qformer <b>3 MiB</b>", "step <b>3.00 GiB</b>"),
    ):
        assert part in page, part
    assert MARKUP not in page
    # Memory does not spread here, and is told once.
    assert "0.51 GiB to" not in page
    told["config"]["model"]["layers"] = 4
    file.write_text(json.dumps(told), encoding="utf-8")
    assert report(folder).exit_code == 0
    assert "Efficiency, measured apart" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("wide", [1440, 390])
@pytest.mark.parametrize("task", SETS)
def test_the_page_of_every_task_works_from_disk(site: Site, browser: Any, task: str, wide: int, scheme: str) -> None:
    folder = twice(site, task)
    (folder / "efficiency.json").write_text(json.dumps(efficiency_of(folder)), encoding="utf-8")
    assert report(folder).exit_code == 0
    trouble: list[str] = []
    page = opened(
        browser, folder / "report.html", trouble, color_scheme=scheme, viewport={"width": wide, "height": 900}
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= wide
    assert page.locator("#count").text_content() == "5 of 5 clips"
    # A column's title is not cut.
    cut = "titles => titles.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.textContent)"
    assert page.locator(".tabulator-col-title").evaluate_all(cut) == []
    assert axe(page) == []
    page.locator('button.open[data-row="4"]').click()
    page.wait_for_selector(".player[data-ready]")
    said = page.locator("dialog").inner_text()
    assert SETS[task][3] in said
    assert ("(B) dog" in said) == (task == "qa")
    assert axe(page) == []
    assert trouble == []
