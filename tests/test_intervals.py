"""Tests of evaluator/statistics/ and evaluator/scoring/intervals.py: draws, coverage, units, remarks."""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_model import EchoLM, FakeProvider
from fake_site import WORDS, Site, make_site

from evaluator.annotation.annotation import Sample
from evaluator.annotation.file import Row
from evaluator.config.sections import ScoringConfig
from evaluator.errors import AnnotationError, ConfigError
from evaluator.evaluate import evaluate
from evaluator.report.summary import score_lines, summarize
from evaluator.scoring.answers.classes import score_classes
from evaluator.scoring.answers.translations import score_translations
from evaluator.scoring.captioning import CaptionMetrics, Captions
from evaluator.scoring.intervals import _columns, _statistic, interval_token, with_intervals
from evaluator.scoring.java import find_java
from evaluator.scoring.protocols.explain import explain, settings_of
from evaluator.scoring.protocols.signature import parse_signature
from evaluator.scoring.result import MetricResult, Scores
from evaluator.scoring.scoring import score
from evaluator.statistics.bootstrap import ratio, resampled_sums, unit_sums
from evaluator.statistics.interval import Interval, percentiles
from evaluator.statistics.units import Units, find_units
from evaluator.tasks import ASR


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def rates(edits: Sequence[float], words: Sequence[float], *, seed: int = 0, labels: Sequence[str] = ()) -> Any:
    units = unit_sums(np.stack([edits, words], axis=1), labels)
    return ratio(resampled_sums(units, resamples=1000, seed=seed))


def scored(texts: Sequence[str], answers: Sequence[str], units: Units | None = None, **config: Any) -> Scores:
    settings = ScoringConfig(**config)
    return with_intervals(score(ASR, [(text,) for text in texts], answers, settings), settings, units)


def interval(scores: Scores, name: str = "wer") -> Interval:
    [found] = [metric.interval for metric in scores.metrics if metric.name == name]
    assert found is not None
    return found


# The bootstrap


def test_draws_are_those_of_whole_clips() -> None:
    """Against the plainest bootstrap: pick clips, add up, divide; both are estimates of the same bounds."""
    generator = random.Random(5)
    words = [generator.randint(1, 20) for _ in range(80)]
    edits = [sum(generator.random() < 0.15 for _ in range(number)) for number in words]
    plain = []
    for _ in range(4000):
        drawn = generator.choices(range(80), k=80)
        plain.append(sum(edits[i] for i in drawn) / sum(words[i] for i in drawn))
    found = ratio(resampled_sums(np.stack([edits, words], axis=1), resamples=4000, seed=1))
    assert np.quantile(found, [0.025, 0.5, 0.975]) == pytest.approx(np.quantile(plain, [0.025, 0.5, 0.975]), abs=0.004)
    assert np.std(found) == pytest.approx(np.std(plain), rel=0.06)


def test_every_draw_has_as_many_units() -> None:
    sums = resampled_sums(np.stack([np.ones(7), np.arange(7)], axis=1), resamples=50, seed=0)
    assert sums.shape == (50, 2)
    assert set(sums[:, 0]) == {7.0}
    assert len(set(sums[:, 1])) > 5


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0], [0.25, 0.5]])
def test_sums_are_those_of_the_units_drawn(values: list[float]) -> None:
    """Equal units are counted together; what is drawn is what numpy's generator draws of the sorted units."""
    rng = np.random.default_rng(3)
    units = np.stack([rng.choice(values, 40), rng.choice([4.0, 5.0], 40)], axis=1)
    ordered, draws = units[np.lexsort(units.T)], np.random.default_rng(9)
    direct = [ordered[draws.integers(0, 40, size=40)].sum(axis=0) for _ in range(30)]
    assert np.array_equal(resampled_sums(units, resamples=30, seed=9), direct)


def test_seed_and_order() -> None:
    edits, words = [0, 1, 2, 0, 5, 1], [4, 5, 6, 3, 9, 2]
    first = rates(edits, words)
    assert (first == rates(edits, words)).all()
    assert (first == rates(edits[::-1], words[::-1])).all()
    assert (first != rates(edits, words, seed=1)).any()


