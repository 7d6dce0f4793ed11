"""What a run is told as: the summary for one screen, and scores.json.

In: an EvaluationResult or Scores. Out: lines of text without control characters, and a JSON file. Nothing is
computed here and nothing is printed: a score that is not there stays "unavailable", with the reason.
"""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluator.answer_files.scored_file import ScoredAnswers
from evaluator.diagnosis.diagnosis import KEY
from evaluator.errors import ResultError
from evaluator.files import replacing
from evaluator.run.latency import LATENCY_OFF, Latency
from evaluator.run.record import EvaluationResult
from evaluator.run.timing import MEDIAN_CLIPS, TOO_FEW
from evaluator.scoring.result import KINDS, MetricResult, Scores
from evaluator.statistics.interval import told
from evaluator.tasks import is_scored, task_of
from evaluator.wording import printable

# What the line of latency tells, in the order of a clip's way.
_LATENCIES = (
    ("first step", "batch1_first_step_seconds_p50"),
    ("further token", "batch1_further_token_seconds_p50"),
    ("whole text", "batch1_final_text_seconds_p50"),
)
_SHOWN_FAILURES = 5
_LABEL_WIDTH = 16
_WIDTH = 80
_GIBIBYTE = 1 << 30
# Values of a column of scores.json that are made into text at a time.
_PIECE = 1 << 14


def summarize(result: EvaluationResult) -> list[str]:
    """Tell a run in lines for one screen.

    Args:
        result: a finished run.

    Returns:
        list[str]: lines without line ends, of at most 80 columns where no path is longer: what was run, rows by what
        became of them, scores with their protocols, speed, memory, and where everything is.
    """
    counts = result.counts
    checkpoint = f", checkpoint {result.checkpoint}" if result.checkpoint else ""
    if result.checkpoint.lower() == "none":
        checkpoint = ", UNTRAINED (checkpoint none): its answers mean nothing"
    lines = [
        f"{result.mode}: {task_of(result.mode).title}",
        *label_line("model", f"{result.model}{checkpoint}"),
        *label_line("rows", _rows(result)),
        *label_line("failed", str(counts.failed)),
        *_failure_lines(result),
        *label_line("empty", str(counts.empty)),
        *label_line(f"cut at {result.heard_seconds:g} s", str(counts.cut)),
        *label_line("hit max length", str(counts.hit_max_length)),
        *(label_line("refused", str(counts.refused)) if counts.refused else []),
    ]
    if result.scoring_error is not None:
        lines += label_line("scores", f"none: {result.scoring_error}")
    if result.scores is not None:
        lines += score_lines(result.scores)
    return [
        *lines,
        *label_line("speed", _speed(result)),
        *(label_line("latency", _latency(result.latency)) if result.latency.reason != LATENCY_OFF else []),
        *label_line("peak memory", _memory(result)),
        *label_line("CSV", str(result.csv_path)),
        *label_line("folder", str(result.folder)),
        *(label_line("report", str(result.report)) if result.report is not None else []),
        *(label_line("run.json", f"not complete: {result.record_error}") if result.record_error is not None else []),
        *(diagnosis_lines(result.scores) if result.scores is not None else []),
    ]


def summarize_answers(done: ScoredAnswers) -> list[str]:
    """Tell answers that were scored without a run, in lines as those of a run."""
    return [
        f"{done.source}: {done.task.title}",
        *label_line("annotation", str(done.annotation)),
        *label_line("rows", str(done.scores.num_samples)),
        *label_line("empty", str(done.scores.details.get("empty_hypotheses", 0))),
        *score_lines(done.scores),
        *diagnosis_lines(done.scores),
    ]


