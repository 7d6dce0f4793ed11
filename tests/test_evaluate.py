"""Tests of evaluator/evaluate.py and evaluator/preflight.py: whole runs with a model that has no weights."""

import csv
import errno
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_model import EchoLM, FakeProvider, Reply
from fake_site import WORDS, Site, make_site

from evaluator import evaluate as module
from evaluator.annotation.file import Row, read_rows
from evaluator.audio.loading import AudioFacts, check_audio
from evaluator.config.config import load_config
from evaluator.errors import (
    AnnotationError,
    AudioLMError,
    ConfigError,
    JournalError,
    MetricUnavailableError,
    ModelLoadError,
    ResultError,
)
from evaluator.evaluate import evaluate, make_run_paths
from evaluator.files import replacing
from evaluator.model import Request
from evaluator.report.summary import summarize
from evaluator.run.journal import read_journal
from evaluator.run.record import EvaluationResult
from evaluator.submission.submission import check_submission
from evaluator.tasks import Mode, task_of


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return make_site(tmp_path)


def said(texts: Sequence[str]) -> EchoLM:
    """A model that says these texts, row by row."""
    return EchoLM(say=lambda request: texts[request.index])


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def facts_of(result: EvaluationResult) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((result.folder / "run.json").read_text())
    return facts


@pytest.mark.parametrize("mode", ["submission_asr", "submission_aac", "valid_asr"])
def test_layout(site: Site, mode: Mode) -> None:
    result = evaluate(FakeProvider(model=said(["The CAT\nsat", *WORDS[1:]])), site.load(), mode)
    parent = site.results / ("valid_results" if mode == "valid_asr" else "submission_results")
    assert result.csv_path.parent == parent
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d_{mode}\.csv", result.csv_path.name)
    assert result.folder == result.csv_path.with_suffix("")
    expected = {"predictions.jsonl", "run.json"} | ({"scores.json", "report.html"} if mode == "valid_asr" else set())
    assert {path.name for path in result.folder.iterdir()} == expected
    assert {path.name for path in parent.iterdir()} == {result.csv_path.name, result.folder.name}
    assert rows_of(result.csv_path)[:2] == [["testset_id", "text"], ["test0000", "the cat sat"]]
    assert check_submission(result.csv_path).valid
    records = read_journal(result.folder / "predictions.jsonl")
    # The model answers in another order; the file of a whole run is in the annotation's.
    assert [record.text for record in records] == ["The CAT\nsat", *WORDS[1:]]
    assert [record.path for record in records] == [str(site.wavs / f"clip{index}.wav") for index in range(5)]
    assert [record.reference for record in records] == (WORDS if mode == "valid_asr" else [None] * 5)


