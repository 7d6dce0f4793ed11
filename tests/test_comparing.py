"""Tests of comparing systems: tests of differences worked by hand, alignments, sources, what is refused."""

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site

from evaluator.board.text_columns import width
from evaluator.cli import main
from evaluator.comparison.alignment_lines import alignment_lines
from evaluator.diagnosis.alignment import align
from evaluator.evaluate import evaluate
from evaluator.statistics.mapsswe import WordErrors, mapsswe, segments
from evaluator.statistics.paired import holm, permutation_p

REFERENCES = [
    "the red cat sat down", "a dog barked at night", "rain is falling on roofs", "birds sing in the garden",
    "a door opens very slowly", "people talk in a room", "music plays from the radio", "a car drives past us",
    "the clock ticks all day", "water runs into a sink", "wind blows through trees", "a baby laughs out loud",
]  # fmt: skip
SPEAKERS = ["ann", "bob", "cleo", "dan"] * 3


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Twelve clips of four speakers; the last three rows are another, longer clip."""
    made = make_site(tmp_path)
    rows = [
        {"testset_id": f"t{row}", "path": f"clip{row // 9}.wav", "task": "asr", "text": text, "speaker": SPEAKERS[row]}
        for row, text in enumerate(REFERENCES)
    ]
    made.write_annotation(rows)
    return made


def run(site: Site, name: str, wrong: Mapping[int, str] | None = None, *options: str) -> Path:
    """A finished run whose answers are the references, but for these rows."""
    texts = [(wrong or {}).get(row, text) for row, text in enumerate(REFERENCES)]
    config = site.load(f"run.output_dir={site.folder / name}", *options)
    model = EchoLM(say=lambda request: texts[request.index])
    return evaluate(FakeProvider(model=model), config, "valid_asr").folder


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def told(*arguments: object) -> dict[str, Any]:
    result = compare(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(*arguments: object) -> str:
    result = compare(*arguments)
    assert result.exit_code in (2, 3), result.output
    assert result.stdout == ""
    return result.stderr


# MAPSSWE


def test_mapsswe_worked_by_hand() -> None:
    """Five clips of the words a to h. Errors of A and B, and the segments (A, B) that two good words end:

        A says          B says              segments
        a x c d e f g h  all right          b wrong, c d good                              (1, 0)
        a x c d e f g h  a b c x e f g h    b wrong, c alone is too few, d wrong, e f good (1, 1)
        x b c d e f g x  all right          a wrong, b c good; h wrong, the clip ends      (1, 0) (1, 0)
        all right        a b y c d e f g h  y too many, c d good                           (0, 1)
        a b e f g h      all right          c d missing, e f good                          (2, 0)

    Differences B - A: -1 0 -1 -1 1 -2, n = 6, mean = -4/6 = -2/3. Squares about the mean, in ninths: 1 4 1 1 25 16, in
    all 48/9 = 16/3; variance 16/3 / 5 = 16/15; standard error sqrt(16/15 / 6) = sqrt(8/45). Z = -2/3 / sqrt(8/45) =
    -sqrt(4/9 * 45/8) = -sqrt(2.5) = -1.5811; p = 2 (1 - Phi(1.5811)) = 0.1138.
    """
    right = "a b c d e f g h"
    clips = [
        ("a x c d e f g h", right),
        ("a x c d e f g h", "a b c x e f g h"),
        ("x b c d e f g x", right),
        (right, "a b y c d e f g h"),
        ("a b e f g h", right),
    ]
    pairs = [tuple(align(right.split(), said.split()).errors for said in clip) for clip in clips]
    assert [list(segments(*pair)) for pair in pairs] == [[(1, 0)], [(1, 1)], [(1, 0), (1, 0)], [(0, 1)], [(2, 0)]]
    found = mapsswe(pairs)  # type: ignore[arg-type]
    assert (found.segments, found.mean) == (6, pytest.approx(-2 / 3))
    assert found.z == pytest.approx(-math.sqrt(2.5))
    assert found.p == pytest.approx(0.1138, abs=5e-5)
    other = mapsswe((second, first) for first, second in pairs)
    assert (other.z, other.p) == (-found.z, found.p)


def test_mapsswe_at_the_ends() -> None:
    none = WordErrors((False,) * 3, (0, 0, 0, 0))
    behind = WordErrors((False,) * 3, (0, 0, 0, 2))
    before = WordErrors((False,) * 3, (1, 0, 0, 0))
    assert list(segments(none, none)) == []
    assert list(segments(none, behind)) == [(0, 2)]
    assert list(segments(behind, none)) == [(2, 0)]
    assert list(segments(before, behind)) == [(1, 0), (0, 2)]
    assert list(segments(WordErrors((), (3,)), WordErrors((), (0,)))) == [(3, 0)]
    assert mapsswe([(none, none)]).p == 1.0
    with pytest.raises(ValueError, match="3 words cannot be compared with 0"):
        list(segments(none, WordErrors((), (0,))))


def test_mapsswe_counts_every_error() -> None:
    generator = np.random.default_rng(2)
    for _ in range(200):
        pair = [
            WordErrors(tuple((generator.random(9) < 0.3).tolist()), tuple(generator.integers(0, 2, 10).tolist()))
            for _ in range(2)
        ]
        found = list(segments(*pair))
        assert [sum(part[place] for part in found) for place in (0, 1)] == [each.edits for each in pair]
        assert all(any(part) for part in found)


# Permutation and Holm


def test_permutation_worked_by_hand() -> None:
    # Of the 8 ways to sign three ones two reach 3 or -3.
    assert permutation_p(np.array([1.0, 0, 1, 1]), resamples=1000, seed=0) == 2 / 8
    # 2 and -1: sums 3, 1, -1, -3; all are as large as 1.
    assert permutation_p(np.array([2.0, -1]), resamples=1000, seed=0) == 1.0
    assert permutation_p(np.zeros(5), resamples=1000, seed=0) == 1.0


def test_drawn_signs_agree_with_all_of_them() -> None:
    differences = np.array([0.3, -0.1, 0.2, 0.4, 0.1, -0.2, 0.5, 0.1, 0.2, -0.3])
    every = permutation_p(differences, resamples=2000, seed=0)
    drawn = permutation_p(differences, resamples=1000, seed=0)
    assert every == pytest.approx(drawn, abs=0.04)
    assert every != drawn
    assert permutation_p(np.ones(40), resamples=1000, seed=0) == 1 / 1001


def test_p_is_uniform_where_there_is_no_difference() -> None:
    generator = np.random.default_rng(3)
    found = []
    for seed in range(300):
        words = generator.integers(5, 15, size=40)
        one, other = generator.binomial(words, 0.2), generator.binomial(words, 0.2)
        found.append(permutation_p((one - other).astype(float), resamples=400, seed=seed))
    # A little above a half, because equal sums count as at least as large.
    assert 0.46 <= np.mean(found) <= 0.58
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.085


def test_p_is_small_where_there_is_one() -> None:
    generator = np.random.default_rng(4)
    words = generator.integers(5, 15, size=200)
    differences = generator.binomial(words, 0.25) - generator.binomial(words, 0.15)
    assert permutation_p(differences.astype(float), resamples=2000, seed=0) < 0.001


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# Alignment


def test_alignment() -> None:
    found = align(["a", "b", "c", "d"], ["a", "x", "c", "e"])
    assert (found.said, found.errors.edits) == (("a", "x", "c", "e"), 2)
    found = align(["a", "b"], ["a", "y", "b", "z", "z"])
    assert found.inserted == ((), ("y",), ("z", "z"))
    assert align(["a", "b"], []).said == (None, None)
    assert align([], ["a"]).inserted == (("a",),)


def test_alignment_of_korean_stays_in_columns() -> None:
    reference = ["나는", "오늘", "학교에", "간다"]
    lines = alignment_lines(
        "reference", {"가": align(reference, ["나는", "학교", "간다"]), "b": align(reference, ["나는", *reference])}
    )
    assert [line.split() for line in lines] == [
        ["reference", "나는", "오늘", "학교에", "간다"],
        ["가", "나는", "[학교]", "[*]", "간다"],
        ["b", "나는", "[나는]", "오늘", "학교에", "간다"],
    ]
    places = [width(line[: line.index("간다")]) for line in lines]
    assert places[0] == places[1] == places[2]


def test_long_alignments_are_broken() -> None:
    words = [f"word{number}" for number in range(60)]
    lines = alignment_lines("reference", {"system": align(words, words[1:])})
    assert all(width(line) <= 100 for line in lines)
    assert len(lines) > 4
    assert sum(line.split()[0] == "reference" for line in lines) == len(lines) / 2
    assert alignment_lines("reference", {"a": align(["\x1b[2J"], [])})[0].endswith("\\x1b[2J")


# The command


def test_two_runs(site: Site) -> None:
    # 12 references of 5 words but for two of 4 and 5: row 10 has 4 words.
    first = run(site, "one", {0: "the red hat sat down", 3: "birds sing", 7: "a car drives past us all"})
    second = run(site, "two", {3: "birds sing in garden"}, "generate.num_beams=1")
    data = told(f"one={first}", f"two={second}")
    words = sum(len(text.split()) for text in REFERENCES)
    [wer, cer] = data["metrics"]
    assert wer["metric"] == "wer"
    assert cer["metric"] == "cer"
    assert wer["values"]["one"]["value"] == 5 / words
    assert wer["values"]["two"]["value"] == 1 / words
    [pair] = wer["pairs"]
    assert (pair["first"], pair["second"]) == ("one", "two")
    assert pair["difference"] == pytest.approx(-4 / words)
    assert pair["low"] <= pair["difference"] <= pair["high"] <= 0
    assert (pair["wins"], pair["losses"], pair["ties"]) == (3, 0, 9)
    # Differences -1 -2 -1: of 8 signs two are as far from 0.
    assert pair["p"] == pair["p_holm"] == 2 / 8
    # The same three segments, differences -1, -2, -1: mean -4/3, variance 1/3, z = -4/3 / (1/3) = -4.
    assert pair["mapsswe"]["segments"] == 3
    assert pair["mapsswe"]["z"] == pytest.approx(-4)
    assert [(each["id"], each["change"]) for each in wer["changed"]] == [("t3", -2), ("t0", -1), ("t7", -1)]
    assert data["settings"]["generate.num_beams"] == {"one": "4", "two": "1"}
    assert "run.output_dir" not in data["settings"]
    assert data["suspect_references"] == []
    shown = compare(f"one={first}", f"two={second}").stdout
    for part in (
        "one and two: no difference is shown (p 0.2500).",
        "generate.num_beams: one 4; two 1",
        "t3  2 word errors fewer",
        "    one        birds sing [*] [*] [*]",
        "    two        birds sing in  [*] garden",
    ):
        assert part in shown
    assert compare(f"one={first}", f"two={second}", "--metric", "wer").stdout.count("lower is better") == 1


def test_a_clear_difference_is_called_one(site: Site) -> None:
    bad = run(site, "bad", dict.fromkeys(range(10), "x"))
    good = run(site, "good")
    assert "good is better than bad (p 0.0020)." in compare(bad_is(bad), f"good={good}").stdout
    assert "good is better than bad (p 0.0020)." in compare(f"good={good}", bad_is(bad)).stdout


def bad_is(folder: Path) -> str:
    return f"bad={folder}"


def test_a_system_without_an_error(site: Site) -> None:
    data = told(bad_is(run(site, "bad", {0: "x"})), f"good={run(site, 'good')}")
    words = sum(len(text.split()) for text in REFERENCES)
    assert data["metrics"][0]["values"]["good"] == {"value": 0.0, "low": 0.0, "high": 3 / words}
    assert data["notes"][0].startswith(f"WER of good: no error: one-sided, 3 errors in {words} words")


def test_korean_files(tmp_path: Path) -> None:
    """Composed and decomposed answers are the same; files are scored by the protocol that is named."""
    texts = ["나는 집에 간다", "오늘은 날씨가 좋다", "학교에 갑니다"]
    rows = [{"testset_id": f"t{n}", "path": "a.wav", "task": "asr", "text": text} for n, text in enumerate(texts)]
    (tmp_path / "ko.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    answers = {
        "a": [texts[0], "오늘은 날시가 좋다", texts[2]],
        "b": [unicodedata.normalize("NFD", texts[0]), texts[1], "학교에 갑니까"],
    }
    for name, said in answers.items():
        lines = ["testset_id,text", *(f"t{n},{text}" for n, text in enumerate(said))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = (tmp_path / "a.csv", tmp_path / "b.csv", "--annotation", tmp_path / "ko.json")
    data = told(*files, "--protocol", "ko-wer")
    [wer] = data["metrics"]
    assert (wer["values"]["a"]["value"], wer["values"]["b"]["value"]) == (1 / 8, 1 / 8)
    assert [each["id"] for each in wer["changed"]] == ["t1", "t2"]
    shown = compare(*files, "--protocol", "ko-wer").stdout
    assert "    a          오늘은 [날시가] 좋다" in shown
    [cer] = told(*files, "--protocol", "ko-cer")["metrics"]
    assert (cer["metric"], cer["pairs"][0]["mapsswe"]) == ("cer", None)
    assert "    a          오늘은 [날시가] 좋다" in compare(*files, "--protocol", "ko-cer").stdout


def test_three_systems(site: Site) -> None:
    same = {4: "a door opens slowly"}
    folders = [f"{name}={run(site, name, wrong)}" for name, wrong in (("a", same), ("b", same), ("c", {0: "x"}))]
    data = told(*folders)
    pairs = data["metrics"][0]["pairs"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair["p"] for pair in pairs] == [1.0, 1.0, 1.0]
    [suspect] = data["suspect_references"]
    assert suspect == {
        "id": "t4",
        "reference": "a door opens very slowly",
        "systems": ["a", "b"],
        "text": "a door opens slowly",
    }
    shown = compare(*folders).stdout
    assert "better p Holm MAPSSWE p Holm wins losses ties" in " ".join(shown.split())
    assert "No clip changed from a to b." in shown
    assert "t4  2 of 3 systems agree" in shown


def test_files_score_as_their_run(site: Site, tmp_path: Path) -> None:
    first = run(site, "one", {0: "the red hat sat down"})
    second = run(site, "two", {3: "birds sing"})
    lines = second.with_name(f"{second.name}.csv").read_text(encoding="utf-8").splitlines()
    shuffled = tmp_path / "other order.csv"
    shuffled.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    runs = told(f"one={first}", f"two={second}")
    files = told(f"one={first / 'predictions.jsonl'}", f"two={shuffled}", "--annotation", site.folder / "asr.json")
    assert files["metrics"] == runs["metrics"]
    assert files["settings"] == {}


def test_units_and_slices(site: Site) -> None:
    first = run(site, "one", dict.fromkeys((0, 4, 8), "x"), "scoring.unit=speaker")
    second = run(site, "two", {}, "scoring.unit=speaker")
    data = told(f"one={first}", f"two={second}", "--by", "speaker", "--by", "duration")
    assert (data["unit"], data["units"], data["unit_source"]) == ("speaker", 4, 'field "speaker"')
    # Only ann's clips differ: one unit, so both signs give the same.
    assert data["metrics"][0]["pairs"][0]["p"] == 1.0
    assert "only 4 speakers: intervals are too narrow" in data["notes"][0]
    by_speaker = {part: tables[0]["values"]["one"]["value"] for part, tables in data["slices"]["speaker"].items()}
    assert by_speaker == {"ann": 1.0, "bob": 0.0, "cleo": 0.0, "dan": 0.0}
    assert {part: tables[0]["clips"] for part, tables in data["slices"]["duration"].items()} == {"0 to 2 s": 12}
    by_clip = told(f"one={first}", f"two={second}", "--unit", "clip")
    assert by_clip["metrics"][0]["pairs"][0]["p"] == 2 / 8
    by_path = told(f"one={first}", f"two={second}", "--unit", "recording", "--unit-field", "path:1")
    assert (by_path["units"], by_path["unit_source"]) == (1, "path:1")
    [alone] = by_path["metrics"][0]["pairs"]
    assert (alone["low"], alone["high"], alone["second_better"], alone["p"]) == (None, None, 0.5, 1.0)
    assert by_path["notes"][0].startswith("only 1 recording: ")
    shown = compare(f"one={first}", f"two={second}", "--by", "speaker").stdout
    assert '12 clips of 4 speakers (field "speaker")' in shown
    assert "By speaker (differences are not tested here" in shown


def write_captions(folder: Path, rows: Sequence[float], texts: Sequence[str]) -> Path:
    """A finished run of captioning with these CIDEr-D scores."""
    folder.mkdir()
    ids = [f"t{row}" for row in range(len(rows))]
    metrics = [
        {"name": "cider_d", "value": sum(rows) / len(rows), "protocol": "ptb"},
        {"name": "bleu_1", "value": 0.5, "protocol": "ptb"},
        {"name": "spice", "value": None, "reason": "not installed", "protocol": ""},
    ]
    per_sample = {"id": ids, "cider_d": list(rows), "bleu_1": list(rows)}
    (folder / "scores.json").write_text(json.dumps({"task": "aac", "metrics": metrics, "per_sample": per_sample}))
    (folder / "run.json").write_text(json.dumps({"status": "finished", "mode": "valid_aac"}))
    answers = [
        {
            "index": row,
            "id": ids[row],
            "task": "audiocaption",
            "text": text,
            "num_tokens": 3,
            "finish_reason": "stop",
            "audio_seconds": 3.0,
            "seconds": 0.1,
            "error": None,
            "reference": ["a dog barks", "it barks"],
        }
        for row, text in enumerate(texts)
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    return folder


def test_a_record_of_something_else_is_no_unfinished_run(tmp_path: Path) -> None:
    folder = write_captions(tmp_path / "a", [1.0], ["a dog"])
    (folder / "run.json").write_text('{"name": "of another program"}')
    shown = CliRunner().invoke(main, ["report", str(folder)])
    assert shown.exit_code == 3
    assert "has no run.json that can be read: expected the folder of a finished run." in shown.output


def test_captions(tmp_path: Path) -> None:
    texts = [f"caption {row}" for row in range(12)]
    first = write_captions(tmp_path / "one", [float(row) / 4 for row in range(12)], texts)
    second = write_captions(tmp_path / "two", [float(row) / 4 + 1 for row in range(12)], texts)
    data = told(first, second)
    [cider] = data["metrics"]
    [pair] = cider["pairs"]
    assert (pair["difference"], pair["low"], pair["high"]) == (1.0, 1.0, 1.0)
    assert (pair["wins"], pair["losses"], pair["mapsswe"]) == (12, 0, None)
    assert pair["p"] == 2 / 4096
    shown = compare(first, second).stdout
    assert "two is better than one" in shown
    assert "CIDEr-D +1.0000" in shown
    assert "    reference  a dog barks" in shown
    assert "one has no bleu_1: BLEU-1 is no mean over clips" in refused(first, second, "--metric", "bleu_1")
    assert "one has no spice: not installed" in refused(first, second, "--metric", "spice")


def test_what_is_refused(site: Site, tmp_path: Path) -> None:
    first = run(site, "one", {0: "x"})
    assert "give two systems or more" in refused(first)
    assert "2 systems are called one: give them names of their own" in refused(first, first)
    csv = first.with_name(f"{first.name}.csv")
    assert "give --annotation FILE.json" in refused(first, csv)
    assert "does not exist" in refused(first, tmp_path / "nowhere")
    assert 'did you mean "wer"?' in refused(f"a={first}", f"b={first}", "--metric", "wr")
    assert 'has the field "room"; known: path, speaker' in refused(f"a={first}", f"b={first}", "--by", "room")
    assert 'did you mean "speaker"' in refused(f"a={first}", f"b={first}", "--by", "speakr")
    assert "no system tells how long each clip is" in refused(
        f"a={csv}", f"b={csv}", "--by", "duration", "--annotation", site.folder / "asr.json"
    )
    part = tmp_path / "part.csv"
    part.write_text("testset_id,text\nt0,x\nt99,y\n")
    answer = refused(first, part, "--annotation", site.folder / "asr.json")
    for piece in ("clips without an answer: 11: t1, t2", "answers for no clip of the annotation: 1: t99"):
        assert piece in answer


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda rows: rows[:-2], ["has other clips: 2 clips only in one (t10, t11)"]),
        (
            lambda rows: [{**rows[0], "text": "the red cat sat"}, *rows[1:]],
            ["1 clips have other references than in one (the first is t0: 'the red cat sat', not"],
        ),
    ],
)
def test_other_clips_are_refused(site: Site, change: Any, parts: list[str]) -> None:
    first = run(site, "one")
    rows = json.loads((site.folder / "asr.json").read_text())["annotation"]
    site.write_annotation(change(rows))
    answer = refused(f"one={first}", f"two={run(site, 'two')}")
    for part in parts:
        assert part in answer


def test_other_protocols_are_refused(site: Site) -> None:
    first, second = run(site, "one"), run(site, "two")
    scores = json.loads((second / "scores.json").read_text())
    for metric in scores["metrics"]:
        metric.update({"protocol": "another", "signature": "another"})
    (second / "scores.json").write_text(json.dumps(scores))
    answer = refused(f"one={first}", f"two={second}")
    assert "wer is scored by different protocols: one by " in answer
    assert "two by another: score them again with one of them (--resume)" in answer


def test_words_that_the_score_was_not_made_of_are_not_aligned(site: Site) -> None:
    """As where another version of the normaliser scored: the counts hold, the words would not."""
    first, second = run(site, "one", {0: "x"}), run(site, "two")
    scores = json.loads((first / "scores.json").read_text())
    scores["per_sample"]["word_edits"] = [4.0, 1.0, *scores["per_sample"]["word_edits"][2:]]
    (first / "scores.json").write_text(json.dumps(scores))
    data = told(f"one={first}", f"two={second}")
    assert data["metrics"][0]["pairs"][0]["mapsswe"] is None
    assert "no alignment and no MAPSSWE: the words of one are not those that its score was made of" in data["notes"]
    scores["per_sample"]["word_edits"] = [9.0, *scores["per_sample"]["word_edits"][1:]]
    (first / "scores.json").write_text(json.dumps(scores))
    assert "do not add up to its value" in refused(f"one={first}", f"two={second}")
