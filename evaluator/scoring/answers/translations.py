"""Speech translation: BLEU and chrF of a set, by sacreBLEU (Post 2018, arXiv:1804.08771)."""

from collections.abc import Sequence
from typing import Any

from evaluator.scoring.protocols.signature import sign
from evaluator.scoring.result import MetricResult, Scores
from evaluator.tasks import ST


def score_translations(hypotheses: Sequence[str], references: Sequence[str], *, tokenizer: str) -> Scores:
    """Score the translations of a set.

    Args:
        hypotheses: N raw translations.
        references: N raw references.
        tokenizer: sacreBLEU's, for BLEU: "13a", "zh", "char" or "intl".

    Returns:
        Scores: sacreBLEU's corpus scores, 0 to 100; no score is taken of a single row.
    """
    # Here, because a command's --help imports this file.
    from sacrebleu import BLEU, CHRF

    kinds: dict[str, Any] = {"bleu": BLEU(tokenize=tokenizer), "chrf": CHRF()}
    metrics = []
    for name, metric in kinds.items():
        score = metric.corpus_score(list(hypotheses), [list(references)])
        # A row's part of what the score is computed from; the sums are the set's.
        counts = metric._extract_corpus_statistics(list(hypotheses), [list(references)])
        evidence = {f"statistic_{place}": told for place, told in enumerate(zip(*counts, strict=True))}
        own = [field.split(":", 1) for field in str(metric.get_signature()).split("|")]
        fields = [(key, value) for key, value in own if key != "version"]
        signature = sign(
            (("protocol", "translation"), *fields, ("unit", "set"), ("rows", str(len(hypotheses)))), ("sacrebleu",)
        )
        metrics.append(
            MetricResult(
                name,
                float(score.score),
                evidence=evidence,
                protocol=f"sacreBLEU {metric.get_signature()}",
                signature=signature,
            )
        )
    return Scores(ST.name, len(hypotheses), tuple(metrics), {})
