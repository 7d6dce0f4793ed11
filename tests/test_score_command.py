"""Tests of `audiolm-evaluator score`: every kind of file gives a run's scores, what does not fit is named, no torch."""

import json
import os
import site
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site

from evaluator.annotation.annotation import read_annotation
from evaluator.cli import main
from evaluator.evaluate import evaluate
from evaluator.run.journal import read_journal, write_lines
from evaluator.scoring.protocols.explain import explain
from evaluator.scoring.protocols.signature import parse_signature

ROOT = Path(__file__).resolve().parents[1]
SAID = ["The CAT\nsat, sir", "", "rain, is falling", "bird sings", "a door opens"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("AAC_METRICS_CACHE_PATH", raising=False)
    return make_site(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, arguments)])


def asr(place: Site, file: Path, *arguments: object) -> Result:
    return run("--annotation", place.folder / "asr.json", "--predictions", file, *arguments)


def written(folder: Path, name: str, rows: Sequence[tuple[str, str]]) -> Path:
    """A file of answers of the kind that its name says."""
    path = folder / name
    objects = [{"testset_id": key, "text": text} for key, text in rows]
    if path.suffix == ".csv":
        cells = [(key, '"' + text.replace('"', '""') + '"') for key, text in rows]
        path.write_text("testset_id,text\n" + "".join(f"{key},{text}\n" for key, text in cells))
    elif path.suffix == ".json":
        path.write_text(json.dumps(objects))
    else:
        path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects))
    return path


def answers(texts: Sequence[str] = SAID) -> list[tuple[str, str]]:
    return [(f"test{number:04d}", text) for number, text in enumerate(texts)]


