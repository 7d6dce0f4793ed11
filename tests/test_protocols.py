"""Tests of the protocols: what each counts, that input forms do not matter, and that signatures say and replay it."""

import importlib
import json
import random
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_model import EchoLM, FakeProvider
from fake_site import make_site
from kaldialign import edit_distance
from library_cache import lay_out

from evaluator.cli import main
from evaluator.config.sections import ScoringConfig
from evaluator.errors import AnnotationError, ConfigError
from evaluator.evaluate import evaluate
from evaluator.report.summary import summarize
from evaluator.scoring.java import JavaProcesses, find_java
from evaluator.scoring.protocols.basic_text import basic_text
from evaluator.scoring.protocols.explain import _FIELDS, differences, explain, explain_protocol, settings_of
from evaluator.scoring.protocols.korean import read_references
from evaluator.scoring.protocols.signature import Signature, evaluator_version, parse_signature
from evaluator.scoring.protocols.table import PROTOCOLS
from evaluator.scoring.result import MetricResult, Scores
from evaluator.scoring.scoring import preflight, score
from evaluator.submission.invisible import is_invisible
from evaluator.tasks import AAC, ASR

ROOT = Path(__file__).resolve().parents[1]
TRANSCRIPT_PROTOCOLS = [name for name, protocol in PROTOCOLS.items() if "asr" in protocol.steps]


def scored(name: str, references: list[str], hypotheses: list[str], **settings: Any) -> Scores:
    return score(ASR, [(text,) for text in references], hypotheses, ScoringConfig(protocol=name, **settings))


def metrics_of(scores: Scores) -> dict[str, MetricResult]:
    return {metric.name: metric for metric in scores.metrics}


# (protocol, reference, hypothesis, {metric: (edits, units of the reference)})
CASES = [
    ("open-asr", "The white paper is good.", "the whitepaper is good", {"wer": (0, 5)}),
    ("open-asr", "the whitepaper", "the white paper", {"wer": (0, 2)}),
    ("open-asr", "It costs 50%", "it costs fifty", {"wer": (1, 3)}),  # 50% is not 50 here
    ("open-asr", "a b", "a c d", {"wer": (2, 2)}),
    ("ko-cer", "나는 집에 간다.", "나는집에 갔다", {"cer": (1, 6)}),
    ("ko-cer-spaced", "나는 집에 간다.", "나는집에 갔다", {"cer": (2, 8)}),
    ("ko-swer", "나는 집에 간다.", "나는집에 갔다", {"swer": (1, 3)}),
    ("ko-wer", "나는 집에 간다.", "나는집에 갔다", {"wer": (3, 3)}),
    ("ko-swer", "안녕 세계", "안녕 세계 여러분 모두", {"swer": (2, 2)}),  # what is too many keeps its own spacing
    ("ko-swer", "나는 집에 간다", "나는 간다", {"swer": (1, 3)}),
    ("ko-swer", "오늘날씨가", "오늘 날씨가", {"swer": (0, 1)}),
    ("ko-wer", "", "안녕", {"wer": (1, 0)}),
    ("ko-cer", "[잡음] ㅋㅋ Coffee 3잔", "ㅋㅋ coffee 3 잔", {"cer": (0, 10)}),
    ("cjk-cer", "がくせい", "かくせい", {"cer": (1, 4)}),
    ("cjk-cer", "「今日は、ﾊﾞｽで」", "今日 は バスで", {"cer": (0, 6)}),
    ("cjk-cer", "我喜欢 Python 编程", "我喜欢Python編程", {"cer": (1, 11)}),
    ("basic", "कि की", "की की", {"wer": (1, 2), "cer": (1, 5)}),
    ("basic", "Việt Nam", "viet nam", {"wer": (1, 2), "cer": (1, 8)}),
    ("basic", "мой ёж", "мои еж", {"wer": (2, 2), "cer": (2, 6)}),
    ("basic", "dog's (barks) ❤️!", "dog s", {"wer": (0, 2), "cer": (0, 5)}),
]


