"""All caption metrics of a set: raw captions and references in, an outcome and a protocol for each metric out.

SPICE's worker loads while the others are computed. Whatever one of them needs and does not find, the others
go on.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from evaluator.config.sections import ScoringConfig
from evaluator.errors import MetricUnavailableError
from evaluator.scoring.captioning import (
    CaptionMetrics,
    Captions,
    CaptionScore,
    caption_protocol,
    library_protocol,
    pycocoevalcap_file,
)
from evaluator.scoring.java import Java, find_java
from evaluator.scoring.outcome import FAILURES, Outcome, attempt, failed
from evaluator.scoring.spice import SpiceWorker, spice_protocol
from evaluator.scoring.spice_files import find_spice_files

log = logging.getLogger(__name__)

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Outcome and protocol of each metric by name, and the facts behind them as plain JSON values."""

    outcomes: dict[str, Outcome]
    protocols: dict[str, str]
    details: dict[str, Any]


def check_captions(wanted: Sequence[str], options: ScoringConfig) -> list[str]:
    """What `score_captions` will lack, in sentences; nothing is started but `java -version`."""
    try:
        java = find_java(options.java_path)
        pycocoevalcap_file("tokenizer/stanford-corenlp-3.4.1.jar")
    except MetricUnavailableError as error:
        return [f"No caption metric will be available: {error.message}; {error.fix}"]
    if not _needs_spice(wanted):
        return []
    try:
        java.library()
        find_spice_files(options.cache_path).class_path()
    except MetricUnavailableError as error:
        return [f"SPICE and SPIDEr will be unavailable: {error.message}; {error.fix}"]
    return []


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    wanted: Sequence[str],
    options: ScoringConfig,
) -> CaptionScores:
    """Score a set of captions.

    Args:
        candidates: N raw captions, at least one.
        references: N rows of at least one raw reference.
        wanted: names of metrics: bleu_1 ... bleu_4, rouge_l, cider_d, meteor, spice, spider.
        options: how.

    Returns:
        CaptionScores: every wanted metric, and those that it is made of.
    """
    counts = [len(row) for row in references]
    details: dict[str, Any] = {"references_per_row": {"fewest": min(counts), "most": max(counts)}}
    try:
        java = find_java(options.java_path)
        details["java"] = f"{java.version} ({java.source})"
        protocols = _protocols(wanted, caption_protocol(java, references), options)
        with contextlib.ExitStack() as opened:
            spice = _start_spice(opened, java, options) if _needs_spice(wanted) else None
            metrics = opened.enter_context(CaptionMetrics(java))
            captions = metrics.tokenize(candidates, references)
            details["notes"] = _notes(captions)
            outcomes = _library_outcomes(metrics, captions, wanted)
            if spice is not None:
                outcomes["spice"] = attempt("spice", partial(spice, captions, details))
    except FAILURES as error:
        outcome = failed("tokenisation of captions", error)
        return CaptionScores(dict.fromkeys(wanted, outcome), dict.fromkeys(wanted, ""), details)
    if "spider" in wanted:
        outcomes["spider"] = _spider(outcomes["cider_d"], outcomes["spice"])
    return CaptionScores(outcomes, protocols, details)


def _needs_spice(wanted: Sequence[str]) -> bool:
    return "spice" in wanted or "spider" in wanted


def _protocols(wanted: Sequence[str], common: str, options: ScoringConfig) -> dict[str, str]:
    library, spice = library_protocol(), spice_protocol(options.spice_max_words)
    special = {
        "spice": f"{spice}; {common}",
        "spider": f"(CIDEr-D + SPICE) / 2; {library}; {spice}; {common}",
        "meteor": f"METEOR 1.5 -l en -norm; {library}; {common}",
    }
    return {name: special.get(name, f"{library}; {common}") for name in wanted}


def _notes(captions: Captions) -> list[str]:
    if len(set(captions.references)) == 1 and len(captions.references) > 1:
        return ["all rows have the same references: no word is rare, so CIDEr-D is 0 whatever the captions say"]
    return []


def _library_outcomes(metrics: CaptionMetrics, captions: Captions, wanted: Sequence[str]) -> dict[str, Outcome]:
    """The outcomes of aac-metrics' own metrics."""
    outcomes: dict[str, Outcome] = {}
    if any(name in wanted for name in BLEU):
        outcomes.update(_bleu_outcomes(metrics, captions))
    compute: dict[str, Callable[[Captions], CaptionScore]] = {
        "rouge_l": metrics.rouge_l,
        "cider_d": metrics.cider_d,
        "meteor": metrics.meteor,
    }
    for name, method in compute.items():
        if name in wanted or (name == "cider_d" and "spider" in wanted):
            outcomes[name] = attempt(name, partial(_computed, method, captions))
    return outcomes


def _bleu_outcomes(metrics: CaptionMetrics, captions: Captions) -> dict[str, Outcome]:
    """All four orders, which are one computation."""
    try:
        scores = metrics.bleu(captions)
    except FAILURES as error:
        return dict.fromkeys(BLEU, failed("bleu", error))
    return {name: Outcome(score.corpus, score.rows) for name, score in zip(BLEU, scores, strict=True)}


def _computed(method: Callable[[Captions], CaptionScore], captions: Captions) -> Outcome:
    score = method(captions)
    return Outcome(score.corpus, score.rows)


def _start_spice(
    opened: contextlib.ExitStack, java: Java, options: ScoringConfig
) -> Callable[[Captions, dict[str, Any]], Outcome]:
    """Start SPICE's worker if it can be had; what comes back scores with it, or says why it cannot."""
    try:
        files = find_spice_files(options.cache_path)
        worker = opened.enter_context(SpiceWorker(files, java, threads=options.threads))
    except FAILURES as error:
        outcome = failed("spice", error)
        return lambda _captions, _details: outcome

    def run(captions: Captions, details: dict[str, Any]) -> Outcome:
        details["spice_files"] = f"{files.source}; {files.remark}" if files.remark else files.source
        score = worker.score(captions, max_words=options.spice_max_words, progress=_Progress())
        details["spice_cut_captions"] = score.cut
        details["spice_tuples"] = {
            "matched": sum(row.matched for row in score.rows),
            "candidate_only": sum(row.candidate_only for row in score.rows),
            "reference_only": sum(row.reference_only for row in score.rows),
        }
        return Outcome(score.corpus, rows=tuple(row.score for row in score.rows))

    return run


class _Progress:
    """Logs SPICE's progress a few times."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        if done >= self._next * total:
            log.info("SPICE: %d of %d captions parsed", done, total)
            self._next = done / total + 0.25


def _spider(cider_d: Outcome, spice: Outcome) -> Outcome:
    """(CIDEr-D + SPICE) / 2 of the set and of each row; without one of the two there is none."""
    for part in (cider_d, spice):
        if part.value is None:
            return Outcome(None, reason=part.reason, fix=part.fix)
    assert cider_d.value is not None
    assert spice.value is not None
    rows = tuple(_mean(*pair) for pair in zip(cider_d.rows, spice.rows, strict=True))
    return Outcome((cider_d.value + spice.value) / 2, rows=rows)


def _mean(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2
