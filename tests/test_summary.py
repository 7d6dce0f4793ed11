"""Tests of evaluator/report/summary.py: one screen that says everything, and a scores.json that any reader takes."""

import json
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from evaluator.report import summary
from evaluator.report.summary import score_lines, summarize, write_scores
from evaluator.run.latency import LATENCY_OFF, Latency
from evaluator.run.record import Counts, EvaluationResult, Failure, PeakMemory
from evaluator.run.timing import Spread
from evaluator.scoring.protocols.signature import parse_signature
from evaluator.scoring.result import MetricResult, Scores
from evaluator.scoring.wer import Ratios, word_errors
from evaluator.wording import printable

ERRORS = {"substitutions": (3, 0), "deletions": (0, 1), "insertions": (0, 0)}
ASR = Scores(
    task="asr",
    num_samples=2,
    metrics=(
        MetricResult("wer", 0.0125, (0.0, None), {"hits": (300, 16), **ERRORS}, "English normaliser, 13a"),
        MetricResult("cer", 0.5, (), {"hits": (1000, 196), **ERRORS}, "English normaliser, 13a; characters"),
    ),
    details={},
    per_sample={"wer": (0.0, None)},
)
SETUP = "run once: audiolm-evaluator setup-metrics"
AAC = Scores(
    task="aac",
    num_samples=2,
    metrics=(
        MetricResult("spider", None, reason="SPICE's files are not installed", fix=SETUP),
        MetricResult("cider_d", 2.5, protocol="PTB tokens; 5 references"),
        MetricResult("bleu_1", 0.75, protocol="PTB tokens; 5 references"),
    ),
    details={},
    per_sample={"cider_d": (2.0, 3.0)},
)
LATENCY = Latency(
    planned=8,
    ids=("test0000", "test0020", "test0040", "test0060"),
    audio_seconds=(2.0, 3.0, 2.0, 3.0),
    tokens=(5, 6, 5, 6),
    different_texts=0,
    figures={
        "batch1_first_step_seconds_p50": Spread.of([0.0512345]),
        "batch1_further_token_seconds_p50": Spread.of([0.0021]),
        "batch1_final_text_seconds_p50": Spread.of([1.5]),
    },
    device_batch1=None,
    model_figures={},
    settings={},
    missing={},
    notes=(),
)
RESULT = EvaluationResult(
    mode="valid_asr",
    model="salmonn",
    checkpoint="nano/ckpt.pth",
    csv_path=Path("valid_results/x.csv"),
    folder=Path("valid_results/x"),
    counts=Counts(rows=80, failed=0, empty=2, cut=3, hit_max_length=4),
    failures=(),
    seconds={"preflight": 0.1, "load_model": 1.25, "predict": 20.0, "write_csv": 0.01, "score": 2.0},
    audio_seconds=300.0,
    peak_memory=PeakMemory(process_since_start=3 << 29, device_since_start=None, device_full=None),
    latency=LATENCY,
    scores=ASR,
    scoring_error=None,
    notices=(),
)


def test_summary_says_everything() -> None:
    assert summarize(RESULT) == [
        "valid_asr: speech recognition",
        "  model           salmonn, checkpoint nano/ckpt.pth",
        "  rows            80",
        "  failed          0",
        "  empty           2",
        "  cut at 30 s     3",
        "  hit max length  4",
        "  WER             1.25 %  (3 sub., 1 del., 0 ins. in 320 words)",
        "  CER             50.00 %  (3 sub., 1 del., 0 ins. in 1200 characters)",
        "  protocol        WER: English normaliser, 13a",
        "  protocol        CER: as WER; characters",
        "  speed           RTFx 15.00 (300.0 s of audio in 20.0 s); loading 1.2 s,",
        "                  scoring 2.0 s",
        "  latency         first step 0.0512 s, further token 0.0021 s, whole text 1.5 s",
        "                  (medians of 4 clips alone)",
        "  peak memory     1.50 GiB process",
        "  CSV             valid_results/x.csv",
        "  folder          valid_results/x",
    ]


def test_caption_scores_share_their_protocol() -> None:
    assert score_lines(AAC) == [
        "  SPIDEr          unavailable: SPICE's files are not installed; run once:",
        "                  audiolm-evaluator setup-metrics",
        "  CIDEr-D         2.5000  (0 to 10)",
        "  BLEU-1          0.7500  (0 to 1)",
        "  protocol        CIDEr-D, BLEU-1: PTB tokens; 5 references",
    ]