def score_lines(scores: Scores) -> list[str]:
    """Tell scores in lines: a line for each metric, counts of errors, and each signature once, whole on its line.

    Args:
        scores: what was scored.

    Returns:
        list[str]: error rates in percent, other metrics as they are with their scale; a metric that is not there says
        "unavailable", why, and what to do.
    """
    lines: list[str] = []
    reasons: dict[str, str] = {}
    protocols: dict[str, list[str]] = {}
    signatures: dict[str, list[str]] = {}
    for metric in scores.metrics:
        title = metric.kind.title
        if metric.value is None:
            why = "; ".join(filter(None, (metric.reason, metric.fix)))
            # The same reason is told once: eight metrics without Java are one problem.
            lines += label_line(title, f"unavailable: see {reasons[why]}" if why in reasons else f"unavailable: {why}")
            reasons.setdefault(why, title)
            continue
        if metric.signature:
            signatures.setdefault(str(metric.signature), []).append(title)
        else:
            protocols.setdefault(metric.protocol, []).append(title)
        value = f"{100 * metric.value:.2f} %" if metric.kind.unit else f"{metric.value:.4f}"
        if metric.interval is not None:
            value = f"{value} {told(metric.interval, percent=bool(metric.kind.unit))}".rstrip()
        lines += label_line(title, f"{value}  ({_errors(metric) if metric.kind.unit else metric.kind.scale})")
    if scores.details.get("unparsed"):
        asked = scores.details["with_choices"]
        lines += label_line(
            "not parsed", f"{scores.details['unparsed']} of {asked} answers name no choice, or several: wrong"
        )
    first: tuple[str, str] | None = None
    for text, names in protocols.items():
        title = ", ".join(names)
        if first is not None and text.startswith(f"{first[1]}; "):
            text = f"as {first[0]}{text.removeprefix(first[1])}"
        first = first or (title, text)
        lines += label_line("protocol", f"{title}: {text}")
    for text, names in signatures.items():
        lines += [*label_line("signature", ", ".join(names)), f"    {text}"]
    return [*lines, *_interval_lines(scores)]


# Kinds of wrong answers, as the summary tells their number.
_WRONG = {
    "token_limit": "hit the token limit",
    "loop": "loop",
    "empty": "empty",
    "duplicate": "given to 3 clips or more",
    "refusal": "refuse",
    "language_switch": "in another script",
    "failed": "failed",
}
_SHOWN = 4


def diagnosis_lines(scores: Scores) -> list[str]:
    """What is wrong with the answers besides their score; nothing where nothing is."""
    found = scores.details.get(KEY, {})
    told = [f"{each['rows']} {_WRONG[name]}" for name, each in found.get("rates", {}).items()]
    lines = label_line("answers", ", ".join(told)) if told else []
    for key, label in (("confusions", "confused"), ("deletions", "left out"), ("insertions", "too many")):
        entries = found.get(key, [])[:_SHOWN]
        shown = [
            f"{' -> '.join(entry[name] for name in ('reference', 'answer') if name in entry)} {entry['count']}"
            for entry in entries
        ]
        lines += label_line(label, ", ".join(shown)) if shown else []
    return [*lines, *_worst_line(found.get("worst", [])[:_SHOWN])]


def _worst_line(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """test0012 (4 of 5), ...: errors of words; by CIDEr-D: test0020 (0.3100), ..."""
    if not entries:
        return []
    _, name, *_ = entries[0]
    if name in KINDS:
        shown = ", ".join(f"{entry['id']} ({entry[name]:.4f})" for entry in entries)
        return label_line("worst", f"by {KINDS[name].title}: {shown}")
    shown = ", ".join("{} ({} of {})".format(*entry.values()) for entry in entries)
    return label_line("worst", shown)


def _interval_lines(scores: Scores) -> list[str]:
    """What the intervals in square brackets are, and what they do not say."""
    intervals = [(metric.kind.title, metric.interval) for metric in scores.metrics if metric.interval is not None]
    if not intervals:
        return label_line("intervals", scores.details["intervals"]) if "intervals" in scores.details else []
    _, first = intervals[0]
    source = "" if first.unit_source == "rows" else f" ({first.unit_source})"
    plural = "" if first.units == 1 else "s"
    drawn = f"[{100 * first.level:g} %] of {first.units} {first.unit}{plural}{source}"
    lines = label_line("intervals", f"{drawn}, bootstrap, {first.resamples} resamples, seed {first.seed}")
    remarks: dict[str, list[str]] = {}
    for title, interval in intervals:
        if interval.remark is not None:
            remarks.setdefault(interval.remark, []).append(title)
    for remark, titles in remarks.items():
        lines += label_line("", remark if len(titles) == len(intervals) else f"{', '.join(titles)}: {remark}")
    return lines


def _errors(metric: MetricResult) -> str:
    """Errors by kind: 3 sub., 1 del., 0 ins. in 320 words."""
    counts = metric.totals
    kinds = ", ".join(f"{counts[kind]} {kind[:3]}." for kind in ("substitutions", "deletions", "insertions"))
    return f"{kinds} in {counts['hits'] + counts['substitutions'] + counts['deletions']} {metric.kind.unit}s"


def write_scores(path: Path, scores: Scores, *, ids: Sequence[str]) -> None:
    """Write scores.json, all or nothing.

    Args:
        path: the file.
        scores: what was scored.
        ids: the testset_id of each sample, in the order of the per-sample values.

    Raises:
        ResultError: if the file cannot be written.
        ValueError: if a per-sample list has another length than `ids`.
    """
    _check_lengths(scores, ids)
    # The rows are the most of it: a line for each column, written piece by piece.
    head = json.dumps(_facts(scores), ensure_ascii=False, indent=2, allow_nan=False).removesuffix("\n}")
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f'{head},\n  "per_sample": {{')
            for number, (name, values) in enumerate({"id": ids, **scores.per_sample}.items()):
                file.write(f"{',' if number else ''}\n    {json.dumps(name)}: [")
                for first in range(0, len(values), _PIECE):
                    piece = json.dumps(_finite(values[first : first + _PIECE]), ensure_ascii=False, allow_nan=False)
                    file.write(f"{', ' if first else ''}{piece[1:-1]}")
                file.write("]")
            file.write("\n  }\n}\n")
    except OSError as error:
        raise ResultError(f"Cannot write {path}: {error.strerror or error}.") from error


