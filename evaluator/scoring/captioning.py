"""Captioning metrics of aac-metrics: captions and references in, a MetricResult without its protocol out.

PTB tokenisation, BLEU, ROUGE-L, CIDEr-D and METEOR are the library's own; its Java files come from
pycocoevalcap. This file is the adapter: it imports only the library's modules that are needed (the package
itself imports a chain of model libraries), keeps their preconditions, and sees to it that their Java
processes end.
"""

import contextlib
import functools
import importlib
import importlib.util
import itertools
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.cider import cider_d
from evaluator.scoring.java import Java, JavaProcesses
from evaluator.scoring.normalize import caption_line
from evaluator.scoring.result import MetricResult

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")

_LIBRARY = "aac_metrics"
# Packages whose __init__ imports everything; stand-ins with only a path take their place during the import. The plain
# import costs 4.0 s of CPU instead of 0.8 (1 s after a SALMONN is loaded), and caption scores would be lost wherever
# one of its 4,600 modules, sentence-transformers and torchmetrics among them, does not import. The copies are ours, so
# that what is replaced in them below is replaced for nobody else.
_HEAVY_PACKAGES = (_LIBRARY, f"{_LIBRARY}.functional")
_MODULES = {
    "bleu": "functional.bleu",
    "rouge_l": "functional.rouge_l",
    "meteor": "functional.meteor",
    "tokenization": "utils.tokenization",
}
_IMPORT_LOCK = threading.Lock()

# Where aac-metrics looks below its cache folder -> where pycocoevalcap 1.2 has that file.
_JAVA_FILES = {
    "aac-metrics/stanford_nlp/stanford-corenlp-3.4.1.jar": "tokenizer/stanford-corenlp-3.4.1.jar",
    "aac-metrics/meteor/meteor-1.5.jar": "meteor/meteor-1.5.jar",
    "aac-metrics/meteor/data/paraphrase-en.gz": "meteor/data/paraphrase-en.gz",
}


@dataclass(frozen=True, slots=True)
class Captions:
    """A set of tokenised captions: row i's candidate and its references, words joined by one space."""

    candidates: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]


def pycocoevalcap_file(name: str) -> Path:
    """A file of the installed pycocoevalcap: "meteor/meteor-1.5.jar".

    Raises:
        MetricUnavailableError: the package or the file is not there.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    fix = "install the requirements again: pip install -r requirements.txt"
    raise MetricUnavailableError(f"{name} of the package pycocoevalcap is not installed", fix=fix)


class CaptionMetrics:
    """The metrics over one set. Use it as a context: Java processes and private files end with the block.

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
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="audiolm-captions-"))
            self._folder = Path(folder)
            _lay_out(self._folder)
            self._library = _import_library(opened.enter_context(JavaProcesses()))
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
        distinct = {line for line in [*candidate_lines, *(line for row in reference_lines for line in row)] if line}
        tokens = dict.fromkeys(distinct, "") | self._tokenize_lines(sorted(distinct)) | {"": ""}
        return Captions(
            candidates=tuple(tokens[line] for line in candidate_lines),
            references=tuple(tuple(tokens[line] for line in row) for row in reference_lines),
        )

    def _tokenize_lines(self, lines: Sequence[str]) -> dict[str, str]:
        if not lines:
            return {}
        output = self._run_tokenizer([part for line in lines for part in (line, "")])
        return dict(zip(lines, output[::2], strict=True))

    def _tokenize_sides(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Captions:
        flat = iter(self._run_tokenizer([text for row in references for text in row]))
        return Captions(
            candidates=tuple(self._run_tokenizer(candidates)),
            references=tuple(tuple(itertools.islice(flat, len(row))) for row in references),
        )

    def _run_tokenizer(self, lines: Sequence[str]) -> list[str]:
        output: list[str] = self._library.tokenization.preprocess_mono_sents(
            list(lines),
            cache_path=str(self._folder),
            java_path=str(self.java.executable),
            tmp_path=str(self._folder),
        )
        return output

    def bleu(self, captions: Captions) -> tuple[MetricResult, ...]:
        """BLEU of orders 1, 2, 3 and 4, each 0-1. The set's score is not the mean of the rows'."""
        # The two halves of the library's `bleu`: between them are the counts that the score is made of.
        counted = self._library.bleu._bleu_update(*_lists(captions), 4, str.split, [], [])
        corpus, rows = self._library.bleu._bleu_compute(*counted, return_1_to_n=True)
        scores = zip(BLEU, corpus["bleu_1_to_4"].tolist(), rows["bleu_1_to_4"].tolist(), strict=True)
        return tuple(
            MetricResult(name, score, tuple(row_scores), _bleu_counts(counted[0], order))
            for order, (name, score, row_scores) in enumerate(scores, start=1)
        )

    def rouge_l(self, captions: Captions) -> MetricResult:
        """ROUGE-L, 0-1: the mean over rows of the best reference's.

        A reference without words is left out, since the library divides by its length; a row that has no
        other one scores 0.
        """
        worded = [[text for text in row if text] for row in captions.references]
        scored = [index for index, row in enumerate(worded) if row]
        rows = [0.0] * len(worded)
        if scored:
            candidates = [captions.candidates[index] for index in scored]
            _, by_row = self._library.rouge_l.rouge_l(candidates, [worded[index] for index in scored])
            for index, value in zip(scored, by_row["rouge_l"].tolist(), strict=True):
                rows[index] = value
        return MetricResult("rouge_l", float(np.mean(rows)), tuple(rows))

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
        # "|||" divides the fields of METEOR's line protocol; PTB tokens never have it, and the library takes it out of
        # candidates only.
        candidates = [text.replace("|||", " ") for text in captions.candidates]
        references = [[text.replace("|||", " ") for text in row] for row in captions.references]
        corpus, rows = self._library.meteor.meteor(
            candidates,
            references,
            cache_path=str(self._folder),
            java_path=str(self.java.executable),
            use_shell=False,
        )
        return MetricResult("meteor", float(corpus["meteor"]), tuple(rows["meteor"].tolist()))


def caption_protocol(java: Java, references: Sequence[Sequence[str]]) -> str:
    """What decides every caption metric besides the captions, for each place where a score is shown."""
    counts = [len(row) for row in references]
    fewest, most = min(counts, default=0), max(counts, default=0)
    number = str(most) if fewest == most else f"{fewest}-{most}"
    plural = "" if most == 1 else "s"
    return f"PTB tokens (CoreNLP 3.4.1) on both sides; {number} reference{plural} a row; Java {java.version}"


def library_protocol() -> str:
    """The library that computes what `CaptionMetrics` computes."""
    return f"aac-metrics {metadata.version('aac-metrics')}"


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


def _lists(captions: Captions) -> tuple[list[str], list[list[str]]]:
    """The library refuses tuples."""
    return list(captions.candidates), [list(row) for row in captions.references]


def _lay_out(folder: Path) -> None:
    """Make `folder` look like the cache that aac-metrics downloads into, by links where they are allowed."""
    for place, name in _JAVA_FILES.items():
        source, target = pycocoevalcap_file(name), folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source)
        except OSError:  # Windows without the right to make links
            shutil.copyfile(source, target)