def test_a_signature_is_whole_on_its_line() -> None:
    signature = parse_signature(
        "protocol:dcase|tok:ptb-whole-set|case:lower|unit:caption|refs:5|rows:70|aac-metrics:0.5.4"
    )
    signed = tuple(replace(metric, signature=signature) for metric in AAC.metrics[1:])
    assert score_lines(replace(AAC, metrics=signed))[2:] == [
        "  signature       CIDEr-D, BLEU-1",
        f"    {signature}",
    ]
    assert json.loads(json.dumps(signed[0].facts()))["signature"] == str(signature)


def test_one_reason_is_told_once() -> None:
    absent = replace(AAC.metrics[0], name="spice")
    other = replace(absent, name="meteor", reason="no Java")
    assert score_lines(replace(AAC, metrics=(AAC.metrics[0], absent, other))) == [
        "  SPIDEr          unavailable: SPICE's files are not installed; run once:",
        "                  audiolm-evaluator setup-metrics",
        "  SPICE           unavailable: see SPIDEr",
        "  METEOR          unavailable: no Java; run once: audiolm-evaluator",
        "                  setup-metrics",
    ]


def test_summary_fits_a_screen() -> None:
    names = ("spider", "cider_d", "spice", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor")
    scores = replace(
        AAC, metrics=tuple(MetricResult(name, 0.5, protocol=f"{index % 3}") for index, name in enumerate(names))
    )
    failures = tuple(Failure(f"test{index:04d}", "broken") for index in range(80))
    assert len(summarize(replace(RESULT, mode="valid_aac", scores=scores, failures=failures))) <= 36


def test_failures_are_named_and_counted() -> None:
    failures = tuple(Failure(f"test{index:04d}", "'x.wav' is an empty file.") for index in range(7))
    counts = replace(RESULT.counts, failed=7)
    lines = summarize(replace(RESULT, failures=failures, counts=counts))
    place = lines.index("  failed          7")
    assert lines[place + 1] == "                  test0000: 'x.wav' is an empty file."
    assert lines[place + 6] == "                  and 2 more, see predictions.jsonl"


def test_failed_scoring_is_told() -> None:
    lines = summarize(replace(RESULT, scores=None, scoring_error="the disk is full"))
    assert "  scores          none: the disk is full" in lines
    assert not any("WER" in line for line in lines)


def test_submission_mode_has_no_score_lines() -> None:
    lines = summarize(replace(RESULT, mode="submission_aac", scores=None, seconds={"predict": 20.0}))
    assert lines[0] == "submission_aac: audio captioning"
    assert not any("score" in line or "unavailable" in line for line in lines)


def test_latency_is_told_whatever_there_is() -> None:
    def told(latency: Latency) -> str:
        lines = summarize(replace(RESULT, latency=latency))
        before, after = (next(n for n, text in enumerate(lines) if label in text) for label in ("  speed", "  peak"))
        return " ".join(" ".join(lines[before:after]).partition("latency ")[2].split())

    few = {name: spread for name, spread in LATENCY.figures.items() if "final" in name}
    other = replace(LATENCY, figures=few, different_texts=1)
    assert told(other) == "whole text 1.5 s (medians of 4 clips alone; 1 text(s) other than the run's)"
    short = replace(other, missing={"batch1_further_token_seconds": "too few: 1 clips"}, different_texts=0)
    assert told(short).startswith("whole text 1.5 s, further token: answers too short to tell (medians")
    one = replace(LATENCY, ids=("test0000",), different_texts=1)
    assert told(one) == "too few clips: 1 asked alone, and a median needs 4; 1 text(s) other than the run's"
    assert told(Latency(reason="no row has an answer")) == "not measured: no row has an answer"
    assert told(Latency(reason=LATENCY_OFF)) == ""


def test_summary_fits_80_columns() -> None:
    failures = tuple(
        Failure(f"test{index:04d}", "'a/b/c.wav' " + "cannot be read, for a long reason; " * 5) for index in range(7)
    )
    metrics = tuple(
        replace(metric, protocol=f"{metric.protocol}; " + "with versions 1.2.3, " * 8) for metric in AAC.metrics
    )
    counts = Counts(rows=10**7, failed=10**6, empty=10**6, cut=10**6, hit_max_length=10**6)
    wide = replace(RESULT, failures=failures, scores=replace(AAC, metrics=metrics), counts=counts, all_rows=10**8)
    wide = replace(wide, audio_seconds=123456789.1, checkpoint="x" * 40, record_error="the disk is full " * 9)
    assert max(map(len, summarize(wide))) <= 80
    huge = {**ERRORS, "reference_length": 10**9, "substitutions": 10**9, "deletions": 10**9, "insertions": 10**9}
    assert max(map(len, score_lines(replace(ASR, details={"words": huge, "characters": huge})))) <= 80
    submission = Path("demo_results/submission_results/2026-11-25_21-57-36_submission_asr.csv")
    assert f"    {submission}" in summarize(replace(RESULT, csv_path=submission)), "further left it fits"
    path = Path("valid_results") / ("long" * 40)
    assert any(line.endswith(str(path)) for line in summarize(replace(RESULT, csv_path=path))), "paths stay whole"


def test_a_part_says_so() -> None:
    part = replace(RESULT, all_rows=500)
    assert summarize(part)[2] == "  rows            80 of 500 (--limit): scores of a part do not compare"
    submission = replace(part, mode="submission_asr", scores=None)
    assert summarize(submission)[2] == "  rows            80 of 500 (--limit): a try and no submission"


def test_nothing_predicted_has_no_speed() -> None:
    lines = summarize(replace(RESULT, audio_seconds=0.0))
    assert any(line.startswith("  speed           0.0 s of audio in 20.0 s") for line in lines)


def test_terminals_obey_nothing() -> None:
    evil = replace(RESULT, failures=(Failure("a\x1b[2J\nb", "\u202e\x9b31m"),))
    assert all(line.isprintable() for line in summarize(evil))
    assert printable("a\x1b[2J Grüße 音") == "a\\x1b[2J Grüße 音"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"counts": replace(RESULT.counts, failed=1)}, 1),
        ({"scores": None, "scoring_error": "no"}, 1),
        ({"record_error": "the disk is full"}, 1),
        ({"scores": None}, 0),
        ({"scores": AAC}, 0),
        ({"scores": replace(AAC, metrics=AAC.metrics[:1])}, 1),
        ({"scores": replace(AAC, metrics=(replace(AAC.metrics[0], requested=True),))}, 1),
    ],
)
def test_exit_code(changes: dict[str, object], code: int) -> None:
    assert replace(RESULT, **changes).exit_code == code  # type: ignore[arg-type]


