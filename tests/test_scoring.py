"""Tests of scoring a set: the original's numbers, names and protocols, and what is told when a score cannot be had."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluator.config.sections import ScoringConfig
from evaluator.errors import ConfigError, MetricUnavailableError
from evaluator.scoring import caption_scores
from evaluator.scoring.captioning import CaptionMetrics
from evaluator.scoring.result import MetricResult, Scores
from evaluator.scoring.scoring import metric_names, preflight, score
from evaluator.tasks import AAC, ASR

CANDIDATES = ["A dog barks twice", "rain falls on a tin roof", "people talk while music plays"]
REFERENCES = [
    ("Two dogs bark.", "A dog is barking twice."),
    ("Rain falls on a metal roof.", "It rains."),
    ("Music plays and people are talking.",),
]
LIBRARY_METRICS = ["cider_d", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"]


@pytest.fixture(autouse=True)
def _new_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without SPICE's files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("AAC_METRICS_CACHE_PATH", raising=False)
    monkeypatch.delenv("AAC_METRICS_JAVA_PATH", raising=False)


def metrics_of(scores: Scores) -> dict[str, MetricResult]:
    return {metric.name: metric for metric in scores.metrics}


def test_the_originals_word_error_rate(reference: Path) -> None:
    expected = json.loads((reference / "expected.json").read_text(encoding="utf-8"))["evaluator"]["valid_asr"]
    rows = json.loads((reference / "ann" / "test_asr.json").read_text(encoding="utf-8"))["annotation"]
    assert [row["testset_id"] for row in rows] == [row[0] for row in expected["rows"]]
    scores = score(ASR, [(row["text"],) for row in rows], [row[1] for row in expected["rows"]], ScoringConfig())
    wer = metrics_of(scores)["wer"]
    assert wer.value is not None
    assert f"WER: {wer.value:.4%}" == expected["printed"] == "WER: 221.3115%"
    assert wer.protocol.startswith("whisper-en + 13a")
    assert not wer.kind.higher_is_better
    words = scores.details["words"]
    assert words["substitutions"] + words["deletions"] + words["insertions"] == 135
    assert words["reference_length"] == 61
    assert sum(filter(None, scores.per_sample["word_edits"])) == 135
    assert sum(filter(None, scores.per_sample["reference_words"])) == 61


@pytest.mark.parametrize("unit", ["word", "character"])
def test_a_rate_is_made_of_its_evidence(unit: str) -> None:
    """Whoever draws rows anew computes the set's rate from the counts of the rows drawn."""
    references = ["a b c", "hello", "um", "d e f g"]
    scores = score(ASR, [(text,) for text in references], ["a x c", "", "y", "d e f g h"], ScoringConfig())
    [rate] = [metric for metric in scores.metrics if metric.kind.unit == unit]
    counts = rate.evidence
    assert set(counts) == {"hits", "substitutions", "deletions", "insertions"}
    assert {len(counts[name]) for name in counts} == {len(rate.rows)} == {4}
    edits = [sum(counts[name][row] for name in counts if name != "hits") for row in range(4)]
    lengths = [sum(counts[name][row] for name in counts if name != "insertions") for row in range(4)]
    assert rate.value == sum(edits) / sum(lengths)
    assert tuple(rate.rows) == tuple(e / n if n else None for e, n in zip(edits, lengths, strict=True))
    assert rate.totals.items() <= scores.details[f"{unit}s"].items()


def test_scores_json_says_the_same_of_every_metric() -> None:
    keys = [
        "name",
        "value",
        "scale",
        "protocol",
        "signature",
        "reason",
        "fix",
        "higher_is_better",
        "requested",
        "interval",
    ]
    for scores in (score(ASR, [("a",)], ["a"], ScoringConfig()), score(AAC, REFERENCES, CANDIDATES, ScoringConfig())):
        assert all(list(metric.facts()) == keys for metric in scores.metrics)
        assert all(scores.per_sample[metric.name] == metric.rows for metric in scores.metrics if metric.rows)


# (references, hypotheses, WER, CER)
TRANSCRIPTS = [
    (["hello world"], ["Hello, WORLD!"], 0.0, 0.0),
    (["it is 50%"], ["it's fifty"], 0.0, 0.0),
    (["a b", "c d"], ["a b", ""], 0.5, 0.5),
    (["um", "a b"], ["x", "a b"], 0.5, 1 / 3),
    (["안녕"], ["안념"], 1.0, 0.5),  # one of two syllables, not one of five letters
    (["がくせい", "ばす"], ["かくせい", "はす"], 0.0, 1 / 3),  # WER knows no voicing marks
    (["今天天气很好我们去公园"], ["今天天气很好，我们去公园。"], 2.0, 0.0),
    (["call me now", "hello there"], ["1" * 5000, "hello there"], 3 / 5, 5000 / 22),
    (["a b", "c"], ["\ud800 b", "c"], 1 / 3, 1 / 4),
]