@pytest.mark.parametrize(("name", "reference", "hypothesis", "expected"), CASES)
def test_what_a_protocol_counts(name: str, reference: str, hypothesis: str, expected: dict[str, Any]) -> None:
    found = {}
    for metric in scored(name, [reference], [hypothesis]).metrics:
        totals = metric.totals
        edits = totals["substitutions"] + totals["deletions"] + totals["insertions"]
        found[metric.name] = (edits, totals["hits"] + totals["substitutions"] + totals["deletions"])
    assert found == expected


@pytest.mark.parametrize("name", ["ko-cer", "ko-cer-spaced", "cjk-cer", "basic"])
def test_another_letter_is_an_error(name: str) -> None:
    for reference, hypothesis in (("がくせい", "かくせい"), ("ば", "ぱ"), ("말", "맑"), ("é", "e"), ("कि", "की")):
        assert metrics_of(scored(name, [reference], [hypothesis]))["cer"].value, (reference, hypothesis)


def test_the_rate_of_a_set_is_a_ratio_of_sums() -> None:
    scores = scored("ko-swer", ["가 나 다 라", "마"], ["가 나 다 라", "바"])
    assert metrics_of(scores)["swer"].value == 1 / 5
    assert tuple(scores.per_sample["swer"]) == (0, 1)
    assert metrics_of(scored("ko-cer", ["가나다라", "마"], ["가나다라", "바"]))["cer"].value == 1 / 5


CANDIDATES = ["A dog barks twice", "there are no.", "RAIN falls on a tin roof!", "3 people talk, while music plays", ""]
CAPTIONS = [
    ("Two dogs bark.", "A dog is barking twice."),
    ("5 birds sing; there is no.", "2 birds"),
    ("Rain falls on a metal roof.", "It rains on a roof."),
    ("Music plays and 3 people are talking.", "People talk (loudly)."),
    ("A man can't speak.", "Nobody speaks"),
]


@pytest.mark.slow
def test_dcase_is_the_librarys_evaluate(tmp_path: Path) -> None:
    """METEOR starts twice, and the library is imported whole."""
    import aac_metrics

    lay_out(tmp_path)
    java = find_java("")
    with JavaProcesses() as processes:
        names = ["aac_metrics.utils.tokenization", "aac_metrics.functional.meteor"]
        modules = [importlib.import_module(name) for name in names]
        with pytest.MonkeyPatch.context() as patch:
            for module in modules:
                patch.setattr(module, "check_java_path", lambda _path: True)
            patch.setattr(modules[0], "subprocess", processes)
            patch.setattr(modules[1], "Popen", processes.Popen)
            corpus, rows = aac_metrics.evaluate(
                CANDIDATES,
                [list(row) for row in CAPTIONS],
                metrics=["cider_d", "meteor", "rouge_l"],
                cache_path=str(tmp_path),
                java_path=str(java.executable),
                tmp_path=str(tmp_path),
            )
    config = ScoringConfig(protocol="dcase", metrics=["cider_d", "meteor", "rouge_l"])
    found = metrics_of(score(AAC, CAPTIONS, CANDIDATES, config))
    challenge = metrics_of(score(AAC, CAPTIONS, CANDIDATES, ScoringConfig(metrics=["cider_d"])))
    for name in ("cider_d", "meteor", "rouge_l"):
        assert found[name].value == pytest.approx(float(corpus[name]), abs=1e-12)
        assert found[name].rows == pytest.approx(rows[name].tolist(), abs=1e-12)
        assert found[name].signature.get("tok") == "ptb-whole-set"
    # "no." in front of a line that starts with a number keeps its full stop, and is another word.
    assert found["cider_d"].value != pytest.approx(challenge["cider_d"].value, abs=1e-6)


def test_dcase_has_its_own_metrics_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AAC_METRICS_JAVA_PATH", "/nowhere/java")
    scores = score(AAC, CAPTIONS, CANDIDATES, ScoringConfig(protocol="dcase"))
    assert [metric.name for metric in scores.metrics] == ["spider", "cider_d", "spice", "meteor"]
    assert not any(metric.signature for metric in scores.metrics)  # none has a value