@dataclass(frozen=True, slots=True)
class _Library:
    """The modules of aac-metrics that are used."""

    bleu: Any
    rouge_l: Any
    meteor: Any
    tokenization: Any


def _import_library(java: JavaProcesses) -> _Library:
    """Import a private copy of the library's modules, whose Java starts through `java`."""
    with _IMPORT_LOCK, _bare_packages():
        modules = {name: importlib.import_module(f"{_LIBRARY}.{path}") for name, path in _MODULES.items()}
    _lift_java_limit(modules)
    modules["tokenization"].subprocess = java  # type: ignore[attr-defined]
    modules["meteor"].Popen = java.Popen  # type: ignore[attr-defined]
    return _Library(**modules)


def _lift_java_limit(modules: dict[str, ModuleType]) -> None:
    """Let the library use any Java that runs.

    It refuses majors above 13 although its two programs give the same output on Java 11, 17 and 25; what
    `find_java` returns has run already.
    """
    accept: Callable[[object], bool] = lambda _path: True  # noqa: E731
    for name in ("tokenization", "meteor"):
        modules[name].check_java_path = accept  # type: ignore[attr-defined]


@contextlib.contextmanager
def _bare_packages() -> Iterator[None]:
    """Import modules of the library without its packages' __init__; leaves sys.modules as it was."""
    spec = importlib.util.find_spec(_LIBRARY)
    if spec is None or not spec.submodule_search_locations:
        fix = "install the requirements again: pip install -r requirements.txt"
        raise MetricUnavailableError("the package aac-metrics is not installed", fix=fix)
    root = Path(spec.submodule_search_locations[0])
    before = _take_modules()
    stands_in = "torch" not in sys.modules
    try:
        if stands_in:
            sys.modules["torch"] = _numbers_module()
        for name in _HEAVY_PACKAGES:
            package = ModuleType(name)
            package.__path__ = [str(functools.reduce(Path.joinpath, name.split(".")[1:], root))]
            sys.modules[name] = package
        yield
    finally:
        if stands_in:
            del sys.modules["torch"]
        _take_modules()
        sys.modules.update(before)


def _numbers_module() -> ModuleType:
    """What the library uses of torch: it hands out float64 numbers as tensors. NumPy's arrays are as good.

    So captions are scored where torch is not installed, and without the seconds of its import where it is not loaded.
    """
    numbers: Any = ModuleType("torch")
    numbers.Tensor = numbers.device = np.ndarray
    numbers.float64 = np.float64
    numbers.as_tensor = np.asarray
    numbers.from_numpy = np.asarray
    return cast("ModuleType", numbers)


def _take_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == _LIBRARY or name.startswith(f"{_LIBRARY}.")]
    return {name: sys.modules.pop(name) for name in names}
