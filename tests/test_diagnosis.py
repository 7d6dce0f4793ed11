"""Tests of evaluator/diagnosis/: rules on wrong answers, counts of confusions, and where they are told."""

import json
import random
import re
from pathlib import Path

import pytest
from fake_model import EchoLM, FakeProvider, Reply
from fake_site import WORDS, Site, make_site

from evaluator.config.sections import ScoringConfig
from evaluator.diagnosis.answers import Given, findings, frequent_answers, loops, refuses, switches
from evaluator.diagnosis.diagnosis import diagnosed
from evaluator.evaluate import evaluate
from evaluator.report.summary import diagnosis_lines, summarize
from evaluator.scoring.result import MetricResult, Scores
from evaluator.scoring.scoring import score
from evaluator.tasks import ASR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no no no", False),
        ("no no no no", True),
        ("No, no! no. no", True),
        ("the dog the dog the dog", False),
        ("and then the dog the dog the dog the dog ran", True),
        ("a b c d e f g h i j " * 4, True),
        ("a b c d e f g h i j k " * 4, False),
        ("a b a b a c a b", False),
        ("ㅋㅋㅋㅋㅋㅋㅋ", False),
        ("ㅋㅋㅋㅋㅋㅋㅋㅋ", True),
        ("그리고그리고그리고그리고그리고그리고그리고그리고", True),
        ("hahahahahahahaha", True),
        ("10000000000000", False),
        ("wait ..............", False),
        ("", False),
        ("mississippi", False),
    ],
)
def test_loops(text: str, expected: bool) -> None:
    assert loops(text) == expected


def test_a_loop_of_any_length_takes_no_time() -> None:
    """100,000 characters; a rule that tried every length of every part would not come back."""
    assert loops("ab c" * 25_000)
    assert not loops("".join(chr(97 + place * place % 23) + str(place % 7) for place in range(50_000)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I cannot transcribe this audio.", True),
        ("As an AI language model, I", True),
        ("I can't hear any speech", True),
        ("no audio was provided", True),
        ("죄송하지만 오디오를 들을 수 없습니다", True),
        ("i'm sorry to hear that", False),
        ("i can't go", False),
        ("the audio is loud", False),
    ],
)
def test_refusals(text: str, expected: bool) -> None:
    assert refuses(text) == expected


@pytest.mark.parametrize(
    ("text", "references", "expected"),
    [
        ("나는 집에 간다", ["i go home"], True),
        ("i go home", ["나는 집에 간다"], True),
        ("i go 집에", ["i go home"], False),
        ("カラオケ", ["空の音楽"], False),
        ("да", ["yes", "да"], False),
        ("je rentre chez moi", ["i go home"], False),
        ("", ["i go home"], False),
        ("나", ["42"], False),
        ("Ｈｅｌｌｏ", ["hello"], False),
    ],
)
def test_language_switches(text: str, references: list[str], expected: bool) -> None:
    assert switches(text, references) == expected


def test_findings_name_the_rows() -> None:
    rows = [
        Given("a", ("one",), "the same"),
        Given("b", ("two",), "The  same"),
        Given("c", ("three",), "the same"),
        Given("d", ("four",), "twice"),
        Given("e", ("five",), "twice"),
        Given("f", ("six",), "\u200b "),
        Given("g", ("seven",), "", failed=True),
        Given("h", ("go go go go",), "go go go go"),
        Given("i", ("eight",), "x", cut_off=True),
        *(Given(str(number), ("yes",), "yes") for number in range(4)),
        Given("j", ("nine",), "", refused=True),
        Given("k", ("ten",), "no words of refusal", refused=True),
    ]
    # Neither loops that the reference has too nor equal answers to equal references are wrong.
    found = {name: list(places) for name, places in findings(rows).items()}
    assert found == {
        "token_limit": [8], "empty": [5], "duplicate": [0, 1, 2], "refusal": [13, 14], "failed": [6]
    }  # fmt: skip
    assert frequent_answers(rows) == [("the same", 3)]
    assert findings(rows[3:4]) == {}


def diagnose(texts: list[str], answers: list[str], protocol: str = "challenge") -> Scores:
    scores = score(ASR, [(text,) for text in texts], answers, ScoringConfig(protocol=protocol))
    given = [Given(f"t{row}", (text,), said) for row, (text, said) in enumerate(zip(texts, answers, strict=True))]
    return diagnosed(scores, given)


