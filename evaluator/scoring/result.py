"""The score of a set: one value of one type for every metric, and the table of the metrics that there are.

A metric that cannot be had is a result too: it has no value, but the reason and what to do about it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.protocols.signature import Signature
from evaluator.statistics.interval import Interval
from evaluator.tasks import TaskName

log = logging.getLogger(__name__)

# What the metrics' libraries and Java raise when they cannot score. A bug of ours passes: NameError,
# TypeError and AttributeError are not among them.
FAILURES = (
    MetricUnavailableError,
    OSError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    AssertionError,
    LookupError,
)

Rows = Sequence[float | None]
"""A value a row. A tuple, or where sets are large an array or what computes each value when it is asked for."""

_ERRORS = "errors per reference unit, 0 is best, 1 is 100 %"
_UNIT = "0 to 1"


@dataclass(frozen=True, slots=True)
class MetricKind:
    """What is known of a metric before it is computed.

    Attributes:
        task: what it scores.
        title: its name as the field writes it.
        scale: the range of its values.
        unit: what an error rate counts: "word", "character"; "" for any other metric.
        higher_is_better: False for error rates.
    """

    task: TaskName
    title: str
    scale: str
    unit: str = ""
    higher_is_better: bool = True


KINDS: Mapping[str, MetricKind] = MappingProxyType(
    {
        "wer": MetricKind("asr", "WER", _ERRORS, unit="word", higher_is_better=False),
        "cer": MetricKind("asr", "CER", _ERRORS, unit="character", higher_is_better=False),
        "swer": MetricKind("asr", "sWER", _ERRORS, unit="word", higher_is_better=False),
        "spider": MetricKind("aac", "SPIDEr", "0 to 5.5"),
        "cider_d": MetricKind("aac", "CIDEr-D", "0 to 10"),
        "spice": MetricKind("aac", "SPICE", _UNIT),
        **{f"bleu_{order}": MetricKind("aac", f"BLEU-{order}", _UNIT) for order in (1, 2, 3, 4)},
        "rouge_l": MetricKind("aac", "ROUGE-L", _UNIT),
        "meteor": MetricKind("aac", "METEOR", _UNIT),
        "spider_fl": MetricKind("aac", "SPIDEr-FL", "0 to 5.5"),
        "fense": MetricKind("aac", "FENSE", "-1 to 1"),
        "sbert_sim": MetricKind("aac", "SBERT similarity", "-1 to 1"),
        "fer": MetricKind("aac", "FER", "0 to 1, 0 is best", higher_is_better=False),
        "accuracy": MetricKind("qa", "accuracy", _UNIT),
        "mmau_match": MetricKind("qa", "MMAU match", _UNIT),
        "class_accuracy": MetricKind("cls", "accuracy", _UNIT),
        "macro_f1": MetricKind("cls", "macro-F1", _UNIT),
        "bleu": MetricKind("st", "BLEU", "0 to 100"),
        "chrf": MetricKind("st", "chrF", "0 to 100"),
    }
)
"""Every metric, by its name in files and settings, in the order of reports."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric of a set of N rows.

    Attributes:
        name: one of KINDS; "spider" is (CIDEr-D + SPICE) / 2 and nothing else.
        value: the set's score; None where it cannot be had.
        rows: N values, None where a row has none (no reference words); empty if the metric was not computed.
        evidence: what the value was computed from, as N counts for each name; the sums are the set's. An error rate has
            hits, substitutions, deletions and insertions, SPICE its tuples, BLEU, chrF and macro-F1 their counts;
            others have none.
        protocol: what decides the value besides the texts: normalisation, versions, number of references.
        signature: the same in one line of fields, to be compared and replayed; empty where there is no value.
        reason: why there is no value.
        fix: what to do about that.
        requested: asked for by name, so that its absence is a failure.
        interval: of the value; None where there is none (`scoring/intervals.py` adds it).
    """

    name: str
    value: float | None
    rows: Rows = ()
    evidence: Mapping[str, Sequence[int]] = field(default_factory=dict)
    protocol: str = ""
    signature: Signature = field(default_factory=Signature)
    reason: str | None = None
    fix: str | None = None
    requested: bool = False
    interval: Interval | None = None

    @property
    def kind(self) -> MetricKind:
        """What is known of this metric."""
        return KINDS[self.name]

    @property
    def totals(self) -> dict[str, int]:
        """The evidence of the whole set: name -> sum of the rows' counts."""
        return {name: sum(counts) for name, counts in self.evidence.items()}

    def facts(self) -> dict[str, Any]:
        """What scores.json says of the metric, its rows apart."""
        return {
            "name": self.name,
            "value": self.value,
            "scale": self.kind.scale,
            "protocol": self.protocol,
            "signature": str(self.signature),
            "reason": self.reason,
            "fix": self.fix,
            "higher_is_better": self.kind.higher_is_better,
            "requested": self.requested,
            "interval": None if self.interval is None else self.interval.facts(),
        }


@dataclass(frozen=True, slots=True)
class Scores:
    """What a set scores.

    Attributes:
        task: a task's name.
        num_samples: rows scored; a row without an answer is scored as an empty text.
        metrics: in the order of reports.
        details: facts behind the scores (error counts, Java, files of SPICE ...), plain JSON values.
        per_sample: name -> one value a row, in their order; None where a row has none (no reference words).
    """

    task: str
    num_samples: int
    metrics: tuple[MetricResult, ...]
    details: dict[str, Any]
    per_sample: dict[str, Rows] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, MetricResult]:
        """The metrics by their names: `scores.by_name["wer"].value`."""
        return {metric.name: metric for metric in self.metrics}

    def missing(self) -> tuple[MetricResult, ...]:
        """The metrics that were asked for by name and have no value."""
        return tuple(metric for metric in self.metrics if metric.requested and metric.value is None)


def attempt(names: Sequence[str], compute: Callable[[], Sequence[MetricResult]]) -> Sequence[MetricResult]:
    """Compute metrics; what their library raises becomes the reason why there are none.

    Args:
        names: of what is computed.
        compute: computes them.

    Returns:
        Sequence[MetricResult]: what `compute` returns, or a result without a value for each name.
    """
    try:
        return compute()
    except FAILURES as error:
        return failed(names, error)


def failed(names: Sequence[str], error: BaseException) -> tuple[MetricResult, ...]:
    """The results of metrics whose computation raised `error`."""
    if isinstance(error, MetricUnavailableError):
        reason, fix = error.message, error.fix
    else:
        log.warning("%s failed", ", ".join(names), exc_info=error)
        reason, fix = f"{type(error).__name__}: {error}", "the log has more; please report it"
    return tuple(MetricResult(name, None, reason=reason, fix=fix) for name in names)