def test_counts(site: Site) -> None:
    soundfile.write(site.wavs / "clip0.wav", np.full(31 * 16000, 0.1), 16000)
    (site.wavs / "clip1.wav").write_text("not audio")

    def replies(requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            text = " " if request.index == 2 else "x"
            yield Reply(request.index, text, 1, "length" if request.index == 3 else "stop")

    model = EchoLM()
    model.generate = replies  # type: ignore[method-assign,assignment]
    result = evaluate(FakeProvider(model=model), site.load("run.on_audio_error=record"), "submission_asr")
    counts = {"rows": 5, "failed": 1, "empty": 1, "cut": 1, "hit_max_length": 1, "refused": 0}
    assert facts_of(result)["counts"] == counts
    assert {name: getattr(result.counts, name) for name in counts} == counts
    assert [failure.id for failure in result.failures] == ["test0001"]
    assert "clip1.wav" in result.failures[0].reason
    assert result.exit_code == 1
    assert [row[1] for row in rows_of(result.csv_path)[1:]] == ["x", ".", ".", "x", "x"]
    assert any("test0001" in notice for notice in result.notices)
    assert any("test0000" in notice and "30 s" in notice for notice in result.notices)


def test_failed_row_scores_as_wholly_wrong(site: Site) -> None:
    (site.wavs / "clip1.wav").write_text("not audio")
    result = evaluate(FakeProvider(model=said(WORDS)), site.load("run.on_audio_error=record"), "valid_asr")
    assert result.scores is not None
    words = sum(len(text.split()) for text in WORDS)
    [wer] = [metric for metric in result.scores.metrics if metric.name == "wer"]
    assert wer.value == pytest.approx(3 / words)


def test_run_json_says_what_was_run(site: Site) -> None:
    result = evaluate(FakeProvider(), site.load("generate.num_beams=2"), "valid_asr")
    facts = facts_of(result)
    assert (facts["status"], facts["reason"], facts["mode"], facts["model"]) == (
        "finished",
        None,
        "valid_asr",
        "fakelm",
    )
    assert facts["config"]["generate"]["num_beams"] == 2
    assert facts["checkpoint"]["sha256"] == sha(b"weights")
    assert facts["annotation"]["sha256"] == sha((site.folder / "asr.json").read_bytes())
    assert facts["csv"]["sha256"] == sha(result.csv_path.read_bytes())
    assert list(facts["seconds"]) == ["preflight", "load_model", "predict", "write_csv", "score", "latency"]
    assert facts["audio_seconds"] == pytest.approx(sum(1 + index / 16 for index in range(5)))
    assert facts["rtfx"] == pytest.approx(facts["audio_seconds"] / facts["seconds"]["predict"], rel=0.01)
    assert facts["peak_memory_bytes"]["process_since_start"] > 10_000_000
    assert facts["peak_memory_bytes"]["device_since_start"] is None
    assert facts["versions"]["python"].startswith("3.")
    assert "numpy" in facts["versions"]
    assert datetime.fromisoformat(facts["started"]) <= datetime.fromisoformat(facts["ended"])


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_device_memory_comes_from_the_model(site: Site) -> None:
    model = EchoLM()
    model.peak_memory = lambda: 3 << 30  # type: ignore[attr-defined]
    result = evaluate(FakeProvider(model=model), site.load(), "submission_asr")
    assert result.peak_memory.device_since_start == 3 << 30


def test_model_package_gets_the_config_and_the_device(site: Site) -> None:
    provider = FakeProvider()
    site.change({"model": {"token": "some-secret"}})
    evaluate(provider, site.load(), "submission_asr")
    [(config, device)] = provider.loads
    assert device == "cpu"
    assert set(config) == {"model", "generate", "datasets", "run"}
    assert config["model"] == {"ckpt": str(site.folder / "ckpt.pth"), "layers": 3, "token": "some-secret"}


def test_every_problem_before_the_model_loads(site: Site) -> None:
    site.write_annotation(
        [
            {"testset_id": "test0000", "path": "clip0.wav", "task": "asr"},
            {"testset_id": "test0001", "path": "none.wav", "task": "asr", "text": "a"},
            {"testset_id": "test0002", "path": "clip2.wav", "task": "asr", "text": "a"},
            {"testset_id": "test0003", "path": "clip3.wav", "task": "asd", "text": "a"},
        ]
    )
    (site.wavs / "clip2.wav").write_text("not audio")
    site.results.write_text("a file where the folder should be")
    provider = FakeProvider()
    with pytest.raises(AnnotationError) as caught:
        evaluate(provider, site.load(), "valid_asr")
    told = str(caught.value)
    for piece in ("text", "none.wav", "clip2.wav", "asd", "run.output_dir", "--output-dir"):
        assert piece in told
    assert provider.loads == []


def test_unwritable_output_folder_alone(site: Site) -> None:
    site.results.write_text("a file")
    with pytest.raises(ConfigError, match=r"config\.yaml:\d+.*cannot be written"):
        evaluate(FakeProvider(), site.load(), "valid_asr")


def test_unknown_metrics_are_located_before_the_model_loads(site: Site) -> None:
    site.change({"scoring": {"metrics": ["wer", "cidr_d"]}})
    provider = FakeProvider()
    with pytest.raises(ConfigError, match=r"config\.yaml:\d+: scoring\.metrics: .*cidr_d.*cider_d"):
        evaluate(provider, site.load(), "valid_asr")
    assert provider.loads == []


def test_each_header_is_read_once_and_in_threads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"testset_id": f"test{n:04d}", "path": f"clip{n % 2}.wav", "task": "asr"} for n in range(6)]
    site.write_annotation(rows)
    read = []

    def watched(path: Path) -> AudioFacts:
        read.append((path.name, threading.current_thread() is threading.main_thread()))
        return check_audio(path)

    monkeypatch.setattr("evaluator.annotation.clip_headers.check_audio", watched)
    evaluate(FakeProvider(), site.load(), "submission_asr")
    assert sorted(read) == [("clip0.wav", False), ("clip1.wav", False)]


