"""Speech translation: BLEU and chrF of a set, by sacreBLEU (Post 2018, arXiv:1804.08771)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from evaluator.errors import AnnotationError, Problem
from evaluator.scoring.protocols.signature import sign
from evaluator.scoring.result import MetricResult, Scores
from evaluator.tasks import ST

# Label -> its target language, and the tokenizers of sacreBLEU's that find words in it; the first is the one to take.
_LANGUAGES = {
    "translation_ec": ("Chinese", ("zh", "char")),
    "translation_en2ja": ("Japanese", ("char",)),
    "translation_en2de": ("German", ("13a", "intl")),
}


def check_language(labels: Sequence[str], tokenizer: str) -> list[str]:
    """Look at the target language of a set, which BLEU and chrF are computed of as a whole.

    Args:
        labels: the task label of each row.
        tokenizer: as of `score_translations`.

    Returns:
        list[str]: a sentence where the tokenizer is made for another language.

    Raises:
        AnnotationError: the set has several target languages.
    """
    counts = Counter(label for label in labels if label in _LANGUAGES)
    if len(counts) > 1:
        problems = [Problem(label, f"{_LANGUAGES[label][0]}, {count} row(s)") for label, count in counts.items()]
        told = "The set has several target languages, of which BLEU and chrF have no common score; score each apart:"
        raise AnnotationError(told, problems)
    for label in counts:
        language, fitting = _LANGUAGES[label]
        if tokenizer not in fitting:
            return [
                f"BLEU of {language} ({label}) with the tokenizer {tokenizer} is no usual score: take "
                f"scoring.bleu_tokenizer: {fitting[0]}."
            ]
    return []


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