@pytest.mark.parametrize("protocol", ["challenge", "basic"])
def test_every_kind_of_file_scores_as_the_run(place: Site, protocol: str) -> None:
    place.change({"scoring": {"protocol": protocol}})
    result = evaluate(FakeProvider(model=EchoLM(say=lambda request: SAID[request.index])), place.load(), "valid_asr")
    expected = json.loads((result.folder / "scores.json").read_text())
    assert expected["metrics"][0]["value"] > 0
    rows = answers()
    files = [
        result.folder,
        result.folder / "predictions.jsonl",
        written(place.folder, "a.csv", rows),
        written(place.folder, "a.jsonl", rows[::-1]),
        written(place.folder, "a.json", rows),
    ]
    for file in files:
        done = asr(place, file, "--protocol", protocol, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == expected, file
    # The run's CSV has "." for the empty answer and everything in lower case.
    own = json.loads(asr(place, result.csv_path, "--protocol", protocol, "--json").stdout)
    assert own["metrics"] == expected["metrics"]
    folder = place.folder / "new" / "scores"
    assert asr(place, files[2], "--protocol", protocol, "--output-dir", folder).exit_code == 0
    assert (folder / "scores.json").read_bytes() == (result.folder / "scores.json").read_bytes()


def test_captions_score_as_the_run(place: Site) -> None:
    result = evaluate(FakeProvider(model=EchoLM(say=lambda request: SAID[request.index])), place.load(), "valid_aac")
    expected = json.loads((result.folder / "scores.json").read_text())
    given = ("--annotation", place.folder / "aac.json", "--predictions", written(place.folder, "a.csv", answers()))
    assert json.loads(run(*given, "--json").stdout) == expected
    assert {metric["name"]: metric["value"] for metric in expected["metrics"]}["cider_d"] > 0
    told = run(*given, "--task", "aac").stdout
    assert "CIDEr-D" in told
    assert "protocol:challenge|tok:ptb|" in told


def test_a_clip_that_failed_is_told_and_empty(place: Site) -> None:
    result = evaluate(FakeProvider(model=EchoLM(say=lambda request: SAID[request.index])), place.load(), "valid_asr")
    path = result.folder / "predictions.jsonl"
    first, *others = read_journal(path)
    write_lines(path, [replace(first, text="", finish_reason="error", error="broken"), *others])
    done = asr(place, result.folder)
    assert "Note: 1 clip(s) failed in the run and score as an empty text: test0000." in done.stderr
    assert "empty           2" in done.stdout


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_what_does_not_fit_is_one_report(place: Site, name: str) -> None:
    rows = [*answers()[:3], ("test0002", "again"), ("test0009", "x"), ("test0008", "y")]
    done = asr(place, written(place.folder, name, rows))
    assert (done.exit_code, done.stdout) == (3, "")
    # The first text of the CSV has a line break.
    unit, shift = {"a.csv": ("line", 2), "a.jsonl": ("line", 0), "a.json": ("item", 0)}[name]
    assert done.stderr.splitlines()[1:] == [
        "  clips without an answer: 2: test0003, test0004",
        f"  answers for no clip of the annotation: 2: test0009 ({unit} {5 + shift}), test0008 ({unit} {6 + shift})",
        f"  clips with more answers than one: 1: test0002 ({unit} {3 + shift}, {unit} {4 + shift})",
    ]


BROKEN = [
    ("a.csv", b"id,text\ntest0000,a\n", "expected testset_id,text, found 'id,text'"),
    ("a.csv", b"testset_id,text\ntest0000,a,b\n", "E303 line 2: Wrong number of columns: expected 2, found 3"),
    ("a.csv", b'testset_id,text\ntest0000,"a\n', "E304 line 2: Broken quoting: a quotation mark is opened"),
    ("a.csv", b"testset_id,text\ntest0000,\xb0\xa1\n", "E203 line 2: Invalid UTF-8"),
    ("a.csv", b"", "E105 File empty: 0 bytes"),
    ("a.csv", b"PK\x03\x04", "E201 Wrong file format"),
    ("a.jsonl", b'{"testset_id": "test0000", "text": "a"}\n{"testset_id": 1, "text": "a"}\n{"text": "a"}\n{,}\n[]\n',
     "a.jsonl: line 2: testset_id: expected a text, found 1"),
    ("a.jsonl", b'{"testset_id": "test0000", "text": "a", "pred_text": "b"}\n', "it has text and pred_text: keep"),
    ("a.jsonl", b'{"testset_id": "a", "answer": "b"}\n', "text: the field is missing; the row has testset_id, answer"),
    ("a.jsonl", b'{"testset_id": "a", "text": null}\n', "text: expected a text, found None"),
    ("a.json", b'["a", {"id": "b", "text": "c"}]', "item 1: expected an object with testset_id and text, found 'a'"),
    ("a.json", b'{"metrics": [],\n "task": "asr"}', "one JSON object with metrics, task; expected an object a line"),
    ("a.csv", b"testset_id\ttext\ntest0000\ta\n", "found 'testset_id\\ttext'; the separator is a comma"),
    ("a.json", b"[1,\n2", "a.json:2: not valid JSON"),
    ("a.json", b'[{"a": "\xff"}]', "are not UTF-8 text"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_file_that_is_none_is_a_sentence(place: Site, name: str, content: bytes, message: str) -> None:
    file = place.folder / name
    file.write_bytes(content)
    done = asr(place, file)
    assert (done.exit_code, done.stdout) == (3, "")
    assert message in done.stderr
    if content.count(b"\n") == 5:
        assert [line.partition("a.jsonl: ")[2][:6] for line in done.stderr.splitlines()[1:]].count("line 4") == 1
        assert len(done.stderr.splitlines()) == 5


def test_files_that_are_not_there(place: Site) -> None:
    for file, message in (
        (place.folder / "none.csv", f"Error: The answers cannot be read: {place.folder / 'none.csv'} does not exist."),
        (place.wavs, "has no predictions.jsonl"),
    ):
        done = asr(place, file)
        assert done.exit_code == 3
        assert message in done.stderr
    file = written(place.folder, "a.csv", answers())
    assert run("--annotation", place.folder / "none.json", "--predictions", file).exit_code == 3
    assert "asr.json is the annotation itself" in asr(place, place.folder / "asr.json").stderr


def test_the_task_is_told_by_the_labels(place: Site) -> None:
    annotation = json.loads((place.folder / "asr.json").read_text())
    annotation["annotation"][0]["task"] = "audiocaption_v2"
    (place.folder / "both.json").write_text(json.dumps(annotation))
    file = written(place.folder, "a.csv", answers())
    done = run("--annotation", place.folder / "both.json", "--predictions", file)
    assert done.exit_code == 2
    assert "does not tell what to score (labels: asr, audiocaption_v2;" in done.stderr
    wrong = run("--annotation", place.folder / "both.json", "--predictions", file, "--task", "asr")
    assert wrong.exit_code == 3
    assert "row 1 (test0000): task: 'audiocaption_v2' is not scored by valid_asr, which takes \"asr\"" in wrong.stderr


def test_answers_to_questions_are_scored_as_they_were_asked(place: Site) -> None:
    """A letter means another choice where the run has shuffled them."""
    rows = [
        {"testset_id": f"q{number}", "path": "a.wav", "task": "QA", "Q": "What?", "choices": [*"wxyz"], "text": "w"}
        for number in range(8)
    ]
    annotation = place.folder / "qa.json"
    annotation.write_text(json.dumps(rows))
    samples = read_annotation(annotation, prefix="", mode="valid_qa", known_tasks={"QA": True}, shuffle=3).samples
    right = [(sample.id, f"({'ABCD'[sample.choices.index('w')]})") for sample in samples]
    file = written(place.folder, "a.csv", right)
    shuffled = run(
        "--annotation", annotation, "--predictions", file, "--options", "datasets.shuffle_choices=3", "--json"
    )
    [accuracy, _] = json.loads(shuffled.stdout)["metrics"]
    assert (accuracy["name"], accuracy["value"]) == ("accuracy", 1.0)
    plain = json.loads(run("--annotation", annotation, "--predictions", file, "--json").stdout)
    assert plain["metrics"][0]["value"] == sum(text == "(A)" for _, text in right) / 8 < 1
    for metric in json.loads(shuffled.stdout)["metrics"]:
        again = run("--annotation", annotation, "--predictions", file, "--signature", metric["signature"], "--json")
        assert [each["name"] for each in json.loads(again.stdout)["metrics"]] == [metric["name"]]


OTHER_TASKS = {
    "QA": [{"text": "dog", "Q": "What?", "choices": ["cat", "dog"]}, {"text": "cat", "Q": "What?"}],
    "emotion_recognition": [{"text": "happy"}, {"text": "sad"}],
    "translation_en2de": [{"text": "das ist ein altes Haus"}, {"text": "guten Morgen"}],
}


@pytest.mark.parametrize("label", OTHER_TASKS)
def test_every_score_of_every_task_is_signed_explained_and_replayed(place: Site, label: str) -> None:
    rows = [
        {"testset_id": f"k{number}", "path": "a.wav", "task": label, **row}
        for number, row in enumerate(OTHER_TASKS[label])
    ]
    annotation = place.folder / "other.json"
    annotation.write_text(json.dumps(rows))
    texts = ["das ist ein gutes Haus", "guten Morgen"] if label.startswith("translation") else ["happy", "cat"]
    file = written(place.folder, "a.csv", [(f"k{number}", text) for number, text in enumerate(texts)])
    options = ("--options", "scoring.bleu_tokenizer=char") if label.startswith("translation") else ()
    found = run("--annotation", annotation, "--predictions", file, *options, "--json")
    metrics = json.loads(found.stdout)["metrics"]
    assert len(metrics) == 2
    for metric in metrics:
        assert not any("not known" in line for line in explain(parse_signature(metric["signature"])))
        again = run("--annotation", annotation, "--predictions", file, "--signature", metric["signature"], "--json")
        replayed = {each["name"]: each for each in json.loads(again.stdout)["metrics"]}
        assert replayed[metric["name"]] == metric


def test_settings_are_a_files_or_options(place: Site) -> None:
    file = written(place.folder, "a.csv", answers())
    place.change({"scoring": {"protocol": "basic", "bootstrap_resamples": 50}})
    told = asr(place, file, "--cfg-path", place.config, "--options", "scoring.bootstrap_seed=4").stdout
    assert "protocol:basic|" in told
    assert "50 resamples, seed 4" in told
    line = next(line.strip() for line in told.splitlines() if "unit:word" in line)
    # A signature decides what it says, the settings everything else.
    again = asr(place, file, "--signature", line, "--options", "scoring.bootstrap_seed=9", "scoring.threads=1").stdout
    assert line in again
    for options, message in (
        (("scoring.metrics=[cer]",), ""),
        (("scoring.metric=[cer]",), 'scoring.metric: unknown key; did you mean "metrics"?'),
        (("run.device=cpu", "datasets.prefix=a"), "--options: run.device: answers that are on disk are scored by"),
        (("datasets.shuffle_choices=x",), "datasets.shuffle_choices: expected a whole number"),
        (("scoring.unit=speaker",), 'has the field "speaker"'),
    ):
        done = asr(place, file, "--options", *options)
        assert (done.exit_code == 0) == (not message), done.output
        assert message in done.stderr


def test_clips_of_one_id_take_answers_in_order(place: Site) -> None:
    rows = [
        {"testset_id": "same", "path": f"{number}.wav", "task": "asr", "text": text} for number, text in enumerate("ab")
    ]
    (place.folder / "asr.json").write_text(json.dumps(rows))
    right = asr(place, written(place.folder, "a.csv", [("same", "a"), ("same", "b")]))
    assert "0.00 %" in right.stdout
    assert "100.00 %" in asr(place, written(place.folder, "a.csv", [("same", "b"), ("same", "a")])).stdout
    assert "without an answer: 1: same" in asr(place, written(place.folder, "a.csv", [("same", "a")])).stderr


def test_a_signature_is_replayed(place: Site) -> None:
    file = written(place.folder, "a.csv", answers())
    scores = json.loads(asr(place, file, "--protocol", "basic", "--json").stdout)
    for metric in scores["metrics"]:
        again = json.loads(asr(place, file, "--signature", metric["signature"], "--json").stdout)
        assert again["metrics"] == [metric]
    line = scores["metrics"][0]["signature"]
    for changed, code, message in (
        (line.replace("jiwer:4", "jiwer:3"), 2, "jiwer: the signature has 3.0.0, installed is 4.0.0; pip install"),
        (line.replace("rows:5", "rows:9"), 2, "WER: rows is 5, not 9"),
        (line.replace("case:lower", "case:upper"), 2, "case: this version knows no case:upper"),
        ("nonsense", 2, "This is no signature of a score"),
    ):
        assert changed != line
        done = asr(place, file, "--signature", changed)
        assert (done.exit_code, done.stdout) == (code, "")
        assert message in done.stderr
    both = asr(place, file, "--signature", line, "--protocol", "basic")
    assert "--signature says the protocol: give it alone." in both.stderr


def test_a_protocol_that_does_not_fit_is_told(place: Site) -> None:
    file = written(place.folder, "a.csv", answers())
    assert "speech recognition has challenge, open-asr" in asr(place, file, "--protocol", "dcase").stderr
    korean = [{"testset_id": "a", "path": "a.wav", "task": "asr", "text": "(7시)/(일곱 시) 반"}]
    (place.folder / "asr.json").write_text(json.dumps(korean, ensure_ascii=False))
    file = written(place.folder, "a.csv", [("a", "일곱시 반")])
    assert "Take scoring.protocol: ko-cer" in asr(place, file).stderr
    refused = asr(place, file, "--protocol", "ko-cer")
    assert refused.exit_code == 3
    assert "scoring.dual_transcripts: spelling or phonetic" in refused.stderr
    spoken = asr(place, file, "--protocol", "ko-cer", "--options", "scoring.dual_transcripts=phonetic")
    assert "CER             0.00 %" in spoken.stdout


def without_torch(folder: Path) -> dict[str, str]:
    """An environment of the packages that are installed here, but for the libraries of models."""
    left_out = ("torch", "triton", "transformers", "peft", "accelerate", "__editable__", "salmonn")
    packages = folder / "packages"
    packages.mkdir()
    for origin in map(Path, site.getsitepackages()):
        for entry in origin.iterdir() if origin.is_dir() else ():
            if not entry.name.startswith(left_out):
                (packages / entry.name).symlink_to(entry)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)]), "CUDA_VISIBLE_DEVICES": ""}