def test_the_annotation_is_read_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def watched(path: Path) -> list[Row]:
        asked.append(path)
        return read_rows(path)

    monkeypatch.setattr("evaluator.annotation.annotation.read_rows", watched)
    evaluate(FakeProvider(), site.load(), "submission_asr", limit=2)
    assert asked == [site.folder / "asr.json"]


def test_unknown_tasks_of_the_model(site: Site) -> None:
    with pytest.raises(AnnotationError, match="asr"):
        evaluate(FakeProvider(labels={"gender": False}), site.load(), "submission_asr")


def test_model_package_without_the_optional_functions(site: Site) -> None:
    class Bare:
        def load_model(self, config: Mapping[str, Any], device: str) -> EchoLM:
            return EchoLM()

    result = evaluate(Bare(), site.load(), "submission_aac")
    assert (result.model, result.counts.rows) == ("Bare", 5)


def test_model_package_that_cannot_list_its_tasks(site: Site) -> None:
    class Broken(FakeProvider):
        def tasks(self, config: Mapping[str, Any]) -> Mapping[str, bool]:
            raise LookupError("prompts.json lacks asr")

    with pytest.raises(ConfigError, match=r"cannot list its tasks: .*prompts\.json lacks asr"):
        evaluate(Broken(), site.load(), "submission_asr")


@pytest.mark.parametrize("model", [OSError("no such file"), ZeroDivisionError("bug")])
def test_model_that_does_not_load(site: Site, model: Exception) -> None:
    with pytest.raises(ModelLoadError, match=type(model).__name__) as caught:
        evaluate(FakeProvider(model=model), site.load(), "valid_asr")
    assert caught.value.__cause__ is model
    assert not (site.results / "valid_results").exists()


def test_load_model_that_returns_no_model(site: Site) -> None:
    with pytest.raises(ModelLoadError, match=r"fakelm\.load_model returned str"):
        evaluate(FakeProvider(model="a model"), site.load(), "valid_asr")


def test_model_that_fails_in_the_middle_keeps_its_answers(site: Site) -> None:
    with pytest.raises(RuntimeError, match="fell over"):
        evaluate(FakeProvider(model=EchoLM(batch_size=2, fail_after=3)), site.load(), "valid_asr")
    [folder] = (site.results / "valid_results").iterdir()
    assert [record.index for record in read_journal(folder / "predictions.jsonl")] == [1, 0, 3]
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["status"], facts["stage"]) == ("failed", "predict")
    assert facts["reason"] == "RuntimeError: the model fell over"


@pytest.mark.parametrize("error", [MetricUnavailableError("no Java"), RuntimeError("bug")])
def test_scoring_that_fails_costs_nothing_else(site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*args: object) -> None:
        [path] = (site.results / "valid_results").glob("*.csv")  # the CSV exists before scoring starts
        assert len(rows_of(path)) == 6
        raise error

    monkeypatch.setattr(module, "score_set", broken)
    if isinstance(error, AudioLMError):
        result = evaluate(FakeProvider(), site.load(), "valid_asr")
        assert (result.exit_code, result.scores, result.scoring_error) == (1, None, "no Java")
    else:
        with pytest.raises(RuntimeError):
            evaluate(FakeProvider(), site.load(), "valid_asr")
    [path] = (site.results / "valid_results").glob("*.csv")
    facts = json.loads((path.with_suffix("") / "run.json").read_text())
    assert facts["status"] == "failed"
    assert str(error) in facts["reason"]
    assert facts["counts"]["rows"] == 5
    assert len(read_journal(path.with_suffix("") / "predictions.jsonl")) == 5


