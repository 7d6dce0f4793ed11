"""All caption metrics of a set: raw captions and references in, Scores out.

SPICE's worker loads while the others are computed. Whatever one of them needs and does not find, the others
go on.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from evaluator.config.sections import ScoringConfig
from evaluator.errors import MetricUnavailableError
from evaluator.scoring.captioning import (
    BLEU,
    LIBRARY,
    CaptionMetrics,
    Captions,
    caption_protocol,
    library_protocol,
)
from evaluator.scoring.captions.model_metrics import (
    FER_FIELD,
    MODEL_METRICS,
    SBERT_FIELD,
    check_model_metrics,
    model_results,
)
from evaluator.scoring.captions.package_files import pycocoevalcap_file
from evaluator.scoring.captions.ptb import JAR
from evaluator.scoring.captions.sentence_models import PACKAGES
from evaluator.scoring.java import Java, find_java
from evaluator.scoring.protocols.protocol import Fields, Protocol
from evaluator.scoring.protocols.signature import Signature
from evaluator.scoring.result import FAILURES, MetricResult, Scores, attempt, failed
from evaluator.scoring.spice import SpiceWorker, spice_protocol
from evaluator.scoring.spice_files import find_spice_files
from evaluator.tasks import AAC

log = logging.getLogger(__name__)


def check_captions(wanted: Sequence[str], config: ScoringConfig) -> list[str]:
    """What `score_captions` will lack, in sentences; nothing is started but `java -version`."""
    try:
        java = find_java(config.java_path)
        pycocoevalcap_file(JAR)
    except MetricUnavailableError as error:
        return [f"No caption metric will be available: {error.message}; {error.fix}"]
    told = check_model_metrics(wanted)
    if not _needs_spice(wanted):
        return told
    try:
        java.library()
        find_spice_files(config.cache_path).class_path()
    except MetricUnavailableError as error:
        return [f"SPICE and SPIDEr will be unavailable: {error.message}; {error.fix}", *told]
    return told


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    protocol: Protocol,
    wanted: Sequence[str],
    config: ScoringConfig,
) -> Scores:
    """Score a set of captions.

    Args:
        candidates: N raw captions, at least one.
        references: N rows of at least one raw reference.
        protocol: one that scores captions.
        wanted: names of metrics: bleu_1 ... bleu_4, rouge_l, cider_d, meteor, spice, spider.
        config: how.

    Returns:
        Scores: every wanted metric; what SPIDEr is made of is there only if it is wanted itself.
    """
    rules = protocol.captions
    if rules is None:
        raise ValueError(f"{protocol.name} scores no captions")
    given = [text.lower() for text in candidates] if rules.lowered else candidates
    counts = [len(row) for row in references]
    details: dict[str, Any] = {"references_per_row": {"fewest": min(counts), "most": max(counts)}}
    try:
        java = find_java(config.java_path)
        details["java"] = f"{java.version} ({java.source})"
        with contextlib.ExitStack() as opened:
            spice = _start_spice(opened, java, config, details) if _needs_spice(wanted) else None
            library = opened.enter_context(CaptionMetrics(java))
            captions = library.tokenize(given, references, alone=rules.alone)
            details["notes"] = _notes(captions)
            found = {result.name: result for result in _library_results(library, captions, wanted)}
            if spice is not None:
                [found["spice"]] = attempt(["spice"], partial(_alone, spice, captions))
    except FAILURES as error:
        return Scores(AAC.name, len(candidates), failed(wanted, error), details)
    if _needs_spider(wanted):
        found["spider"] = _spider(found["cider_d"], found["spice"])
    if set(wanted) & set(MODEL_METRICS):
        found |= model_results(captions, found.get("spider"), wanted)
    protocols = _protocols(wanted, caption_protocol(java, references), config)
    metrics = tuple(
        replace(found[name], protocol=protocols[name], signature=_signature(protocol, found[name], references, config))
        for name in wanted
    )
    per_sample = {metric.name: metric.rows for metric in metrics if metric.rows}
    return Scores(AAC.name, len(candidates), metrics, details, per_sample)


def _needs_spice(wanted: Sequence[str]) -> bool:
    return "spice" in wanted or _needs_spider(wanted)


def _needs_spider(wanted: Sequence[str]) -> bool:
    return "spider" in wanted or "spider_fl" in wanted


def _protocols(wanted: Sequence[str], common: str, config: ScoringConfig) -> dict[str, str]:
    spice = spice_protocol(config.spice_max_words)
    special = {
        "cider_d": f"CIDEr-D of the whole set at once; {common}",
        "spice": f"{spice}; {common}",
        "spider": f"(CIDEr-D + SPICE) / 2; {spice}; {common}",
        "meteor": f"METEOR 1.5 -l en -norm; {common}",
        **{name: f"{MODEL_METRICS[name]}; {common}" for name in MODEL_METRICS},
    }
    return {name: special.get(name) or f"{library_protocol()}; {common}" for name in wanted}


def _signature(
    protocol: Protocol, metric: MetricResult, references: Sequence[Sequence[str]], config: ScoringConfig
) -> Signature:
    """A metric's signature; what has no value has none."""
    if metric.value is None:
        return Signature()
    cider: Fields = (("cider-d", "set-wide"),)
    spice: Fields = (("spice", "1.0+corenlp-3.6.0"), ("spice-words", str(config.spice_max_words)))
    special: dict[str, Fields] = {
        "cider_d": cider,
        "spice": spice,
        "spider": (*cider, *spice),
        "meteor": (("meteor", "1.5-en-norm"),),
        "spider_fl": (*cider, *spice, FER_FIELD),
        "fense": (SBERT_FIELD, FER_FIELD),
        "sbert_sim": (SBERT_FIELD,),
        "fer": (FER_FIELD,),
    }
    packages = PACKAGES if metric.name in MODEL_METRICS else () if metric.name in special else (LIBRARY,)
    return protocol.sign_captions(special.get(metric.name, ()), packages, references=references)


