"""Captioning metrics: captions and references in, a MetricResult without its protocol out.

PTB tokens and METEOR are Java's (captions/), BLEU and ROUGE-L pycocoevalcap's, CIDEr-D is the evaluator's own
(cider.py). This file keeps their preconditions, and sees to it that Java's processes end.
"""

import contextlib
import importlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.captions.kept import PTB, KeptTexts
from evaluator.scoring.captions.meteor import meteor_scores
from evaluator.scoring.captions.package_files import FIX
from evaluator.scoring.captions.ptb import ptb_tokens
from evaluator.scoring.cider import cider_d
from evaluator.scoring.java import Java, JavaProcesses
from evaluator.scoring.normalize import caption_line
from evaluator.scoring.result import MetricResult

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
LIBRARY = "pycocoevalcap"
"""The distribution that computes BLEU and ROUGE-L."""


@dataclass(frozen=True, slots=True)
class Captions:
    """A set of tokenised captions: row i's candidate and its references, words joined by one space."""

    candidates: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]


class CaptionMetrics:
    """The metrics over one set. Use it as a context: Java processes end with the block.

    Example:
        with CaptionMetrics(find_java()) as metrics:
            captions = metrics.tokenize(["A dog barks."], [["Dogs are barking."]])
            score = metrics.rouge_l(captions)
    """

    def __init__(self, java: Java) -> None:
        self.java = java
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "CaptionMetrics":
        with contextlib.ExitStack() as opened:
            self._processes = opened.enter_context(JavaProcesses())
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def tokenize(
        self, candidates: Sequence[str], references: Sequence[Sequence[str]], *, alone: bool = True
    ) -> Captions:
        """Tokenise both sides by the Penn Treebank rules of CoreNLP 3.4.1, lower-cased, without punctuation.

        Args:
            candidates: N raw captions.
            references: N lists of raw captions.
            alone: whether each caption is tokenised for itself, in one Java call for everything. Otherwise each side is
                one text, as aac-metrics' `evaluate` has it: "no." before a line that starts with a number keeps its
                full stop.

        Returns:
            Captions: empty where a text says nothing.
        """
        candidate_lines = [caption_line(text) for text in candidates]
        reference_lines = [[caption_line(text) for text in texts] for texts in references]
        if not alone:
            return self._tokenize_sides(candidate_lines, reference_lines)
        of_references = {line for row in reference_lines for line in row if line}
        distinct = of_references.union(candidate_lines) - {""}
        kept = KeptTexts(PTB)
        known = kept.read(sorted(distinct))
        new = self._tokenize_lines(sorted(distinct - known.keys()))
        kept.write({line: tokens for line, tokens in new.items() if line in of_references})
        tokens = {"": "", **known, **new}
        return Captions(
            candidates=tuple(tokens[line] for line in candidate_lines),
            references=tuple(tuple(tokens[line] for line in row) for row in reference_lines),
        )

    def _tokenize_lines(self, lines: Sequence[str]) -> dict[str, str]:
        if not lines:
            return {}
        output = self._tokens([part for line in lines for part in (line, "")])
        return dict(zip(lines, output[::2], strict=True))

    def _tokenize_sides(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Captions:
        flat = iter(self._tokens([text for row in references for text in row]))
        return Captions(
            candidates=tuple(self._tokens(candidates)),
            references=tuple(tuple(itertools.islice(flat, len(row))) for row in references),
        )

    def _tokens(self, lines: Sequence[str]) -> list[str]:
        return ptb_tokens(lines, self.java, self._processes) if lines else []

    def bleu(self, captions: Captions) -> tuple[MetricResult, ...]:
        """BLEU of orders 1, 2, 3 and 4, each 0-1. The set's score is not the mean of the rows'."""
        scorer = _library("bleu.bleu_scorer").BleuScorer(n=4)
        for candidate, row in zip(captions.candidates, captions.references, strict=True):
            scorer += (candidate, list(row))
        # "closest" is what the library takes of several rows; of one row it would take another rule.
        corpus, rows = scorer.compute_score(option="closest")
        return tuple(
            MetricResult(name, score, tuple(row_scores), _bleu_counts(scorer.ctest, order))
            for order, (name, score, row_scores) in enumerate(zip(BLEU, corpus, rows, strict=True), start=1)
        )

    def rouge_l(self, captions: Captions) -> MetricResult:
        """ROUGE-L, 0-1: the mean over rows of the best reference's.

        A reference without words is left out, since the library divides by its length; a row that has no
        other one scores 0.
        """
        library = _library("rouge.rouge").Rouge()
        # The library splits at spaces alone, and a token may hold a no-break space: "1 1/2" is one.
        worded = [[" ".join(text.split()) for text in row if text] for row in captions.references]
        rows = tuple(
            float(library.calc_score([" ".join(candidate.split())], row)) if row else 0.0
            for candidate, row in zip(captions.candidates, worded, strict=True)
        )
        return MetricResult("rouge_l", float(np.mean(rows)), rows)

    def cider_d(self, captions: Captions) -> MetricResult:
        """CIDEr-D, 0-10; it weighs words by how rare they are in this set: subsets do not compare.

        Raises:
            MetricUnavailableError: fewer than two rows, or references without any word.
        """
        if len(captions.candidates) < 2:
            reason = "CIDEr-D needs at least 2 rows: it weighs words by how many rows' references have them"
            raise MetricUnavailableError(reason, fix="score at least 2 rows")
        if not any(text for row in captions.references for text in row):
            raise MetricUnavailableError("no reference has any word", fix="check the annotation's texts")
        rows = cider_d(captions.candidates, captions.references)
        return MetricResult("cider_d", float(rows.mean()), tuple(rows.tolist()))

    def meteor(self, captions: Captions) -> MetricResult:
        """METEOR 1.5 (`-l en -norm`), 0-1. Java reads a table for about 30 s first and takes up to 2 GB."""
        corpus, rows = meteor_scores(captions.candidates, captions.references, self.java, self._processes)
        return MetricResult("meteor", corpus, rows)


def caption_protocol(java: Java, references: Sequence[Sequence[str]]) -> str:
    """What decides every caption metric besides the captions, for each place where a score is shown."""
    counts = [len(row) for row in references]
    fewest, most = min(counts, default=0), max(counts, default=0)
    number = str(most) if fewest == most else f"{fewest}-{most}"
    plural = "" if most == 1 else "s"
    return f"PTB tokens (CoreNLP 3.4.1) on both sides; {number} reference{plural} a row; Java {java.version}"


def library_protocol() -> str:
    """The library that computes BLEU and ROUGE-L."""
    return f"{LIBRARY} {metadata.version(LIBRARY)}"


def _library(module: str) -> Any:
    """A module of pycocoevalcap.

    Raises:
        MetricUnavailableError: it is not installed.
    """
    try:
        return importlib.import_module(f"{LIBRARY}.{module}")
    except ModuleNotFoundError as error:
        raise MetricUnavailableError(f"the package {LIBRARY} is not installed", fix=FIX) from error


def _bleu_counts(rows: Sequence[Mapping[str, Any]], orders: int) -> dict[str, tuple[int, ...]]:
    """What BLEU of an order is computed from, a count a row: n-grams that match, n-grams, words of both sides.

    The reference's words are those of the reference that is nearest in length, of two as near the shorter one.
    """
    return {
        **{f"matching_{n}": tuple(row["correct"][n - 1] for row in rows) for n in range(1, orders + 1)},
        **{f"ngrams_{n}": tuple(row["guess"][n - 1] for row in rows) for n in range(1, orders + 1)},
        "candidate_words": tuple(row["testlen"] for row in rows),
        "reference_words": tuple(
            min((abs(length - row["testlen"]), length) for length in row["reflen"])[1] for row in rows
        ),
    }