def test_units_are_summed() -> None:
    assert unit_sums(np.array([[1.0, 4], [0, 3], [2, 5]]), ("a", "b", "a")).tolist() == [[3, 9], [0, 3]]


def _speakers(generator: Any) -> tuple[list[float], list[float], list[str]]:
    """20 speakers with 10 clips each and a rate of their own; the mean rate is 0.2."""
    edits, words, labels = [], [], []
    for speaker in range(20):
        rate = generator.beta(2, 8)
        for _ in range(10):
            number = int(generator.integers(5, 15))
            edits.append(float(generator.binomial(number, rate)))
            words.append(float(number))
            labels.append(str(speaker))
    return edits, words, labels


def test_coverage() -> None:
    """Of 250 simulated sets about 95 % have the true rate in their interval; clips of one speaker are not enough."""
    generator = np.random.default_rng(7)
    covered = {"clip": 0, "speaker": 0}
    for seed in range(250):
        edits, words, labels = _speakers(generator)
        for unit, by in (("clip", ()), ("speaker", labels)):
            bounds = percentiles(rates(edits, words, seed=seed, labels=by))
            assert bounds is not None
            covered[unit] += bounds[0] <= 0.2 <= bounds[1]
    assert 0.87 <= covered["speaker"] / 250 <= 0.98
    assert covered["clip"] / 250 < 0.75


def test_coverage_of_independent_clips() -> None:
    generator = np.random.default_rng(11)
    covered = 0
    for seed in range(250):
        words = generator.integers(3, 20, size=100)
        bounds = percentiles(rates(list(generator.binomial(words, 0.1)), list(words), seed=seed))
        assert bounds is not None
        covered += bounds[0] <= 0.1 <= bounds[1]
    assert 0.90 <= covered / 250 <= 0.985


# Scores


def test_scores_stay_and_get_intervals() -> None:
    texts = [f"{text} number {number}" for number, text in enumerate(WORDS * 4)]
    answers = [text if place % 3 else f"{text} extra word" for place, text in enumerate(texts)]
    before = score(ASR, [(text,) for text in texts], answers, ScoringConfig())
    after = with_intervals(before, ScoringConfig())
    for old, new in zip(before.metrics, after.metrics, strict=True):
        assert replace(new, interval=None, signature=old.signature) == old
    for metric in after.metrics:
        told = metric.interval
        assert told is not None
        assert told.low is not None
        assert told.high is not None
        assert metric.value is not None
        assert told.low < metric.value < told.high
        assert (told.units, told.unit, told.resamples, told.seed, told.remark) == (20, "clip", 1000, 0, None)
        assert metric.facts()["interval"]["low"] == told.low
    columns = after.per_sample
    assert sum(filter(None, columns["cer_edits"])) / sum(filter(None, columns["cer_length"])) == after.metrics[1].value
    assert with_intervals(before, ScoringConfig(bootstrap_resamples=0)).metrics == before.metrics


def test_bleu_of_a_draw_is_the_librarys() -> None:
    """Clips that are drawn twice count twice: BLEU of the sums is the library's BLEU of the longer list."""
    candidates = ["a dog barks twice", "rain falls on a tin roof", "people talk while music plays", ""]
    references = [
        ("two dogs bark", "a dog is barking twice"),
        ("rain falls on a metal roof", "it rains"),
        ("music plays and people talk while it plays",),
        ("silence",),
    ]
    with CaptionMetrics(find_java()) as library:
        results = library.bleu(Captions(tuple(candidates), tuple(references)))
        counts = np.array([2, 1, 3, 1])
        drawn = np.repeat(np.arange(4), counts)
        again = library.bleu(Captions(tuple(candidates[i] for i in drawn), tuple(references[i] for i in drawn)))
    for result, other in zip(results, again, strict=True):
        columns = np.stack(_columns(result), axis=1)
        assert _statistic(result)(columns.sum(axis=0, keepdims=True))[0] == pytest.approx(result.value, abs=1e-13)
        assert _statistic(result)((counts @ columns)[None])[0] == pytest.approx(other.value, abs=1e-13)
        assert result.value != other.value