def _notes(captions: Captions) -> list[str]:
    if len(set(captions.references)) == 1 and len(captions.references) > 1:
        return ["all rows have the same references: no word is rare, so CIDEr-D is 0 whatever the captions say"]
    return []


def _library_results(library: CaptionMetrics, captions: Captions, wanted: Sequence[str]) -> list[MetricResult]:
    """All but SPICE and SPIDEr; all four orders of BLEU are one computation."""
    results: list[MetricResult] = []
    if any(name in wanted for name in BLEU):
        results += attempt(BLEU, partial(library.bleu, captions))
    compute: dict[str, Callable[[Captions], MetricResult]] = {
        "rouge_l": library.rouge_l,
        "cider_d": library.cider_d,
        "meteor": library.meteor,
    }
    for name, method in compute.items():
        if name in wanted or (name == "cider_d" and _needs_spider(wanted)):
            results += attempt([name], partial(_alone, method, captions))
    return results


def _alone(method: Callable[[Captions], MetricResult], captions: Captions) -> list[MetricResult]:
    return [method(captions)]


def _start_spice(
    opened: contextlib.ExitStack, java: Java, config: ScoringConfig, details: dict[str, Any]
) -> Callable[[Captions], MetricResult]:
    """Start SPICE's worker if it can be had; what comes back scores with it, or says why it cannot."""
    try:
        files = find_spice_files(config.cache_path)
        worker = opened.enter_context(SpiceWorker(files, java, threads=config.threads))
    except FAILURES as error:
        [result] = failed(["spice"], error)
        return lambda _captions: result

    def run(captions: Captions) -> MetricResult:
        details["spice_files"] = f"{files.source}; {files.remark}" if files.remark else files.source
        score = worker.score(captions, max_words=config.spice_max_words, progress=_Progress())
        totals = score.totals
        details["spice_cut_captions"] = totals.pop("cut_captions")
        details["spice_tuples"] = totals
        return score

    return run


class _Progress:
    """Logs SPICE's progress a few times."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        if done >= self._next * total:
            log.info("SPICE: %d of %d captions parsed", done, total)
            self._next = done / total + 0.25


def _spider(cider_d: MetricResult, spice: MetricResult) -> MetricResult:
    """(CIDEr-D + SPICE) / 2 of the set and of each row; without one of the two there is none."""
    for part in (cider_d, spice):
        if part.value is None:
            return replace(part, name="spider")
    rows = tuple(_mean(*pair) for pair in zip(cider_d.rows, spice.rows, strict=True))
    return MetricResult("spider", _mean(cider_d.value, spice.value), rows)


def _mean(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2