def test_progress_counts_to_the_end(site: Site) -> None:
    seen: list[tuple[int, ...]] = []
    (site.wavs / "clip1.wav").write_bytes(b"RIFF, and no sound")
    config = site.load("run.on_audio_error=record")
    evaluate(FakeProvider(), config, "submission_asr", progress=lambda *count: seen.append(count))
    assert [count[:2] for count in seen] == [(done, 5) for done in range(1, 6)]
    assert seen[-1] == (5, 5, 1)


def interrupted(site: Site, provider: FakeProvider) -> Path:
    """A run that ended after one answer; its folder."""
    provider.model.fail_after = 1
    with pytest.raises(RuntimeError, match="fell over"):
        evaluate(provider, site.load(), "submission_asr")
    provider.model.fail_after = None
    [folder] = (site.results / "submission_results").glob("*")
    return folder


def test_the_settings_that_keep_a_run_from_going_on_are_named(site: Site) -> None:
    folder = interrupted(site, FakeProvider())
    other = site.load("generate.num_beams=1", "run.seed=7", "run.num_workers=1", "scoring.protocol=basic")
    with pytest.raises(JournalError) as refused:
        evaluate(FakeProvider(), other, "submission_asr", resume=str(folder))
    told = str(refused.value)
    assert "configuration differ(s) from then, and answers of two kinds would be mixed. " in told
    assert "run.seed was 42 and is 7" in told
    assert re.search(r"generate\.num_beams was \S+ and is 1[.,]", told)
    assert "num_workers" not in told, "what may change does not keep it"
    assert "protocol" not in told