def test_translations_and_classes_of_a_draw() -> None:
    """As above, for sacreBLEU's scores and macro-F1."""
    said = ["the cat sat on the mat", "a dog", "it rains", "birds sing loudly"]
    texts = ["the cat is on the mat", "a dog runs far", "it rains hard", "the birds sing"]
    classes, answers = ["sad", "happy", "sad", "angry"], ["sad", "sad", "happy", "angry"]
    counts = np.array([2, 1, 3, 0])
    drawn = np.repeat(np.arange(4), counts)
    for compute, given, wanted in (
        (partial(score_translations, tokenizer="13a"), said, texts),
        (score_classes, answers, classes),
    ):
        results = compute(given, wanted).metrics
        again = compute([given[i] for i in drawn], [wanted[i] for i in drawn]).metrics
        for result, other in zip(results, again, strict=True):
            columns = np.stack(_columns(result), axis=1)
            assert _statistic(result)(columns.sum(axis=0, keepdims=True))[0] == pytest.approx(result.value, abs=1e-9)
            assert _statistic(result)((counts @ columns)[None])[0] == pytest.approx(other.value, abs=1e-9)
            assert result.value != other.value
    many = [str(number) for number in range(101)]
    accuracy, f1 = with_intervals(score_classes(many, many), ScoringConfig()).metrics
    assert f1.interval is None
    assert accuracy.interval is not None


def test_means_of_rows() -> None:
    rows = (1.0, 2.0, None, 3.0, *[2.5] * 20)
    metric = MetricResult("cider_d", 2.4, rows)
    [found] = with_intervals(Scores("aac", len(rows), (metric,), {}), ScoringConfig()).metrics
    assert found.interval is not None
    assert found.interval.low is not None
    assert found.interval.high is not None
    assert found.interval.low < sum(filter(None, rows)) / 23 < found.interval.high


def test_without_an_error_the_interval_has_one_side() -> None:
    told = interval(scored(["one two three four"] * 25, ["one two three four"] * 25))
    assert (told.low, told.method) == (0.0, "rule of three")
    # Whisper's normaliser makes one word of these numbers, so there are 25 words.
    assert told.high == 3 / 25
    assert "one-sided, 3 errors in 25 words" in str(told.remark)


@pytest.mark.parametrize(
    ("texts", "answers", "part", "bounded"),
    [
        (["a b c"], ["a x c"], "there is one clip", False),
        (["a b c"] * 30, ["a x c"] * 30, "all 30 clips score the same", False),
        (["a b c"] * 3 + ["d e f"], ["a x c"] * 3 + ["d e f"], "only 4 clips: the true interval is wider", True),
    ],
)
def test_small_sets_are_said_to_be_small(texts: list[str], answers: list[str], part: str, *, bounded: bool) -> None:
    scores = scored(texts, answers)
    told = interval(scores)
    assert part in str(told.remark)
    assert (told.low is not None) == bounded
    lines = score_lines(scores)
    assert ("[" in next(line for line in lines if "WER" in line)) == bounded
    assert part in " ".join(" ".join(lines).split())


def test_nothing_to_divide_by() -> None:
    scores = scored(["um", "uh"], ["a", "b"])
    assert [metric.interval for metric in scores.metrics] == [None, None]
    assert not any("intervals" in line for line in score_lines(scores))


def test_without_numpy_scores_are_told_without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's core has no numpy, and questions and classes are scored by the core."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    scores = with_intervals(score_classes(["sad", "happy"], ["sad", "sad"]), ScoringConfig())
    assert [metric.interval for metric in scores.metrics] == [None, None]
    assert "intervals none: they need numpy (pip install" in " ".join(" ".join(score_lines(scores)).split())