def test_scores_json(tmp_path: Path) -> None:
    nan = replace(ASR, details={"odd": float("nan"), "rows": (1.0, float("inf"))})
    write_scores(tmp_path / "scores.json", nan, ids=["test0000", "test0001"])

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    data = json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse)
    assert (data["task"], data["num_samples"]) == ("asr", 2)
    assert data["metrics"][0]["name"] == "wer"
    assert data["metrics"][0]["value"] == 0.0125
    assert data["details"] == {"odd": None, "rows": [1.0, None]}
    assert data["per_sample"] == {"id": ["test0000", "test0001"], "wer": [0.0, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_scores_json_needs_a_value_for_each_id(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wer has 2 values for 1 samples"):
        write_scores(tmp_path / "scores.json", ASR, ids=["test0000"])
    assert list(tmp_path.iterdir()) == []


def test_scores_json_is_written_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece, whatever kind of column there is."""
    monkeypatch.setattr(summary, "_PIECE", 3)
    errors = word_errors([["a"], [], ["b", "c"], ["d"]] * 2, [["a"], ["x"], ["b"], ["\ud800"]] * 2)
    columns = {
        "wer": Ratios(errors.edits, errors.lengths),
        "word_edits": array("d", errors.edits),
        "odd": (None, 1.5) * 4,
    }
    scores = replace(ASR, num_samples=8, per_sample=columns)
    ids = [f'"\u2028\ud800{row}' for row in range(8)]
    write_scores(tmp_path / "scores.json", scores, ids=ids)
    data = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    told = json.loads(json.dumps(summary.scores_json(scores, ids=ids)))
    assert data["per_sample"].pop("id") == [f'"\u2028\ud800{row}' for row in range(8)]
    assert told["per_sample"].pop("id") == ids
    assert data == told
    assert data["per_sample"]["wer"] == [0.0, None, 0.5, 1.0] * 2