SYLLABLES = [chr(code) for code in range(0xAC00, 0xD7A4, 7)]
KANA = [
    *"かきくけこさしすせそはひふへほカキクケコハヒフヘホ",
    *"がぎぐげござじずぜぞばびぶべぼぱぴぷぺぽヴガギグパピプ",
]
LATIN = [*"aeiouncsz", *"éèêëàâäîïôöùûüçñåãõÅÉĞİıșțžőǘṩḍ̇", "ế", "ự", "ậ"]


def drawn_text(draw: random.Random) -> str:
    letters = draw.choice([SYLLABLES, KANA, LATIN, SYLLABLES + KANA + LATIN])
    return " ".join("".join(draw.choices(letters, k=draw.randint(1, 5))) for _ in range(draw.randint(1, 5)))


@pytest.mark.parametrize("name", TRANSCRIPT_PROTOCOLS)
def test_composed_and_decomposed_text_score_the_same(name: str) -> None:
    """The counts of each row, whichever side comes in whichever form."""
    draw = random.Random(name)
    texts = [drawn_text(draw) for _ in range(300)]
    others = [text if draw.random() < 0.3 else drawn_text(draw) for text in texts]
    assert sum(unicodedata.normalize("NFC", text) != unicodedata.normalize("NFD", text) for text in texts) > 200
    counts = []
    for forms in (("NFC", "NFC"), ("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")):
        sides = [[unicodedata.normalize(form, text) for text in side] for form, side in zip(forms, (texts, others))]  # noqa: B905
        counts.append([metric.evidence for metric in scored(name, *sides).metrics])
    assert counts[0] == counts[1] == counts[2] == counts[3]


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("「がくせい」 [noise] Ünïted (laughs) 50%", "がくせい ünïted 50"),
        ("a\u2028b\tc\x00d", "a b c d"),
        ("가\u200b나\u3164다", "가나다"),
        ("❤️ ok", "ok"),
        ("\u0301 a\u0301", "á"),
        ("ＡＢＣ １２３", "abc 123"),
        ("<|endoftext|>안녕", "안녕"),
        ("\ud800x", "\ud800x"),
        ("- — …", ""),
    ],
)
def test_basic_text(raw: str, normalised: str) -> None:
    assert basic_text(raw) == normalised


