"""SPIDEr-FL, FENSE and what they are made of: tokenised captions and SPIDEr in, MetricResults out.

FER is the share of rows in which an error of fluency is found, SBERT similarity the mean cosine. FENSE is a row's
similarity, SPIDEr-FL its SPIDEr, of which an error takes 90 %; both are means over rows. What lacks a part is
unavailable: SPIDEr-FL is never SPIDEr under another name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.captioning import Captions
from evaluator.scoring.captions.sentence_models import DETECTOR, PENALTY, SBERT, check_models, run_models
from evaluator.scoring.result import FAILURES, MetricResult, failed

MODEL_METRICS: Mapping[str, str] = {
    "spider_fl": f"SPIDEr, of which an error found by {DETECTOR} takes 90 %",
    "fense": f"similarity by {SBERT}, of which an error found by {DETECTOR} takes 90 %",
    "sbert_sim": f"cosine of embeddings by {SBERT}, mean over references",
    "fer": f"rows with an error found by {DETECTOR}",
}
"""The metrics that need models, and how each is made."""
SBERT_FIELD, FER_FIELD = ("sbert", SBERT), ("fer", DETECTOR)

_WITHOUT_DETECTOR = {"sbert_sim"}
_WITH_ENCODER = {"fense", "sbert_sim"}


def check_model_metrics(wanted: Sequence[str]) -> list[str]:
    """What `model_results` will lack, as far as that is known without loading a model."""
    names = [name for name in MODEL_METRICS if name in wanted]
    try:
        if names:
            check_models(detector=not set(names) <= _WITHOUT_DETECTOR)
    except MetricUnavailableError as error:
        return [f"{', '.join(names)} will be unavailable: {error.message}; {error.fix}"]
    return []


def model_results(captions: Captions, spider: MetricResult | None, wanted: Sequence[str]) -> dict[str, MetricResult]:
    """Compute the wanted ones of MODEL_METRICS.

    Args:
        captions: tokenised, at least one row.
        spider: for SPIDEr-FL.
        wanted: names of metrics, others among them.
    """
    names = [name for name in MODEL_METRICS if name in wanted]
    try:
        found = run_models(
            captions.candidates,
            captions.references,
            encoder=bool(_WITH_ENCODER & set(names)),
            detector=not set(names) <= _WITHOUT_DETECTOR,
        )
    except FAILURES as error:
        return {result.name: result for result in failed(names, error)}
    rows = {"sbert_sim": found.similarity, "fer": found.errors}
    if "fense" in names:
        rows["fense"] = _penalised(found.similarity, found.errors)
    results: dict[str, MetricResult] = {}
    for name in names:
        if name != "spider_fl":
            results[name] = _mean(name, rows[name])
        elif spider is None or spider.value is None:
            results[name] = replace(spider or MetricResult(name, None), name=name)
        else:
            results[name] = _mean(name, _penalised([row or 0.0 for row in spider.rows], found.errors))
    return results


def _penalised(scores: Sequence[float], errors: Sequence[float]) -> tuple[float, ...]:
    return tuple(score * (1 - PENALTY * error) for score, error in zip(scores, errors, strict=True))


def _mean(name: str, rows: Sequence[float]) -> MetricResult:
    return MetricResult(name, sum(rows) / len(rows), tuple(rows))