def test_scores_need_no_torch(place: Site) -> None:
    """In an environment that has none, both tasks' numbers are those of this process, which may have one loaded."""
    code = (
        "import importlib.util, sys\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "from evaluator.cli import main\n"
        "sys.argv[0] = 'audiolm-evaluator'\n"
        "main()\n"
    )
    environment = without_torch(place.folder)
    file = written(place.folder, "a.csv", answers())
    for name, protocol in (("asr", "challenge"), ("asr", "open-asr"), ("aac", "challenge")):
        given = ["score", "--annotation", str(place.folder / f"{name}.json"), "--predictions", str(file), "--json"]
        done = subprocess.run(
            [sys.executable, "-S", "-c", code, *given, "--protocol", protocol],
            cwd=place.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "PyTorch" not in done.stderr
        found: Any = json.loads(done.stdout)
        assert found == json.loads(run(*given[1:], "--protocol", protocol).stdout)
        assert any(metric["value"] for metric in found["metrics"])


def test_the_order_of_answers_does_not_matter(place: Site) -> None:
    """In the annotation's order, in any other one, and with several clips of an id in theirs."""
    rows = [{"testset_id": name, "path": f"{name}.wav", "task": "asr", "text": text} for name, text in REPEATED]
    annotation = place.folder / "repeated.json"
    annotation.write_text(json.dumps(rows))
    told = []
    for order in ((0, 1, 2, 3), (2, 0, 1, 3), (3, 2, 0, 1)):
        answers = written(place.folder, "a.csv", [REPEATED[row] for row in order])
        found = json.loads(run("--annotation", annotation, "--predictions", answers, "--json").stdout)
        told.append(found["per_sample"]["word_edits"])
    assert told == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    turned = written(place.folder, "a.csv", [REPEATED[row] for row in (1, 0, 2, 3)])
    assert json.loads(run("--annotation", annotation, "--predictions", turned, "--json").stdout)["per_sample"][
        "word_edits"
    ] == [1, 1, 0, 0]


REPEATED = [("k", "one dog"), ("k", "one cat"), ("a", "birds"), ("b", "wind")]
