"""Tests of caption metrics: values equal to aac-metrics' own, and the edges that it does not survive."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from library_cache import lay_out

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.captioning import (
    CaptionMetrics,
    Captions,
    caption_protocol,
    library_protocol,
)
from evaluator.scoring.captions import ptb
from evaluator.scoring.captions.package_files import pycocoevalcap_file
from evaluator.scoring.java import Java, find_java

CANDIDATES = ("A dog barks, twice.", "rain falls on a tin roof", "people talk while music plays", "an engine idles")
REFERENCES = (
    ("Two dogs bark.", "A dog is barking twice."),
    ("Rain falls on a metal roof.", "It rains."),
    ("Music plays and people are talking.",),
    ("A car engine idles.", "An engine is running.", "An engine idles."),
)

# Everything that aac-metrics computes here, by its ordinary import; written to standard output as JSON.
PLAIN_LIBRARY = """
import json, sys
import aac_metrics.utils.checks as checks
checks.MAX_JAVA_MAJOR_VERSION = 99
from aac_metrics.functional import bleu, cider_d, meteor, rouge_l
from aac_metrics.utils.tokenization import preprocess_mono_sents, preprocess_mult_sents
job = json.load(sys.stdin)
java = {"cache_path": job["cache"], "java_path": job["java"]}
candidates = preprocess_mono_sents(job["candidates"], **java)
references = preprocess_mult_sents(job["references"], **java)
found = {"candidates": candidates, "references": references}
corpus, rows = bleu(candidates, references, return_1_to_n=True)
found["bleu"] = [corpus["bleu_1_to_4"].tolist(), rows["bleu_1_to_4"].tolist()]
for name, metric, options in (("cider_d", cider_d, {}), ("rouge_l", rouge_l, {}), ("meteor", meteor, java)):
    corpus, rows = metric(candidates, references, **options)
    found[name] = [corpus[name].item(), rows[name].tolist()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def java() -> Java:
    return find_java()


@pytest.fixture(scope="module")
def metrics(java: Java) -> Iterator[CaptionMetrics]:
    with CaptionMetrics(java) as opened:
        yield opened


@pytest.fixture(scope="module")
def captions(metrics: CaptionMetrics) -> Captions:
    return metrics.tokenize(CANDIDATES, REFERENCES)


def test_folders_of_any_name_in_the_locale_c(java: Java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers are often in the locale C, in which Java alone knows no names but ASCII."""
    jar = tmp_path / "임시" / "tokenizer.jar"
    jar.parent.mkdir()
    jar.write_bytes(pycocoevalcap_file(ptb.JAR).read_bytes())
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setattr(ptb, "pycocoevalcap_file", lambda name: jar)
    with CaptionMetrics(java) as opened:
        captions = opened.tokenize(("A dog barks!",), (("Two dogs bark.", "개가 짖는다"),))
    assert captions == Captions(("a dog barks",), (("two dogs bark", "개가 짖는다"),))


@pytest.mark.slow
def test_equal_to_aac_metrics(metrics: CaptionMetrics, tmp_path: Path) -> None:
    golden = json.loads((Path(__file__).parent / "golden_spice.json").read_text(encoding="utf-8"))["items"]
    candidates = [*CANDIDATES, "It rains for 1 1/2 hours.", "", *(item["candidate"] for item in golden)]
    references = [
        *REFERENCES,
        ("1 1/2 hours of rain", "1/2 an hour"),
        ("no.",),
        *(item["references"] for item in golden),
    ]
    captions = metrics.tokenize(candidates, references)
    assert "1\u00a01/2" in captions.candidates[4]
    lay_out(tmp_path)
    job = {
        "candidates": candidates,
        "references": references,
        "cache": str(tmp_path),
        "java": str(metrics.java.executable),
    }
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_LIBRARY], input=json.dumps(job), capture_output=True, text=True, check=True
    )
    plain: dict[str, Any] = json.loads(done.stdout)
    assert list(captions.candidates) == plain["candidates"]
    assert [list(row) for row in captions.references] == plain["references"]
    bleu = metrics.bleu(captions)
    assert [score.value for score in bleu] == plain["bleu"][0]
    assert [list(score.rows) for score in bleu] == plain["bleu"][1]
    for name in ("rouge_l", "meteor"):
        score = getattr(metrics, name)(captions)
        assert [score.value, list(score.rows)] == plain[name], name
    # CIDEr-D is computed for the whole set at once, which sums in another order.
    cider_d = metrics.cider_d(captions)
    assert [cider_d.value, *cider_d.rows] == pytest.approx([plain["cider_d"][0], *plain["cider_d"][1]], abs=1e-12)
    assert 0 < plain["cider_d"][0] < 10  # a comparison of zeros would say nothing


def test_the_golden_captions_tokenise_alike(metrics: CaptionMetrics) -> None:
    items = json.loads((Path(__file__).parent / "golden_spice.json").read_text(encoding="utf-8"))["items"]
    found = metrics.tokenize([item["candidate"] for item in items], [item["references"] for item in items])
    assert list(found.candidates) == [item["ptb_candidate"] for item in items]
    assert [list(row) for row in found.references] == [item["ptb_references"] for item in items]


def test_only_what_is_needed_is_imported() -> None:
    code = (
        "import sys\n"
        "from evaluator.scoring.captioning import CaptionMetrics\n"
        "from evaluator.scoring.java import find_java\n"
        "with CaptionMetrics(find_java()): pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('aac_metrics', 'sentence_transformers', 'transformers', 'torchmetrics', 'torch')])"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


# Lines that have broken tokenisers: separators, quotes, controls, abbreviations before numbers, other scripts.
HOSTILE = [
    "no.",
    "5 dogs",
    "a dog\u2028barks",
    "wind\u0085blows",
    "one\ntwo\r\nthree",
    "tab\tbed\x0b\x0c\x1c",
    "nul\x00l",
    "\ud83d alone",
    "",
    "   ",
    "...",
    '"',
    "she said ``hi''",
    "(parenthesis",
    "a|||b",
    "개가 짖는다",
    "une porte grince à côté",
    "1 1/2 hours",
    "cannot gonna",
    "p.m.",
    "Mr.",
    "U.S.",
    "The end",
    "\ufeffbom",
    "😀",
    "a" * 3000,
]


def test_hostile_captions_keep_their_places(metrics: CaptionMetrics) -> None:
    together = metrics.tokenize(HOSTILE, [[text] for text in HOSTILE])
    assert together.references == tuple((text,) for text in together.candidates)
    tokens = dict(zip(HOSTILE, together.candidates, strict=True))
    assert tokens["a dog\u2028barks"] == "a dog barks"
    assert tokens["wind\u0085blows"] == "wind blows"
    assert tokens["one\ntwo\r\nthree"] == "one two three"
    assert tokens["nul\x00l"] == "nul l"
    assert tokens["cannot gonna"] == "can not gon na"
    assert tokens["개가 짖는다"] == "개가 짖는다"
    assert tokens["une porte grince à côté"] == "une porte grince à côté"
    assert [tokens[text] for text in ("", "   ", "...", '"')] == ["", "", "", ""]
    assert tokens["a" * 3000] == "a" * 3000


def test_tokens_do_not_depend_on_neighbours(metrics: CaptionMetrics) -> None:
    together = dict(zip(HOSTILE, metrics.tokenize(HOSTILE, [["x"]] * len(HOSTILE)).candidates, strict=True))
    shuffled = random.Random(3).sample(HOSTILE, len(HOSTILE))
    again = dict(zip(shuffled, metrics.tokenize(shuffled, [["5 cats"]] * len(shuffled)).candidates, strict=True))
    assert again == together
    for text in ("no.", "p.m.", "Mr.", '"'):
        assert metrics.tokenize([text], [["x"]]).candidates == (together[text],)


def test_nothing_to_tokenise_starts_no_java(metrics: CaptionMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_processes", None)
    assert metrics.tokenize(["", " "], [[""], ["\n", ""]]) == Captions(("", ""), (("",), ("", "")))


def test_one_row_has_no_cider_d(metrics: CaptionMetrics) -> None:
    with pytest.raises(MetricUnavailableError, match="at least 2 rows"):
        metrics.cider_d(Captions(("a dog",), (("a dog",),)))


def test_references_without_words_have_no_cider_d(metrics: CaptionMetrics) -> None:
    with pytest.raises(MetricUnavailableError, match="no reference has any word"):
        metrics.cider_d(Captions(("a", "b"), (("",), ("", ""))))


def test_empty_texts_score_nothing(metrics: CaptionMetrics) -> None:
    texts = Captions(
        ("", "a dog barks loudly at night", "rain", "wind"),
        (("a cat purrs",), ("a dog barks loudly at night", ""), ("",), ("", "wind")),
    )
    assert metrics.rouge_l(texts).rows == (0.0, 1.0, 0.0, 1.0)
    cider_d = metrics.cider_d(texts).rows
    assert cider_d[0] == cider_d[2] == 0.0
    assert cider_d[1] == pytest.approx(5.0)  # perfect against one of two references, the other is empty
    assert all(score.rows[0] == pytest.approx(0.0, abs=1e-6) for score in metrics.bleu(texts))


def test_a_perfect_match_scores_ten_from_four_words_on(metrics: CaptionMetrics) -> None:
    sentences = ("a dog barks loudly", "wind howls", "three birds sing")
    score = metrics.cider_d(Captions(sentences, tuple((text,) for text in sentences)))
    assert score.rows == pytest.approx((10.0, 5.0, 7.5))


def test_identical_references_leave_cider_d_nothing_to_weigh(metrics: CaptionMetrics) -> None:
    score = metrics.cider_d(Captions(("a dog barks", "rain"), (("a dog barks",), ("a dog barks",))))
    assert score.value == 0.0


def test_the_order_of_rows_changes_no_corpus_score(metrics: CaptionMetrics, captions: Captions) -> None:
    turned = Captions(captions.candidates[::-1], captions.references[::-1])
    for score, other in [
        (metrics.cider_d(captions), metrics.cider_d(turned)),
        (metrics.rouge_l(captions), metrics.rouge_l(turned)),
        *zip(metrics.bleu(captions), metrics.bleu(turned), strict=True),
    ]:
        assert score.value == pytest.approx(other.value, rel=1e-14)
        assert score.rows == pytest.approx(other.rows[::-1], rel=1e-14)


@pytest.mark.slow
def test_meteor_survives_what_its_line_protocol_is_made_of(metrics: CaptionMetrics) -> None:
    texts = Captions(("wind ||| blows", "", "a dog barks"), (("wind ||| blows",), ("rain",), ("",)))
    assert metrics.meteor(texts).rows == (1.0, 0.0, 0.0)


def test_the_protocol_names_what_decides_the_score(java: Java) -> None:
    assert caption_protocol(java, REFERENCES) == (
        f"PTB tokens (CoreNLP 3.4.1) on both sides; 1-3 references a row; Java {java.version}"
    )
    assert "; 1 reference a row;" in caption_protocol(java, [("a",), ("b",)])
    assert library_protocol() == "pycocoevalcap 1.2"


def test_a_missing_package_file_is_told() -> None:
    with pytest.raises(MetricUnavailableError, match=r"spice/no\.jar of the package pycocoevalcap is not installed"):
        pycocoevalcap_file("spice/no.jar")


# A parent that tells the ids of the Java processes that it starts, and goes on asking them.
PARENT = """
import sys
import time
from evaluator.scoring.captioning import CaptionMetrics, Captions
from evaluator.scoring.java import JavaProcesses, find_java

class Telling(JavaProcesses):
    def Popen(self, command, **options):
        process = super().Popen(command, **options)
        print(process.pid, flush=True)
        return process

captions = Captions(("a dog barks",) * 200000, (("two dogs bark",),) * 200000)
with CaptionMetrics(find_java()) as metrics:
    metrics._processes = metrics._open.enter_context(Telling())
    if sys.argv[1] == "meteor":
        metrics.meteor(captions)
    while True:
        metrics._tokens(list(captions.candidates))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc which processes run")
@pytest.mark.parametrize("program", ["ptb", "meteor"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_java_never_outlives_its_parent(program: str, number: signal.Signals) -> None:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", PARENT, program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=root, start_new_session=True, **pipes) as parent:  # type: ignore[call-overload]
        process_id = int(parent.stdout.readline())
        time.sleep(1)
        parent.send_signal(number)
        parent.wait(30)
    deadline = time.monotonic() + 90  # METEOR reads its table to the end first
    while _runs(process_id):
        assert time.monotonic() < deadline, f"process {process_id} is left"
        time.sleep(0.2)


def _runs(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
