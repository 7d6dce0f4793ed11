"""Tests of question answering: what is read, what is asked, how answers are parsed and scored."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site

from evaluator.annotation.annotation import Sample, read_annotation
from evaluator.annotation.question_sets import shuffled, with_choices
from evaluator.cli import build_evaluate_command, main
from evaluator.errors import AnnotationError
from evaluator.scoring.answers.classes import score_classes
from evaluator.scoring.answers.questions import mmau_match, parse_answer, score_answers
from evaluator.scoring.answers.translations import check_language, score_translations
from evaluator.tasks import Mode

TASKS = {"asr": False, "QA": True}
CHOICES = ["cow", "dog", "a black cat"]


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("B.", 1),
        ("b) dog", 1),
        ("B. Dog.", 1),
        ("(B): dog", 1),
        ("Answer: B", 1),
        ("The correct answer is (c)", 2),
        ("dog", 1),
        ('"Dog."', 1),
        ("A  black\ncat", 2),
        ("a", 0),
        ("a black cat", 2),
        # Nothing of these is guessed.
        ("D", None),
        ("B cow", None),
        ("B. cow", None),
        ("A or B", None),
        ("AB", None),
        ("a dog", None),
        ("I hear a dog", None),
        ("", None),
        (".", None),
        ("both", None),
    ],
)
def test_answers_are_parsed_strictly(answer: str, place: int | None) -> None:
    assert parse_answer(answer, CHOICES) == place


@pytest.mark.parametrize(
    ("answer", "matches"),
    [
        ("I hear a dog", True),
        ("dog and cow", False),
        ("(B) dog", True),
        ("a black dog", False),
        ("", False),
        ("B", False),
    ],
)
def test_mmaus_own_rule(answer: str, matches: bool) -> None:
    """Worked by hand: wrong words are cow, black, cat; "a" is one of them as well."""
    assert mmau_match(answer, "dog", ["cow", "dog", "black cat"]) is matches


def test_a_set_is_scored() -> None:
    answers = ["B", "a dog", "two", "Blue.", "red"]
    references = [("dog",), ("dog",), ("B",), ("blue",), ("blue",)]
    choices = [("cow", "dog"), ("cow", "dog"), ("one", "two"), (), ()]
    scores = score_answers(answers, references, choices)
    accuracy, match = scores.metrics
    # Right: B, the text of the choice B names, the free answer "Blue."; "a dog" names no choice.
    assert accuracy.rows == (1.0, 0.0, 1.0, 1.0, 0.0)
    assert accuracy.value == 3 / 5
    assert match.rows == (0.0, 1.0, 1.0, None, None)
    assert match.value == 2 / 3
    assert scores.details == {"unparsed": 1, "with_choices": 3}
    assert str(accuracy.signature).startswith("protocol:answers|parse:strict|")


def test_choices_are_below_the_question() -> None:
    asked = with_choices("What barks? ", ["cow", "dog"])
    assert asked == "What barks?\n(A) cow\n(B) dog\nAnswer with the letter of one choice."
    assert with_choices("What barks?", []) == "What barks?"


def test_choices_are_shuffled_the_same_way_for_a_seed() -> None:
    mixed = shuffled("abcdefgh", seed=3, identifier="test0000")
    assert mixed == shuffled("abcdefgh", seed=3, identifier="test0000")
    assert sorted(mixed) == list("abcdefgh")
    others = {shuffled("abcdefgh", seed=seed, identifier=row) for seed, row in ((3, "test0001"), (4, "test0000"))}
    assert len(others | {mixed}) == 3
    assert shuffled("abc", seed=None, identifier="x") == ("a", "b", "c")


def read(
    tmp_path: Path, rows: list[dict[str, Any]], mode: Mode = "valid_qa", shuffle: int | None = None
) -> list[Sample]:
    path = tmp_path / "qa.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return read_annotation(path, prefix="", mode=mode, known_tasks=TASKS, shuffle=shuffle).without_problems()


ROW = {"testset_id": "test0000", "path": "a.wav", "task": "QA", "Q": "What?", "choices": ["cow", "dog"], "text": "dog"}


def test_a_row_of_our_own(tmp_path: Path) -> None:
    [sample] = read(tmp_path, [ROW])
    assert sample.choices == ("cow", "dog")
    assert sample.references == ("dog",)
    assert sample.question.endswith("(B) dog\nAnswer with the letter of one choice.")


@pytest.mark.parametrize("audio", ["audio_id", "audio_path"])
def test_rows_of_mmau_and_mmar(tmp_path: Path, audio: str) -> None:
    theirs = {
        "id": "3fe64f3d-282c",
        audio: "./test-mini-audios/3fe64f3d-282c.wav",
        "question": "Which animal is heard?",
        "choices": ["cow", "dog"],
        "answer": "dog",
        "task": "sound",
        "split": "test-mini",
    }
    [sample] = read(tmp_path, [theirs])
    assert (sample.id, sample.task, sample.references) == ("3fe64f3d-282c", "QA", ("dog",))
    assert sample.path == Path("test-mini-audios/3fe64f3d-282c.wav")
    assert sample.question.startswith("Which animal is heard?\n(A) cow\n(B) dog\n")


def test_a_shuffled_row_is_scored_by_what_was_asked(tmp_path: Path) -> None:
    rows = [ROW | {"testset_id": f"test{row:04d}"} for row in range(20)]
    samples = read(tmp_path, rows, shuffle=1)
    assert {sample.choices for sample in samples} == {("cow", "dog"), ("dog", "cow")}
    letters = ["(" + "AB"[sample.choices.index("dog")] + ")" for sample in samples]
    scores = score_answers(letters, [s.references for s in samples], [s.choices for s in samples])
    assert scores.metrics[0].value == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": "cow, dog"}, "choices: expected a list of 2 to 26 different texts"),
        ({"choices": ["dog"]}, "choices: expected a list"),
        ({"choices": ["dog", "Dog "]}, "choices: expected a list"),
        ({"choices": ["dog", ""]}, "choices: expected a list"),
        ({"text": "cat"}, "text: 'cat' is none of the choices"),
        ({"Q": ""}, "Q: the task"),
        ({"task": "asr"}, "is not scored by valid_qa"),
    ],
)
def test_rows_that_cannot_be_asked_are_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, [ROW | change])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def test_both_modes_from_the_command_line(site: Site) -> None:
    rows = [
        {
            "testset_id": f"test{row:04d}",
            "path": f"clip{row}.wav",
            "task": "qa",
            "Q": "What?",
            "choices": ["cow", "dog"],
        }
        | {"text": answer, "task": "QA"}
        for row, answer in enumerate(("dog", "cow", "dog"))
    ]
    path = site.wavs / "qa.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    provider = FakeProvider(model=EchoLM(say=lambda request: "B" if "(B) dog" in request.question else "?"))
    provider.labels = {"QA": True}
    for mode in ("valid_qa", "submission_qa"):
        command = build_evaluate_command(provider, default_config=site.config)
        options = [f"datasets.test_ann_path_qa={path}", f"datasets.prefix={site.wavs}"]
        result = CliRunner().invoke(command, ["--mode", mode, "--options", *options])
        assert result.exit_code == 0, result.output
    [scores] = site.results.glob("valid_results/*_valid_qa/scores.json")
    metrics = {metric["name"]: metric["value"] for metric in json.loads(scores.read_text(encoding="utf-8"))["metrics"]}
    assert metrics == {"accuracy": 2 / 3, "mmau_match": 0.0}
    assert list(site.results.glob("submission_results/*_submission_qa.csv"))


def test_classes_by_hand() -> None:
    """happy: 2 rows, answered 2, right 1: F1 1/2; sad: 1, 1, 1: 1; angry: 1, 0, 0: 0. Mean 1/2."""
    scores = score_classes(["Happy.", "sad", "happy", "He is angry"], ["happy", "sad", "angry", "happy"])
    accuracy, macro_f1 = scores.metrics
    assert accuracy.rows == (1.0, 1.0, 0.0, 0.0)
    assert (accuracy.value, macro_f1.value) == (0.5, 0.5)
    assert scores.details["unparsed"] == 1
    assert scores.details["classes"]["happy"] == {"rows": 2, "answered": 2, "right": 1, "f1": 0.5}


def test_translations_by_hand() -> None:
    """5 tokens, the first four right: precisions 4/5, 3/4, 2/3, 1/2, equal lengths: their geometric mean."""
    scores = score_translations(["der Hund bellt sehr leise"], ["der Hund bellt sehr laut"], tokenizer="13a")
    bleu, chrf = scores.metrics
    assert bleu.value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert chrf.value is not None
    assert 50 < chrf.value < 100
    assert "tok:13a" in str(bleu.signature)
    characters = score_translations(["\u72ac\u304c\u9cf4\u304f"], ["\u72ac\u304c\u9cf4\u304f"], tokenizer="char")
    assert characters.metrics[0].value == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("mode", "label", "texts", "names"),
    [
        ("valid_cls", "emotion_recognition", ("sad", "happy"), {"class_accuracy", "macro_f1"}),
        ("valid_st", "translation_en2de", ("der Hund", "die Katze"), {"bleu", "chrf"}),
    ],
)
def test_further_tasks_from_the_command_line(site: Site, mode: str, label: str, texts: Any, names: set[str]) -> None:
    rows = [
        {"testset_id": f"test{row:04d}", "path": f"clip{row}.wav", "task": label, "text": text}
        for row, text in enumerate(texts)
    ]
    path = site.wavs / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    provider = FakeProvider(model=EchoLM(say=lambda request: texts[0]))
    provider.labels = {label: False}
    key = f"datasets.test_ann_path_{mode.partition('_')[2]}={path}"
    command = build_evaluate_command(provider, default_config=site.config)
    result = CliRunner().invoke(command, ["--mode", mode, "--options", key, f"datasets.prefix={site.wavs}"])
    assert result.exit_code == 0, result.output
    [scores] = site.results.glob(f"valid_results/*_{mode}/scores.json")
    metrics = {metric["name"]: metric["value"] for metric in json.loads(scores.read_text(encoding="utf-8"))["metrics"]}
    assert metrics.keys() == names
    assert all(value is not None for value in metrics.values())


@pytest.mark.parametrize(
    ("labels", "tokenizer", "told"),
    [
        (["translation_en2de", "other"], "13a", None),
        (["translation_en2de"], "intl", None),
        (["translation_en2de"], "char", "BLEU of German (translation_en2de) with the tokenizer char"),
        (["translation_ec"], "zh", None),
        (["translation_ec"], "13a", "take scoring.bleu_tokenizer: zh"),
        (["translation_en2ja"] * 2, "13a", "take scoring.bleu_tokenizer: char"),
        ([], "13a", None),
    ],
)
def test_a_tokenizer_for_another_language_is_told(labels: list[str], tokenizer: str, told: str | None) -> None:
    found = check_language(labels, tokenizer)
    assert found == [] if told is None else told in found[0]


def test_several_target_languages_are_refused_before_the_model_is_loaded(site: Site) -> None:
    labels = ["translation_en2de", "translation_en2ja"]
    rows = [
        {"testset_id": f"test{row:04d}", "path": f"clip{row}.wav", "task": label, "text": "a"}
        for row, label in enumerate(labels)
    ]
    path = site.wavs / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    provider = FakeProvider()
    provider.labels = dict.fromkeys(labels, False)
    options = ["--options", f"datasets.test_ann_path_st={path}", f"datasets.prefix={site.wavs}"]
    command = build_evaluate_command(provider, default_config=site.config)
    result = CliRunner().invoke(command, ["--mode", "valid_st", *options])
    assert result.exit_code == 3
    for told in ("several target languages", "translation_en2de: German, 1 row(s)", "translation_en2ja: Japanese, 1"):
        assert told in result.stderr
    assert provider.loads == []
    answers = site.wavs / "answers.csv"
    answers.write_text("testset_id,text\ntest0000,a\ntest0001,a\n", encoding="utf-8")
    scored = CliRunner().invoke(main, ["score", "--annotation", str(path), "--predictions", str(answers)])
    assert scored.exit_code == 3
    assert "several target languages" in scored.stderr