@pytest.mark.parametrize(("references", "hypotheses", "wer", "cer"), TRANSCRIPTS)
def test_transcripts(references: list[str], hypotheses: list[str], wer: float, cer: float) -> None:
    scores = metrics_of(score(ASR, [(text,) for text in references], hypotheses, ScoringConfig()))
    assert [scores["wer"].value, scores["cer"].value] == [pytest.approx(wer), pytest.approx(cer)]


@pytest.mark.parametrize("references", [[""], ["um, uh"], ["", "..."]])
def test_references_without_words_are_nothing_to_divide_by(references: list[str]) -> None:
    scores = score(ASR, [(text,) for text in references], ["hello"] * len(references), ScoringConfig())
    wer = metrics_of(scores)["wer"]
    assert wer.value is None
    assert wer.reason == f"the references have no words; there are {len(references)} insertions"
    assert tuple(scores.per_sample["wer"]) == (None,) * len(references)
    assert scores.details["empty_references"] == len(references)


@pytest.mark.parametrize("task", [ASR, AAC])
def test_no_rows_are_no_score(task: Any) -> None:
    scores = score(task, [], [], ScoringConfig())
    assert scores.metrics
    assert {(metric.value, metric.reason) for metric in scores.metrics} == {(None, "there are no rows to score")}