def test_confusions_worked_by_hand() -> None:
    scores = diagnose(
        ["the cat sat", "the cat ran", "a dog sat down", "all right"],
        ["the hat sat", "the hat", "a dog wet sat", "all right"],
    )
    found = scores.details["diagnoses"]
    assert found == {
        "confusions": [{"reference": "cat", "answer": "hat", "count": 2}],
        "deletions": [{"reference": "down", "count": 1}, {"reference": "ran", "count": 1}],
        "insertions": [{"answer": "wet", "count": 1}],
        "worst": [
            {"id": "t1", "edits": 2, "reference_words": 3},
            {"id": "t2", "edits": 2, "reference_words": 4},
            {"id": "t0", "edits": 1, "reference_words": 3},
        ],
    }
    assert diagnosis_lines(scores) == [
        "  confused        cat -> hat 2",
        "  left out        down 1, ran 1",
        "  too many        wet 1",
        "  worst           t1 (2 of 3), t2 (2 of 4), t0 (1 of 3)",
    ]


def test_characters_where_characters_are_counted() -> None:
    found = diagnose(["나는 집에 간다"], ["나는 짐에 간다"], "ko-cer").details["diagnoses"]
    assert found["confusions"] == [{"reference": "집", "answer": "짐", "count": 1}]
    assert found["worst"] == [{"id": "t0", "edits": 1, "reference_characters": 6}]
    found = diagnose(["나는 집에 간다"], ["나는 짐에 간다"], "ko-wer").details["diagnoses"]
    assert found["confusions"] == [{"reference": "집에", "answer": "짐에", "count": 1}]


def test_nothing_is_told_where_nothing_is_wrong() -> None:
    scores = diagnose(["the cat sat"], ["the cat sat"])
    assert "diagnoses" not in scores.details
    assert diagnosis_lines(scores) == []


def test_worst_captions() -> None:
    rows = (2.0, None, 0.5, 3.0)
    metrics = (MetricResult("spider", None, reason="no"), MetricResult("cider_d", 1.8, rows))
    given = [Given(f"t{row}", ("a dog",), f"text {row}") for row in range(4)]
    scores = diagnosed(Scores("aac", 4, metrics, {}), given)
    assert [entry["id"] for entry in scores.details["diagnoses"]["worst"]] == ["t2", "t0", "t3"]
    assert diagnosis_lines(scores) == ["  worst           by CIDEr-D: t2 (0.5000), t0 (2.0000), t3 (3.0000)"]


class _CutOff(EchoLM):
    """Says the references, but one that loops into the token limit, and one in Korean."""

    def _answers(self, batch):  # type: ignore[no-untyped-def]
        for request in batch:
            text = ["go on " * 9, "강아지가 짖는다"][request.index] if request.index < 2 else WORDS[request.index]
            yield Reply(request.index, text, 2, "length" if request.index == 0 else "stop")


def test_a_run_tells_its_diagnoses_last(tmp_path: Path) -> None:
    site: Site = make_site(tmp_path)
    result = evaluate(FakeProvider(model=_CutOff()), site.load(), "valid_asr")
    lines = summarize(result)
    place = lines.index(f"  folder          {result.folder}") if f"  folder          {result.folder}" in lines else 0
    told = " ".join(" ".join(lines[place:]).split())
    assert "answers 1 hit the token limit, 1 loop, 1 in another script" in told
    assert lines[-1].split()[0] == "worst"
    written = json.loads((result.folder / "scores.json").read_text())["details"]["diagnoses"]
    assert written["rates"]["token_limit"] == {"rows": 1, "rate": 0.2, "ids": ["test0000"]}
    assert written["rates"]["loop"]["ids"] == ["test0000"]
    assert written["rates"]["language_switch"]["ids"] == ["test0001"]


def test_parts_that_cannot_loop_are_left_out_and_no_others() -> None:
    """The rule on characters, searched for in the whole text, finds what `loops` finds in parts of it."""
    plain = re.compile(r"([^\d\s]\D{0,9}?)\1{7}", re.DOTALL)
    draw = random.Random(3)
    found = 0
    for _ in range(3000):
        piece = "".join(draw.choices("ab ,1\u3000\n", k=draw.randint(1, 11)))
        noise = ["".join(draw.choices("abc d", k=draw.randrange(12))) for _ in range(2)]
        text = noise[0] + piece * draw.randint(5, 9) + noise[1]
        whole = any(any(map(str.isalpha, match[1])) for match in plain.finditer(text))
        words = [word.strip(".,!?;:'\"") for word in text.split()]
        repeated = any(
            words[start : start + period * 4] == words[start : start + period] * 4
            for period in range(1, min(10, len(words) // 4) + 1)
            for start in range(len(words) - 4 * period + 1)
        )
        assert loops(text) == (whole or repeated), text
        found += whole
    assert 100 < found < 2900