def test_token_of_the_signature() -> None:
    assert interval_token(ScoringConfig()) == "95,clip,n1000,seed0"
    assert interval_token(ScoringConfig(bootstrap_resamples=0)) == ""
    by_name = ScoringConfig(unit="speaker", unit_field="name:1", bootstrap_resamples=200, bootstrap_seed=3)
    assert interval_token(by_name) == "95,speaker=name-1,n200,seed3"
    [wer, _] = scored(["a b c"] * 3, ["a x c", "a b c", "a b c"]).metrics
    assert parse_signature(str(wer.signature)).get("ci") == "95,clip,n1000,seed0"
    told = " ".join(explain(wer.signature))
    assert "95 % interval by bootstrap" in told
    assert "is not known" not in told
    settings = settings_of(wer.signature.extended({"ci": "95,clip,n200,seed3"}))
    assert (settings.bootstrap_resamples, settings.bootstrap_seed) == (200, 3)
    assert settings_of(score(ASR, [("a",)], ["a"], ScoringConfig()).metrics[0].signature).bootstrap_resamples == 0
    for wrong in ("99,clip,n200,seed3", "95,clip,n200", "95,clip,n200,seedx"):
        with pytest.raises(ConfigError, match="this version knows no ci"):
            settings_of(wer.signature.extended({"ci": wrong}))


# Units


def sample(index: int, path: str) -> Sample:
    return Sample(index, f"t{index}", Path(path), "asr", "", ("a",))


@pytest.mark.parametrize(
    ("field", "source", "labels"),
    [
        ("", 'field "speaker"', ("A", "7")),
        ("room", 'field "room"', ("x", "y")),
        ("path:1", "path:1", ("clean/19/198", "clean/26/495")),
        ("path:2", "path:2", ("clean/19", "clean/26")),
        ("name:1", "name:1", ("19", "26")),
        ("name:2", "name:2", ("19-198", "26_495")),
    ],
)
def test_units_from_fields_and_paths(field: str, source: str, labels: tuple[str, ...]) -> None:
    rows = [Row(1, None, {"speaker": "A", "room": "x"}), Row(2, None, {"speaker": 7, "room": "y"})]
    samples = [sample(0, "clean/19/198/19-198-0001.flac"), sample(1, "clean/26/495/26_495_0002.flac")]
    found = find_units("speaker", field, rows, samples, annotation=Path("a.json"))
    assert (found.kind, found.source, found.labels) == ("speaker", source, labels)
    assert find_units("clip", field, rows, samples, annotation=Path("a.json")) == Units()


def test_rows_that_tell_no_unit_are_all_named() -> None:
    rows = [Row(1, None, {"speakr": "A"}), Row(2, None, {"speaker": ["B"]}), Row(3, None, {"speaker": " "})]
    samples = [sample(number, "clip.wav") for number in range(3)]
    with pytest.raises(AnnotationError) as caught:
        find_units("speaker", "", rows, samples, annotation=Path("a.json"))
    told = str(caught.value)
    for part in (
        '3 of 3 rows do not tell "speaker"',
        "a.json: row 1 (t0): speaker: the field is missing",
        "found ['B']",
    ):
        assert part in told
    with pytest.raises(AnnotationError, match='has the field "speeker"; did you mean "speakr"'):
        find_units("speaker", "speeker", rows[:1], samples[:1], annotation=Path("a.json"))
    with pytest.raises(AnnotationError, match="has no part path:2 that would name a recording"):
        find_units("recording", "path:2", rows, samples, annotation=Path("a.json"))


def test_a_run_by_speakers(site: Site) -> None:
    rows = json.loads((site.folder / "asr.json").read_text())["annotation"]
    site.write_annotation([{**row, "speaker": "ann" if number < 3 else "bob"} for number, row in enumerate(rows)])
    provider = FakeProvider(model=EchoLM(say=lambda request: WORDS[request.index] + " x" * (request.index % 2)))
    result = evaluate(provider, site.load("scoring.unit=speaker"), "valid_asr")
    summary = " ".join(" ".join(summarize(result)).split())
    assert '[95 %] of 2 speakers (field "speaker"), bootstrap, 1000 resamples, seed 0 only 2 speakers' in summary
    written = json.loads((result.folder / "scores.json").read_text())["metrics"][0]["interval"]
    assert (written["unit"], written["units"], written["unit_source"]) == ("speaker", 2, 'field "speaker"')
    with pytest.raises(AnnotationError, match='has the field "recording"; known: '):
        evaluate(provider, site.load("scoring.unit=recording"), "valid_asr")
    unused = evaluate(provider, site.load("scoring.unit_field=speaker"), "valid_asr")
    assert "scoring.unit_field has no effect: scoring.unit is clip." in unused.notices