@pytest.mark.parametrize(
    ("task", "references", "hypotheses", "message"),
    [
        (ASR, [("a",)], [], "1 rows of references, but 0 hypotheses"),
        (AAC, [], ["a"], "0 rows of references, but 1 hypotheses"),
        (ASR, [("a",), ("a", "b")], ["a", "a"], "row 2 has 2 references; speech recognition takes one"),
        (AAC, [("a",), ()], ["a", "a"], "row 2 has no reference"),
    ],
)
def test_rows_that_do_not_fit(task: Any, references: Any, hypotheses: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(task, references, hypotheses, ScoringConfig())


def test_without_spices_files_everything_else_is_scored() -> None:
    scores = score(AAC, REFERENCES, CANDIDATES, ScoringConfig())
    metrics = metrics_of(scores)
    assert list(metrics) == ["spider", "cider_d", "spice", *LIBRARY_METRICS[1:]]
    for name in ("spider", "spice"):
        assert metrics[name].value is None
        assert metrics[name].reason == "SPICE's two CoreNLP files are not installed"
        assert metrics[name].fix == "run once: audiolm-evaluator setup-metrics"
        assert name not in scores.per_sample
    for name in LIBRARY_METRICS:
        assert metrics[name].value is not None
        assert len(scores.per_sample[name]) == 3
    assert scores.missing() == ()  # nothing was asked for by name
    assert metrics["cider_d"].kind.scale == "0 to 10"
    assert "1-2 references a row" in metrics["cider_d"].protocol
    assert scores.details["references_per_row"] == {"fewest": 1, "most": 2}


def test_scoring_twice_gives_the_same_bytes() -> None:
    first, second = (score(AAC, REFERENCES, CANDIDATES, ScoringConfig()) for _ in range(2))
    assert repr(first) == repr(second)


def test_case_and_full_stops_change_nothing() -> None:
    loud = score(AAC, REFERENCES, [f"{text.upper()}." for text in CANDIDATES], ScoringConfig())
    assert loud.per_sample == score(AAC, REFERENCES, CANDIDATES, ScoringConfig()).per_sample


def test_an_empty_answer_never_raises_a_score() -> None:
    whole = score(AAC, REFERENCES, CANDIDATES, ScoringConfig())
    failed = score(AAC, REFERENCES, ["", *CANDIDATES[1:]], ScoringConfig())
    assert failed.details["empty_hypotheses"] == 1
    for name in LIBRARY_METRICS:
        assert (metrics_of(failed)[name].value or 0) <= (metrics_of(whole)[name].value or 0), name
    assert failed.per_sample["cider_d"][0] == 0


def test_one_caption_has_no_cider_d() -> None:
    metrics = metrics_of(score(AAC, REFERENCES[:1], CANDIDATES[:1], ScoringConfig()))
    assert metrics["cider_d"].value is None
    assert "at least 2 rows" in (metrics["cider_d"].reason or "")
    assert metrics["rouge_l"].value is not None


def test_identical_references_are_noted() -> None:
    scores = score(AAC, [("A dog barks.",), ("a dog barks",)], ["a dog barks", "a dog"], ScoringConfig())
    assert metrics_of(scores)["cider_d"].value == 0.0
    assert "all rows have the same references" in scores.details["notes"][0]


@pytest.mark.parametrize(
    ("task", "metrics", "meteor", "names"),
    [
        (ASR, None, True, ["wer", "cer"]),
        (ASR, ["wer"], False, ["wer"]),
        (ASR, ["spider"], False, ["wer", "cer"]),  # nothing of this task is named
        (AAC, ["rouge_l", "bleu_2"], False, ["bleu_2", "rouge_l"]),
    ],
)
def test_which_metrics(task: Any, metrics: list[str] | None, meteor: bool, names: list[str]) -> None:
    config = ScoringConfig(metrics=metrics, meteor=meteor)
    scores = score(task, [("a b",), ("c d",)], ["a b", "c"], config)
    assert [metric.name for metric in scores.metrics] == names
    assert {metric.name for metric in scores.metrics if metric.requested} == set(metrics or ()) & set(names)
    # Only what is wanted is there; the terms of the error rate come with it.
    assert set(scores.per_sample) - {"word_edits", "reference_words", "cer"} <= set(names)


def test_names_of_metrics() -> None:
    assert metric_names(ASR, ScoringConfig()) == ("wer", "cer")
    assert metric_names(ASR, ScoringConfig(protocol="ko-swer")) == ("swer",)
    assert "meteor" in metric_names(AAC, ScoringConfig())


def test_unknown_metrics_are_a_config_error() -> None:
    config = ScoringConfig(metrics=["cider", "wre", "wer"])
    for ask in (lambda: preflight(ASR, config), lambda: score(ASR, [("a",)], ["a"], config)):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert [problem.message for problem in caught.value.problems] == [
            '"cider" is no metric; did you mean "cider_d"?',
            '"wre" is no metric; did you mean "wer"?',
        ]


def test_what_was_asked_for_by_name_is_missed() -> None:
    scores = score(AAC, REFERENCES, CANDIDATES, ScoringConfig(metrics=["spider", "cider_d"]))
    assert [metric.name for metric in scores.missing()] == ["spider"]
    assert list(scores.per_sample) == ["cider_d"]


def test_without_java_nothing_but_the_reason() -> None:
    config = ScoringConfig(java_path="/nowhere/java")
    for metric in score(AAC, REFERENCES, CANDIDATES, config).metrics:
        assert metric.value is None
        assert "/nowhere/java" in (metric.reason or "")
    [notice] = preflight(AAC, config)
    assert notice.startswith("No caption metric will be available: scoring.java_path is /nowhere/java")


@pytest.mark.parametrize("error", [RuntimeError("JVM crash"), ZeroDivisionError("division"), OSError("disk")])
def test_a_failed_metric_never_costs_the_others(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(CaptionMetrics, "bleu", fail)
    monkeypatch.setattr(CaptionMetrics, "rouge_l", fail)
    metrics = metrics_of(score(AAC, REFERENCES, CANDIDATES, ScoringConfig()))
    for name in ("bleu_1", "bleu_4", "rouge_l"):
        assert metrics[name].reason == f"{type(error).__name__}: {error}"
    assert metrics["cider_d"].value is not None


def test_a_bug_is_not_taken_for_a_failed_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise TypeError("ours")

    monkeypatch.setattr(CaptionMetrics, "cider_d", bug)
    with pytest.raises(TypeError, match="ours"):
        score(AAC, REFERENCES, CANDIDATES, ScoringConfig())


def test_a_failing_worker_costs_spice_only(spice_lib: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MetricUnavailableError("out of memory", fix="more")

    monkeypatch.setattr(caption_scores.SpiceWorker, "score", fail)
    config = ScoringConfig(cache_path=str(spice_lib))
    metrics = metrics_of(score(AAC, REFERENCES, CANDIDATES, config))
    assert (metrics["spider"].value, metrics["spider"].reason, metrics["spider"].fix) == (None, "out of memory", "more")
    assert metrics["cider_d"].value is not None


def test_preflight_tells_what_will_be_missing(spice_lib: Path) -> None:
    assert preflight(ASR, ScoringConfig()) == []
    assert preflight(AAC, ScoringConfig()) == [
        "SPICE and SPIDEr will be unavailable: SPICE's two CoreNLP files are not installed; "
        "run once: audiolm-evaluator setup-metrics"
    ]
    assert preflight(AAC, ScoringConfig(metrics=["rouge_l"])) == []
    assert preflight(AAC, ScoringConfig(cache_path=str(spice_lib))) == []


@pytest.mark.slow
def test_spider_of_the_golden_captions(spice_lib: Path) -> None:
    golden = json.loads((Path(__file__).parent / "golden_spice.json").read_text(encoding="utf-8"))
    config = ScoringConfig(cache_path=str(spice_lib))
    references = [tuple(item["references"]) for item in golden["items"]]
    scores = score(AAC, references, [item["candidate"] for item in golden["items"]], config)
    metrics = metrics_of(scores)
    assert metrics["spice"].value == pytest.approx(golden["corpus"]["ptb"], abs=1e-12)
    cider_d, spice = scores.per_sample["cider_d"], scores.per_sample["spice"]
    assert list(spice) == pytest.approx([item["ptb"]["spice"] for item in golden["items"]], abs=1e-12)
    assert metrics["spider"].value == ((metrics["cider_d"].value or 0) + (metrics["spice"].value or 0)) / 2
    for spider, *parts in zip(scores.per_sample["spider"], cider_d, spice, strict=True):
        assert spider == sum(part or 0 for part in parts) / 2
    assert "(CIDEr-D + SPICE) / 2" in metrics["spider"].protocol
    assert "captions cut after 80 words for SPICE only" in metrics["spice"].protocol
    assert scores.details["spice_cut_captions"] == 0
    assert scores.details["spice_files"] == "scoring.cache_path"
    assert set(scores.details["spice_tuples"]) == {"matched", "candidate_only", "reference_only"}