def test_without_marks_the_normaliser_is_whispers_basic_one() -> None:
    """Random texts of letters, digits, symbols, punctuation and brackets of all scripts, as transformers has them."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    whisper = BasicTextNormalizer()
    draw = random.Random(11)
    pool = [
        character
        for character in map(chr, [*range(0x20, 0x3000), *range(0x3000, 0xD7A4, 11), *range(0xFF00, 0xFFEF)])
        if unicodedata.category(character)[0] in "LNPSZ"
        and not any(unicodedata.category(part)[0] in "MC" for part in unicodedata.normalize("NFKC", character.lower()))
        and not is_invisible(character) | character.isspace()
    ]
    assert len(pool) > 5000
    for _ in range(2000):
        text = "".join(draw.choices([*draw.choices(pool, k=20), *" ()[]<>aA"], k=draw.randint(0, 40)))
        expected = whisper(unicodedata.normalize("NFC", text))
        assert basic_text(text) == " ".join(unicodedata.normalize("NFC", expected).split()), text


@pytest.mark.parametrize("name", ["cjk-cer", "basic"])
def test_counts_are_those_of_kaldi(name: str) -> None:
    """Random kana, Hangul and accented words; edits and lengths of every row by another program."""
    draw = random.Random(name)
    texts = [drawn_text(draw) for _ in range(200)]
    others = [
        " ".join(draw.sample(text.split(), len(text.split()))) if draw.random() < 0.5 else drawn_text(draw)
        for text in texts
    ]
    for metric in scored(name, texts, others).metrics:
        for row, pair in enumerate(zip(texts, others, strict=True)):
            plain = [" ".join(unicodedata.normalize("NFC", text).lower().split()) for text in pair]
            # A mark at a word's beginning has no letter to stay with.
            plain = [re.sub("(^| )\u0307+", r"\1", unicodedata.normalize("NFC", text)) for text in plain]
            if name == "cjk-cer":
                plain = [text.replace(" ", "") for text in plain]
            units = [text.split() for text in plain] if metric.name == "wer" else [list(text) for text in plain]
            counts = metric.evidence
            edits = sum(counts[kind][row] for kind in ("substitutions", "deletions", "insertions"))
            length = sum(counts[kind][row] for kind in ("substitutions", "deletions", "hits"))
            assert (edits, length) == (edit_distance(*units)["total"], len(units[0])), pair


def merged_edits(reference: list[str], hypothesis: list[str]) -> int:
    """Edits where neighbours may merge into a word of the other side, by plain recursion over all choices."""
    if not reference or not hypothesis:
        return len(reference) + len(hypothesis)
    best = min(
        merged_edits(reference[1:], hypothesis[1:]) + (reference[0] != hypothesis[0]),
        merged_edits(reference[1:], hypothesis) + 1,
        merged_edits(reference, hypothesis[1:]) + 1,
    )
    for many, one, swapped in ((reference, hypothesis, False), (hypothesis, reference, True)):
        for size in range(2, len(many) + 1):
            if "".join(many[:size]) == one[0]:
                rest = (one[1:], many[size:]) if swapped else (many[size:], one[1:])
                best = min(best, merged_edits(*rest))
    return best


def test_merged_compounds_are_counted_as_by_trying_everything() -> None:
    draw = random.Random(4)
    parts = ["ab", "cd", "abcd", "x", "xab", "cdx"]
    rows = [
        ([*draw.choices(parts, k=draw.randint(1, 4))], [*draw.choices(parts, k=draw.randint(0, 4))]) for _ in range(200)
    ]
    scores = scored("open-asr", [" ".join(row[0]) for row in rows], [" ".join(row[1]) for row in rows])
    assert tuple(scores.per_sample["word_edits"]) == tuple(float(merged_edits(*row)) for row in rows)
    assert "hypothesis_length" not in scores.details["words"]


HOSTILE = [
    *("", "\x00", "\ud800", "a" * 20_000, "(" * 3000, "1" * 6000, "<" * 3000 + ">", "\u200b", "가" * 20_000, "ﷺ" * 50),
    *("\n\t\r", "((가", "💩❤️\u200d🔥", "<|x|>", "i̇" * 10, "\U000f0000", "x y " * 2000),
]


@pytest.mark.parametrize("name", TRANSCRIPT_PROTOCOLS)
def test_any_text_can_be_scored(name: str) -> None:
    for metric in scored(name, HOSTILE, HOSTILE).metrics:
        assert metric.value == 0
    for metric in scored(name, HOSTILE, HOSTILE[::-1]).metrics:
        assert metric.value


def test_without_kaldialign_open_asr_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaldialign", None)
    [metric] = scored("open-asr", ["a"], ["a"]).metrics
    assert (metric.value, bool(metric.signature)) == (None, False)
    assert metric.reason == "open-asr compares with kaldialign, which is not installed"
    assert scored("challenge", ["a"], ["a"]).metrics[0].value == 0


DUAL = "b/ 아/ 모+ 몬 소리야 (70%)/(칠 십 퍼센트) 확률이라니 n/"


def test_dual_transcripts_are_read_by_side() -> None:
    assert read_references([DUAL], "phonetic") == ["아 모 몬 소리야 칠 십 퍼센트 확률이라니"]
    assert read_references([DUAL], "spelling") == ["아 모 몬 소리야 70% 확률이라니"]
    assert read_references(["o/n/그 on/off (7시)/ (일곱 시)에 km/h*"], "spelling") == ["그 on/off 7시에 km/h"]
    said = metrics_of(scored("ko-cer", [DUAL], ["아 모 몬 소리야 칠십 퍼센트 확률이라니"], dual_transcripts="phonetic"))
    assert said["cer"].value == 0
    assert said["cer"].signature.get("dual") == "phonetic"
    assert metrics_of(scored("ko-cer", [DUAL], ["아 모 몬 소리야 칠십 퍼센트"], dual_transcripts="spelling"))[
        "cer"
    ].value


def test_dual_transcripts_are_never_dropped_in_silence() -> None:
    for ask in (preflight, lambda *given: score(given[0], given[2], ["x", "y"], given[1])):
        with pytest.raises(AnnotationError, match=r"scoring\.dual_transcripts: spelling or phonetic.\n  row 2: "):
            ask(ASR, ScoringConfig(protocol="ko-wer"), [("안녕",), (DUAL,)])
    for broken in ("(70%)/(칠 십", "(70%)/ 칠", "70%)/(칠 십)"):
        with pytest.raises(AnnotationError, match=r"row 2: a dual transcript is not complete"):
            read_references(["안녕", broken], "phonetic")


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (ASR, {"protocol": "ko_cer"}, 'protocol: "ko_cer" is no protocol; did you mean "ko-cer"?'),
        (AAC, {"protocol": "ko-cer"}, "protocol: ko-cer scores speech recognition; audio captioning has"),
        (ASR, {"protocol": "dcase"}, "protocol: dcase scores audio captioning; speech recognition has"),
        (ASR, {"protocol": "ko-cer", "metrics": ["wer"]}, 'metrics: the protocol ko-cer has no "wer", only cer'),
        (ASR, {"metrics": ["swer"]}, 'metrics: the protocol challenge has no "swer", only wer, cer'),
        (ASR, {"dual_transcripts": "phonetic"}, "dual_transcripts: challenge reads no dual transcripts; ko-cer"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(task: Any, settings: dict[str, Any], message: str) -> None:
    for ask in (lambda config: preflight(task, config), lambda config: score(task, [("a",)], ["a"], config)):
        with pytest.raises(ConfigError) as caught:
            ask(ScoringConfig(**settings))
        assert f"scoring.{message}" in str(caught.value)


@pytest.mark.parametrize(
    ("references", "protocol"),
    [
        (["안녕하세요 여러분"], "ko-cer"),
        (["がくせい です", "hi"], "cjk-cer"),
        (["今天天气很好"], "cjk-cer"),
        (["नमस्ते दुनिया"], "basic"),
        (["안녕 hello world"], None),
        (["plain English, café"], None),
        (["..."], None),
    ],
)
def test_a_script_that_the_normaliser_destroys_is_told(references: list[str], protocol: str | None) -> None:
    rows = [(text,) for text in references]
    for name in ("challenge", "open-asr"):
        told = preflight(ASR, ScoringConfig(protocol=name), rows)
        assert len(told) == (protocol is not None)
        assert protocol is None or f"Take scoring.protocol: {protocol} " in told[0]
        assert scored(name, references, references).details.get("notes", []) == told
    assert preflight(ASR, ScoringConfig(protocol="basic"), rows) == []


@pytest.mark.parametrize("name", TRANSCRIPT_PROTOCOLS)
def test_a_signature_reads_back_and_replays(name: str) -> None:
    for dual in ("none", "phonetic") if PROTOCOLS[name].dual else ("none",):
        for metric in scored(name, ["a b", "c"], ["a", "c"], dual_transcripts=dual).metrics:
            signature = metric.signature
            assert parse_signature(str(signature)) == signature
            assert dict(signature.fields)["rows"] == "2"
            assert signature.fields[-1] == ("version", "0.1.0")
            config = settings_of(signature)
            assert (config.protocol, config.dual_transcripts) == (name, dual)
            again = metrics_of(score(ASR, [("a b",), ("c",)], ["a", "c"], config))[metric.name]
            assert again.signature == signature
            assert differences(signature) == []
            assert not any("not known" in line for line in explain(signature))
            assert explain(signature)[-1] == "Every version is the one installed here."


def test_a_protocol_in_one_line_names_its_versions() -> None:
    for name in TRANSCRIPT_PROTOCOLS:
        for metric in scored(name, ["a"], ["a"]).metrics:
            assert metric.protocol.endswith(")")
            for key, value in metric.signature.fields:
                if key in ("whisper-normalizer", "sacrebleu", "jiwer", "kaldialign"):
                    assert f"{key} {value}" in metric.protocol
    wer, cer = scored("challenge", ["a"], ["a"]).metrics
    assert wer.protocol.startswith("whisper-en + 13a (whisper-normalizer ")
    assert cer.protocol.startswith("whisper-en + 13a; other scripts than Latin NFKC with their marks; ")


def test_spacing_alone_is_no_error_of_ko_swer() -> None:
    draw = random.Random(8)
    texts = [" ".join("".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(6)) for _ in range(200)]
    respaced = []
    for text in texts:
        letters = text.replace(" ", "")
        respaced.append("".join(letter + " " * (draw.random() < 0.4) for letter in letters))
    assert sum(one.split() == other.split() for one, other in zip(texts, respaced, strict=True)) < 20
    for name, expected in (("ko-swer", 0), ("ko-cer", 0)):
        assert metrics_of(scored(name, texts, respaced))[name[3:]].value == expected
    assert metrics_of(scored("ko-wer", texts, respaced))["wer"].value


def test_signatures_tell_protocols_apart() -> None:
    texts = ["a b"], ["a"]
    signatures = [str(metric.signature) for name in TRANSCRIPT_PROTOCOLS for metric in scored(name, *texts).metrics]
    assert len(set(signatures)) == len(signatures) == 10
    assert "|jiwer:" in signatures[0]
    assert "|sacrebleu:" in signatures[0]
    assert not scored("ko-cer", [""], ["a"]).metrics[0].value
    further = Signature((("protocol", "basic"), ("version", "1"))).extended({"seed": "7"})
    assert str(further) == "protocol:basic|seed:7|version:1"


def test_versions_that_differ_are_named() -> None:
    signature = parse_signature(
        "protocol:open-asr|norm:whisper-en|unit:word|transformers:5.23.0|kaldialign:0.12.0|version:9.9"
    )
    assert [str(problem) for problem in differences(signature)][1:] == [
        "audiolm-evaluator: the signature has 9.9, installed is 0.1.0"
    ]
    assert "this version normalises English by whisper-normalizer, to the same words" in str(differences(signature)[0])
    other = parse_signature("protocol:open-asr|norm:whisper-en|unit:word|whisper-normalizer:0.1.0|kaldialign:0.12.0")
    assert str(differences(other)[0]).startswith("whisper-normalizer: the signature has 0.1.0, installed is 0.1.15;")
    with pytest.raises(ConfigError, match="this version knows no norm:other"):
        settings_of(parse_signature("protocol:basic|norm:other"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "field 1: expected key:value, found ''"),
        ("case:lower", "there is no field protocol"),
        ("protocol:basic|case lower|a:b c", "field 3: expected key:value, found 'a:b c'"),
        ("protocol:basic|protocol:basic", "field 2: protocol is given twice"),
    ],
)
def test_what_is_no_signature(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_signature(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_page_has_every_protocol(name: str) -> None:
    page = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert f"\n## {name}\n" in page
    assert f"| `{name}`" in page
    examples = re.findall(rf"```example {name}\nreference   (.*)\nhypothesis  (.*)\n((?:.*\n)+?)```", page)
    assert len(examples) == (name in TRANSCRIPT_PROTOCOLS)
    for reference, hypothesis, told in examples:
        for metric in scored(name, [reference], [hypothesis]).metrics:
            [(edits, units)] = re.findall(rf"^{metric.kind.title} +(\d+) / (\d+)$", told, flags=re.M)
            totals = metric.totals
            assert totals["substitutions"] + totals["deletions"] + totals["insertions"] == int(edits)
            assert totals["hits"] + totals["substitutions"] + totals["deletions"] == int(units)


def test_the_pages_captions() -> None:
    """What docs/protocols.md computes by hand; a second clip, because a set of one has no CIDEr-D."""
    references = [("Two dogs bark.", "A dog is barking."), ("x",)]
    bleu = metrics_of(score(AAC, references, ["a dog barks", ""], ScoringConfig(metrics=["bleu_1"])))["bleu_1"]
    assert bleu.rows[0] == pytest.approx(2 / 3, abs=1e-6)
    config = ScoringConfig(protocol="dcase", metrics=["rouge_l"])
    rouge = metrics_of(score(AAC, [("a dog is barking",), ("x",)], ["a dog barks", ""], config))["rouge_l"]
    assert rouge.rows[0] == pytest.approx(0.5571, abs=5e-5)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_explains_itself(name: str) -> None:
    lines = explain_protocol(name)
    assert lines[0].startswith(f"{name}: ")
    for steps in PROTOCOLS[name].steps.values():
        for number, step in enumerate(steps, start=1):
            assert f"  {number}. {step}" in lines
    for rate in PROTOCOLS[name].rates:
        assert all(value in _FIELDS[key] for key, value in rate.fields)


def test_explain_on_the_command_line() -> None:
    done = CliRunner().invoke(main, ["explain", "protocol:ko-cer|spaces:no|rows:7|jiwer:1.0.0|version:0.1.0"])
    assert done.exit_code == 0
    assert "spaces:no      spaces do not count" in done.output
    assert "jiwer: the signature has 1.0.0, installed is" in done.output
    wrong = CliRunner().invoke(main, ["explain", "ko-ce"])
    assert wrong.exit_code == 2
    assert 'Error: "ko-ce" is no protocol; did you mean "ko-cer"?' in wrong.output


def test_a_run_is_told_before_its_model_is_loaded(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    rows = json.loads((tmp_path / "asr.json").read_text())["annotation"]
    site.write_annotation(
        [{**row, "text": text} for row, text in zip(rows, ["안녕", "(7시)/(일곱 시)", *"가나다"], strict=True)]
    )
    provider = FakeProvider(model=EchoLM(say=lambda request: "안녕"))
    for settings, message in (
        ({"protocol": "ko-cer"}, "1 reference(s) have dual transcripts"),
        ({"protocol": "dcase"}, "scoring.protocol: dcase scores audio captioning"),
    ):
        site.change({"scoring": settings})
        with pytest.raises((AnnotationError, ConfigError)) as caught:
            evaluate(provider, site.load(), "valid_asr")
        assert message in str(caught.value)
        assert not list(site.results.rglob("*.csv"))
    site.change({"scoring": {"protocol": "challenge"}})
    assert any(
        "Take scoring.protocol: ko-cer" in notice for notice in evaluate(provider, site.load(), "valid_asr").notices
    )
    site.change({"scoring": {"protocol": "ko-cer", "dual_transcripts": "phonetic"}})
    result = evaluate(provider, site.load(), "valid_asr")
    assert result.scores is not None
    [cer] = result.scores.metrics
    assert cer.totals["hits"] + cer.totals["deletions"] + cer.totals["substitutions"] == 2 + 3 + 3
    assert str(cer.signature) in "\n".join(summarize(result))
    assert json.loads((result.folder / "scores.json").read_text())["metrics"][0]["signature"] == str(cer.signature)


FORMER = (
    "protocol:challenge|tok:ptb|case:lower|punct:no|unit:caption|refs:5|rows:70|aac-metrics:0.5.4|version:"
    + evaluator_version()
)


def test_a_signature_of_the_library_that_scored_captions_before_is_told_to_be_that() -> None:
    lines = explain(parse_signature(FORMER))
    assert "aac-metrics:0.5.4  aac-metrics 0.5.4" in [
        " ".join(line.split(None)).replace(" ", "  ", 1) for line in lines
    ]
    assert "this version scores captions without it, to the same numbers" in lines[-1]
    assert [problem.where for problem in differences(parse_signature(FORMER))] == ["aac-metrics"]


def test_no_metric_claims_a_library_that_does_not_compute_it() -> None:
    found = metrics_of(
        score(
            AAC,
            CAPTIONS,
            CANDIDATES,
            ScoringConfig(metrics=["cider_d", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"]),
        )
    )
    libraries = {name: metric.signature.get("pycocoevalcap") for name, metric in found.items() if metric.signature}
    assert libraries == {"cider_d": None, **dict.fromkeys(("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"), "1.2")}
    assert found["cider_d"].signature.get("cider-d") == "set-wide"