def test_a_run_whose_files_have_changed_under_their_names_is_not_gone_on_with(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    provider = FakeProvider(digests={"model.prompts": "a", "model.layers": "", "model.adapter": "b"})
    folder = interrupted(site, provider)
    provider.digests = {"model.prompts": "changed", "model.layers": "fetched since", "model.voice": "c"}
    changed = r"cannot be resumed: model\.prompts, model\.voice, model\.adapter differ\(s\) from then"
    with pytest.raises(JournalError, match=changed):
        evaluate(provider, site.load(), "submission_asr", resume=str(folder))
    with caplog.at_level("INFO"):
        anew = evaluate(provider, site.load(), "submission_asr", resume="auto")
    assert anew.folder != folder
    assert "stays as it is: model.prompts, model.voice, model.adapter differ(s)" in caplog.text
    provider.digests = {"model.prompts": "a", "model.layers": "fetched since", "model.adapter": "b"}
    assert evaluate(provider, site.load(), "submission_asr", resume=str(folder)).folder == folder


def test_files_of_the_model_are_reported_with_annotation_and_audio(site: Site) -> None:
    (site.wavs / "clip1.wav").unlink()
    provider = FakeProvider(parts=[("model.layers", "is 3, and the file has 4")])
    with pytest.raises(AudioLMError) as caught:
        evaluate(provider, site.load(), "submission_asr")
    told = str(caught.value)
    assert "clip1.wav" in told
    assert f"{site.load().locate('model.layers')}: model.layers: is 3, and the file has 4" in told
    assert provider.loads == []


def test_tasks_that_cannot_be_listed_are_reported_with_the_rest(site: Site) -> None:
    provider = FakeProvider(parts=[("model.layers", "is 3, and the file has 4")], labels=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        evaluate(provider, site.load(), "submission_asr")
    assert "The model package cannot list its tasks: it returned None" in str(caught.value)
    assert "model.layers: is 3, and the file has 4" in str(caught.value)


def test_a_missing_annotation_is_reported_with_the_rest(site: Site) -> None:
    site.change({"datasets": {"test_ann_path_asr": "path/to/asr.json", "prefix": "path/to/audio"}})
    provider = FakeProvider(parts=[("model.layers", "is 3, and the file has 4")])
    with pytest.raises(ConfigError) as caught:
        evaluate(provider, site.load(), "submission_asr")
    keys = [problem.where.rpartition(" ")[2] for problem in caught.value.problems]
    assert keys == ["datasets.test_ann_path_asr", "datasets.prefix", "model.layers"]
    with pytest.raises(ConfigError) as caught:
        load_config(site.config, ["run.batch_size_eval=x"], task=task_of("valid_asr"))
    assert [problem.where.rpartition(" ")[2] for problem in caught.value.problems] == [
        *("run.batch_size_eval", "datasets.test_ann_path_asr", "datasets.prefix"),
    ]


def test_a_whole_run_is_scored_anew_where_its_model_is_not(site: Site) -> None:
    provider = FakeProvider()
    whole = evaluate(provider, site.load(), "submission_asr")
    gone = FakeProvider(parts=[("model.ckpt", "does not exist")])
    assert evaluate(gone, site.load(), "submission_asr", resume=str(whole.folder)).folder == whole.folder
    with pytest.raises(ConfigError, match=r"The model cannot be loaded(.|\n)*model\.ckpt: does not exist"):
        evaluate(gone, site.load(), "submission_asr", resume="auto")


class _Unmeasured(EchoLM):
    """Its figures cannot be had."""

    def peak_memory(self) -> int:
        raise OSError("no driver")

    def probe(self) -> object:
        raise AttributeError("no probe")


def test_a_figure_that_fails_costs_no_run(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    result = evaluate(FakeProvider(_Unmeasured()), site.load(), "submission_asr")
    assert result.counts.rows == 5
    assert result.exit_code == 0
    assert "The model's peak_memory failed and is left out: OSError: no driver" in caplog.text
    assert "The model's probe failed and is left out: AttributeError: no probe" in caplog.text


def test_what_the_package_wants_known_is_said_and_recorded(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.change({"model": {"ckpt": "none"}})
    provider = FakeProvider(known=[("model.ckpt", "is none: it is untrained")])
    result = evaluate(provider, site.load(), "submission_asr")
    line = f"{site.load().locate('model.ckpt')}: model.ckpt is none: it is untrained."
    assert line in caplog.text
    assert line in result.notices
    facts = json.loads((result.folder / "run.json").read_text())
    assert line in facts["notices"]
    assert any("UNTRAINED (checkpoint none)" in told for told in summarize(result))


@pytest.mark.parametrize("mode", ["valid_asr", "submission_asr"])
def test_a_limit_runs_the_first_rows_and_says_so(site: Site, mode: Mode) -> None:
    (site.wavs / "clip4.wav").write_text("not audio, and not looked at")
    result = evaluate(FakeProvider(model=said(WORDS)), site.load(), mode, limit=2)
    assert (result.counts.rows, result.all_rows) == (2, 5)
    assert re.fullmatch(rf"[-_0-9]*_{mode}_first2", result.folder.name)
    assert [row[0] for row in rows_of(result.csv_path)] == ["testset_id", "test0000", "test0001"]
    facts = facts_of(result)
    assert (facts["limit"], facts["identity"]["limit"], facts["status"]) == (2, "2", "finished")
    told = "scores of a part do not compare" if mode == "valid_asr" else "the CSV is a try and no submission"
    assert any("first 2 of 5 rows" in notice and told in notice for notice in result.notices)
    report = check_submission(result.csv_path, annotation=site.folder / "asr.json")
    assert {finding.code for finding in report.errors} == {"E403"}


def test_a_part_and_a_whole_run_are_never_mixed(site: Site) -> None:
    part = evaluate(FakeProvider(), site.load(), "valid_asr", limit=2)
    for limit in (None, 3):
        with pytest.raises(JournalError, match=r"limit differ\(s\)"):
            evaluate(FakeProvider(), site.load(), "valid_asr", limit=limit, resume=str(part.folder))
    again = evaluate(FakeProvider(), site.load(), "valid_asr", limit=2, resume=str(part.folder))
    assert again.folder == part.folder
    whole = evaluate(FakeProvider(), site.load(), "valid_asr", limit=5)
    assert (whole.all_rows, facts_of(whole)["limit"], "limit" in facts_of(whole)["identity"]) == (None, None, False)
    assert "first" not in whole.folder.name


class Full:
    """A disk that is full for some of the files that run.json and scores.json are written to."""

    def __init__(self, name: str, after: int) -> None:
        self.name = name
        self.left = after

    def __call__(self, path: Path) -> Any:
        if path.name == self.name:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return replacing(path)


@pytest.mark.parametrize("after", [1, 2])
def test_a_full_disk_at_the_end_is_a_sentence(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    """run.json is written at the start, at the end, and with the latency."""
    monkeypatch.setattr("evaluator.files.replacing", Full("run.json", after))
    result = evaluate(FakeProvider(model=said(WORDS)), site.load(), "valid_asr")
    assert result.scores is not None
    assert check_submission(result.csv_path, require_ids=False).valid
    assert result.exit_code == 1
    told = f"Cannot write {result.folder / 'run.json'}: No space left on device."
    assert result.record_error == told
    assert any(record.message.startswith(told) for record in caplog.records)
    assert any("No space left" in " ".join(line.split()) for line in summarize(result))
    monkeypatch.undo()
    again = evaluate(FakeProvider(), site.load(), "valid_asr", resume=str(result.folder))
    assert (again.exit_code, facts_of(again)["status"]) == (0, "finished")


@pytest.mark.parametrize(
    ("name", "writer"), [("run.json", "evaluator.files"), ("scores.json", "evaluator.report.summary")]
)
def test_a_full_disk_before_is_a_sentence(site: Site, monkeypatch: pytest.MonkeyPatch, name: str, writer: str) -> None:
    monkeypatch.setattr(f"{writer}.replacing", Full(name, 0))
    with pytest.raises(ResultError, match=r"Cannot write .*No space left on device\.$"):
        evaluate(FakeProvider(model=said(WORDS)), site.load(), "valid_asr")


def test_a_full_disk_hides_no_other_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.files.replacing", Full("run.json", 1))
    with pytest.raises(RuntimeError, match="fell over"):
        evaluate(FakeProvider(model=EchoLM(batch_size=2, fail_after=3)), site.load(), "valid_asr")


def test_two_runs_of_one_second(tmp_path: Path) -> None:
    moment = datetime(2025, 1, 31, 9, 5, tzinfo=timezone.utc)
    names = [make_run_paths(tmp_path, "valid_asr", moment).csv.name for _ in range(3)]
    stem = "2025-01-31_09-05-00_valid_asr"
    assert names == [f"{stem}.csv", f"{stem}-2.csv", f"{stem}-3.csv"]


def test_valid_modes_take_repeated_and_free_ids(site: Site) -> None:
    site.write_annotation(
        [{"testset_id": "same", "path": f"clip{index}.wav", "task": "asr", "text": WORDS[index]} for index in range(3)]
    )
    result = evaluate(FakeProvider(model=said(WORDS)), site.load(), "valid_asr")
    assert [row[0] for row in rows_of(result.csv_path)] == ["testset_id", "same", "same", "same"]
    assert [row[1] for row in rows_of(result.csv_path)[1:]] == WORDS[:3]


@pytest.mark.slow
def test_captions_are_scored(site: Site) -> None:
    result = evaluate(FakeProvider(model=said(WORDS)), site.load(), "valid_aac")
    assert result.scoring_error is None
    assert result.scores is not None
    values = {metric.name: metric.value for metric in result.scores.metrics}
    # Three words have no sequence of four, so that even equal captions stay below 10.
    assert values["cider_d"] == pytest.approx(7.0)
    written = json.loads((result.folder / "scores.json").read_text())
    assert {metric["name"]: metric["value"] for metric in written["metrics"]} == values