def scores_json(scores: Scores, *, ids: Sequence[str]) -> dict[str, Any]:
    """What scores.json holds; see `write_scores`."""
    _check_lengths(scores, ids)
    return {**_facts(scores), "per_sample": {"id": list(ids), **_finite(scores.per_sample)}}


def _check_lengths(scores: Scores, ids: Sequence[str]) -> None:
    for name, values in scores.per_sample.items():
        if len(values) != len(ids):
            raise ValueError(f"{name} has {len(values)} values for {len(ids)} samples")


def _facts(scores: Scores) -> dict[str, Any]:
    """What scores.json says of the set, its rows apart."""
    return {
        "task": scores.task,
        "num_samples": scores.num_samples,
        "metrics": [_finite(metric.facts()) for metric in scores.metrics],
        "details": _finite(scores.details),
    }


def label_line(label: str, text: str) -> list[str]:
    """A labelled text, on as many lines as it needs; only a word that is longer than a line, as a path, passes it."""
    lines = _wrapped(text, f"  {label:{_LABEL_WIDTH}}", " " * (2 + _LABEL_WIDTH))
    if all(len(line) <= _WIDTH for line in lines):
        return lines
    # A path is not broken; further to the left it may fit.
    return [f"  {label}", *_wrapped(text, "    ", "    ")]


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    ) or [first.rstrip()]


def _failure_lines(result: EvaluationResult) -> list[str]:
    shown = result.failures[:_SHOWN_FAILURES]
    lines = [line for failure in shown for line in label_line("", f"{failure.id}: {failure.reason}")]
    left = len(result.failures) - len(shown)
    return [*lines, *label_line("", f"and {left} more, see predictions.jsonl")] if left else lines


def _rows(result: EvaluationResult) -> str:
    """80; of a part: 10 of 80 (--limit), a try and no submission."""
    if result.all_rows is None:
        return str(result.counts.rows)
    what = "scores of a part do not compare" if is_scored(result.mode) else "a try and no submission"
    return f"{result.counts.rows} of {result.all_rows} (--limit): {what}"


def _speed(result: EvaluationResult) -> str:
    took = f"{result.audio_seconds:.1f} s of audio in {result.seconds.get('predict', 0.0):.1f} s"
    others = f"; loading {result.seconds.get('load_model', 0.0):.1f} s"
    if "score" in result.seconds:
        others += f", scoring {result.seconds['score']:.1f} s"
    return f"RTFx {result.rtfx:.2f} ({took}){others}" if result.rtfx is not None else f"{took}{others}"


def _latency(latency: Latency) -> str:
    """first step 0.051 s, ... (medians of 8 clips alone); what the model does not offer is left out."""
    if latency.reason is not None:
        return f"not measured: {latency.reason}"
    clips = len(latency.ids)
    other = f"; {latency.different_texts} text(s) other than the run's" if latency.different_texts else ""
    if clips < MEDIAN_CLIPS:
        return f"too few clips: {clips} asked alone, and a median needs {MEDIAN_CLIPS}{other}"
    found = [f"{title} {latency.figures[name].median:.3g} s" for title, name in _LATENCIES if name in latency.figures]
    further = latency.missing.get("batch1_further_token_seconds", "")
    if further.startswith(TOO_FEW):
        found.insert(1, "further token: answers too short to tell")
    return f"{', '.join(found)} (medians of {clips} clips alone{other})"


def _memory(result: EvaluationResult) -> str:
    peak = result.peak_memory
    parts = [
        f"{size / _GIBIBYTE:.2f} GiB {where}"
        for where, size in (("process", peak.process_since_start), ("device", peak.device_since_start))
        if size is not None
    ]
    return ", ".join(parts) or "unknown"


def _finite(value: Any) -> Any:
    """The same value, with None for what JSON has no number for: a score of nothing may be NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value
