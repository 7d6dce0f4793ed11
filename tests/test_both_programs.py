"""One configuration serves both programs: the same reader, and every shipped file is understood by either."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import evaluator.audio.loading
import salmonn
import salmonn.config.config
import salmonn.config.schema
import salmonn.errors
from evaluator.annotation.annotation import read_annotation
from evaluator.config.config import load_config
from evaluator.config.sections import RunConfig
from evaluator.errors import AnnotationError, AudioError, ConfigError
from salmonn.data.annotation import Annotation
from salmonn.data.dataset import open_samples
from salmonn.errors import DatasetError
from salmonn.planning.data_report import describe_data
from salmonn.prompts import PromptBook

ROOT = Path(__file__).resolve().parents[1]
TRAINER = ROOT / "audiolm-trainer"
SHIPPED = sorted(
    path
    for folder in (ROOT / "configs", TRAINER / "configs")
    for path in folder.rglob("*.yaml")
    # Files of commands of their own.
    if not {"pretrain", "compress"} & yaml.safe_load(path.read_text(encoding="utf-8")).keys()
)


@pytest.mark.parametrize("name", ["config/yaml.py", "config/reference.py", "cpu_threads.py"])
def test_both_have_the_same_file(name: str) -> None:
    """The projects stand alone, so each has the file; what one accepts or does the other must."""
    assert (ROOT / "evaluator" / name).read_bytes() == (TRAINER / "salmonn" / name).read_bytes()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *((f"audio/{name}.py",) * 2 for name in ("bytes", "parts", "reading", "mp3_frames", "regular_file")),
        ("annotation/clip_fields.py", "data/clip_fields.py"),
        ("annotation/mistaken_file.py", "data/mistaken_file.py"),
        ("annotation/span_fields.py", "data/span_fields.py"),
    ],
)
def test_both_read_clips_by_the_same_code(ours: str, theirs: str) -> None:
    """But for the package's name the files are one: what one program hears the other hears."""
    text = (ROOT / "evaluator" / ours).read_text(encoding="utf-8")
    assert text.replace("evaluator.", "salmonn.") == (TRAINER / "salmonn" / theirs).read_text(encoding="utf-8")


ROW = {"testset_id": "test0000", "path": "a.flac", "task": "asr", "text": "hello"}
SECOND = {**ROW, "testset_id": "test0001", "path": "b.flac", "Q": None}
LINES = f"{json.dumps(ROW)}\n\n{json.dumps(SECOND)}\n"
DOCUMENT = json.dumps({"version": 1, "annotation": [ROW, SECOND]}, indent=1)


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "mark"])
@pytest.mark.parametrize("ending", ["json", "jsonl", "ndjson", "JSONL", "txt"])
@pytest.mark.parametrize("text", [LINES, DOCUMENT, json.dumps([ROW, SECOND]), LINES.replace("\n", "\r\n")])
def test_both_read_the_same_rows(tmp_path: Path, text: str, ending: str, mark: str) -> None:
    if text == DOCUMENT and ending.lower() in ("jsonl", "ndjson"):
        text = json.dumps({"annotation": [ROW, SECOND]})
    path = tmp_path / f"ann.{ending}"
    path.write_text(mark + text, encoding="utf-8", newline="")
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).touch()
    samples = read_annotation(
        path, prefix=str(tmp_path), mode="valid_asr", known_tasks={"asr": False}
    ).without_problems()
    parts = Annotation(path, prefix=str(tmp_path), tasks={"asr": False}).parts()
    rows = [row for part in parts for row in part]
    assert [str(sample.path) for sample in samples] == [str(tmp_path / row.path) for row in rows]
    assert [(s.task, s.question, *s.references) for s in samples] == [(r.task, r.question, r.text) for r in rows]
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('"path": "c.flac"', "path: 'PREFIX/c.flac' does not exist"),
        ('"path": "/no/c.flac"', "path: '/no/c.flac' does not exist"),
        ('"path": "../a.flac"', "path: '../a.flac' leaves the folder datasets.prefix"),
        ('"path": "file:///a.flac"', "path: 'file:///a.flac' is an address"),
        ('"path": "a.flac", "path": "b.flac"', "path: the field appears twice"),
        ('"path": "a.flac", "begin_time": 1.5', "begin_time: the field would change what is heard"),
        ('"path": "a.flac", "endTime": "0:12"', "endTime: the field would change what is heard"),
        ('"path": "a.flac", "expand_wavs": ["b.flac"]', "expand_wavs: the field would change what is heard"),
        ('"path": "a.flac", "expand_wav": "b.flac"', "expand_wav: expected a list of paths"),
        ('"path": "a.flac", "expand_wav": ["c.flac"]', "expand_wav: 'PREFIX/c.flac' does not exist"),
        ('"path": "a.flac", "Q": 3', "Q: "),
        ('"path": "a.flac", "start": "1"', "start: expected seconds from the beginning of the file, as a number"),
        ('"path": "a.flac", "start": -1', "start: expected seconds from the beginning of the file, as a number"),
        ('"path": "a.flac", "start": 2, "end": 2.0', "end: expected more than start, which is 2, found 2"),
        ('"path": "a.flac", "end": true', "end: expected seconds from the beginning of the file"),
        ('"path": "a.flac", "start": 1, "expand_wav": ["b.flac"]', "start: a row with expand_wav joins whole files"),
    ],
)
@pytest.mark.parametrize("lines", [False, True], ids=["document", "lines"])
def test_both_name_a_wrong_row_by_the_same_number(tmp_path: Path, wrong: str, message: str, lines: bool) -> None:
    good = f'{{"testset_id": "x", "path": "a.flac", "task": "asr", "text": "a"}}{"" if lines else ","}\n'
    rows = good + good + f'{{{wrong}, "testset_id": "bad", "task": "asr", "text": "a"}}'
    path = tmp_path / ("ann.jsonl" if lines else "ann.json")
    path.write_text(rows if lines else f"[{rows}]", encoding="utf-8")
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).touch()
    message = message.replace("PREFIX", str(tmp_path))

    def check(file: Path) -> str | None:
        return None if file.exists() else f"{str(file)!r} does not exist."

    annotation = read_annotation(path, prefix=str(tmp_path), mode="valid_asr", known_tasks={"asr": False})
    annotation.check_audio(check)
    with pytest.raises(AnnotationError) as ours:
        annotation.without_problems()
    found = [str(problem) for problem in ours.value.problems]
    assert len(found) == 1
    assert found[0].startswith(f"{path}{':3' if lines else ': row 3'} (bad): {message}")
    with pytest.raises(DatasetError) as theirs:
        list(Annotation(path, prefix=str(tmp_path), tasks={"asr": False}).parts())
    assert str(theirs.value).splitlines()[1].startswith(f"  {'line' if lines else 'row'} 3: {message}")


def test_paths_below_the_prefix_may_begin_with_a_slash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Published annotations write theirs so; an absolute path that is there stands for itself, which is said."""
    prefix, own = tmp_path / "data", tmp_path / "own.flac"
    twin = prefix / str(own).lstrip("/")
    twin.parent.mkdir(parents=True)
    for path in (prefix / "a.flac", own, twin):
        path.touch()
    rows = [{**ROW, "path": "/a.flac", "expand_wav": ["/a.flac", "a.flac"]}, {**ROW, "path": str(own)}]
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(rows))
    samples = read_annotation(path, prefix=str(prefix), mode="valid_asr", known_tasks={"asr": False}).without_problems()
    assert [sample.files for sample in samples] == [(prefix / "a.flac",) * 3, (own,)]
    opened = open_samples(str(path), prefix=str(prefix), tasks={"asr": False}, cache_dir=tmp_path / "cache")
    assert [(sample.path, *sample.further) for sample in opened] == [sample.files for sample in samples]
    assert f"there, and below datasets.prefix too; taken as absolute ({own} ...)" in caplog.text


@pytest.mark.parametrize("rates", [(16000, 16000), (44100, 44100), (16000, 8000)])
def test_both_join_the_files_of_expand_wav(tmp_path: Path, rates: tuple[int, int]) -> None:
    """With 0.1 s of silence in front of each further file, before the clip is filled up to a second and resampled."""
    waves = [0.5 * np.ones(rate // 4) for rate in rates]
    for number, (wave, rate) in enumerate(zip(waves, rates, strict=True)):
        soundfile.write(tmp_path / f"{number}.wav", wave, rate)
    path = tmp_path / "ann.json"
    path.write_text(json.dumps([{**ROW, "path": "0.wav", "expand_wav": ["1.wav", "/1.wav"]}]))
    arguments = {"prefix": str(tmp_path), "known_tasks": {"asr": False}}
    (sample,) = read_annotation(path, mode="valid_asr", **arguments).without_problems()
    heard = evaluator.audio.loading.load_audio(sample.clip, 16000)
    samples = open_samples(str(path), prefix=str(tmp_path), tasks={"asr": False}, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(heard, samples.load_audio(0, 16000))
    assert len(heard) == 16000
    if rates == (16000, 16000):
        silence = np.zeros(1600)
        joined = np.concatenate([waves[0], silence, waves[1], silence, waves[1], np.zeros(800)])
        np.testing.assert_allclose(heard, joined, atol=1e-4)
    loud = np.abs(heard) > 0.25
    assert [int(edge) for edge in np.round(np.flatnonzero(np.diff(loud)) / 16000, 2) * 100] == [25, 35, 60, 70, 95]
    report = describe_data(samples, tokenizer=None, max_txt_len=9, seed=0)
    assert (round(report.seconds, 3), report.unreadable) == (0.95, ())


SPANS: list[tuple[dict[str, object], float]] = [
    ({}, 30.0), ({"start": 0, "end": -1}, 30.0), ({"start": 12.5}, 22.3), ({"start": 1.25, "end": 3.5}, 2.25),
    ({"end": 0.4}, 1.0), ({"start": 34.7}, 1.0), ({"start": 2, "end": 34.83}, 30.0), ({"start": None, "end": ""}, 30.0),
]  # fmt: skip


@pytest.mark.parametrize("rate", [16000, 44100])
def test_both_hear_the_same_part_of_a_file(tmp_path: Path, rate: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(34.8 * rate))
    soundfile.write(tmp_path / "a.wav", noise, rate)
    path = tmp_path / "ann.json"
    path.write_text(json.dumps([{**ROW, "path": "a.wav", **fields} for fields, _ in SPANS]))
    arguments = {"prefix": str(tmp_path), "known_tasks": {"asr": False}}
    clips = read_annotation(path, mode="valid_asr", **arguments).without_problems()
    samples = open_samples(str(path), prefix=str(tmp_path), tasks={"asr": False}, cache_dir=tmp_path / "cache")
    for number, (_, seconds) in enumerate(SPANS):
        heard = samples.load_audio(number, 16000)
        np.testing.assert_array_equal(heard, evaluator.audio.loading.load_audio(clips[number].clip, 16000))
        assert len(heard) == round(seconds * 16000)
    again = open_samples(str(path), prefix=str(tmp_path), tasks={"asr": False}, cache_dir=tmp_path / "cache")
    assert [sample.span for sample in again] == [sample.span for sample in samples]
    report = describe_data(samples, tokenizer=None, max_txt_len=9, seed=0)
    lengths = [34.8, 34.8, 22.3, 2.25, 0.4, 0.1, 32.8, 34.8]
    assert (report.unreadable, report.seconds) == ((), pytest.approx(sum(lengths)))


def test_both_name_a_part_that_is_not_all_there(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 16000)
    path = tmp_path / "ann.json"
    parts = [{"start": 1}, {"start": 0.5, "end": 1.2}, {"end": 1.04}]
    path.write_text(json.dumps([{**ROW, "path": "a.wav", **fields} for fields in parts]))
    arguments = {"prefix": str(tmp_path), "known_tasks": {"asr": False}}
    clips = read_annotation(path, mode="valid_asr", **arguments).without_problems()
    samples = open_samples(str(path), prefix=str(tmp_path), tasks={"asr": False}, cache_dir=tmp_path / "cache")
    for place in (0, 1):
        with pytest.raises(AudioError, match="is not all there: the file ends at 1 s"):
            evaluator.audio.loading.check_audio(clips[place].path)
    with pytest.raises(salmonn.errors.AudioError, match="holds no samples that lie after 1 s"):
        samples.load_audio(0, 16000)
    with pytest.raises(salmonn.errors.AudioError, match=r"a\.wav from 0\.5 s to 1\.2 s' is not all there: .* at 1 s"):
        samples.load_audio(1, 16000)
    assert len(samples.load_audio(2, 16000)) == 16000
    report = describe_data(samples, tokenizer=None, max_txt_len=9, seed=0)
    assert [clip.name for clip in report.unreadable] == ["a.wav from 1 s", "a.wav from 0.5 s to 1.2 s"]


def test_a_prompt_file_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text('\ufeff{"asr": "<Speech><SpeechHere></Speech> Write."}', encoding="utf-8")
    assert PromptBook.from_files(tmp_path / "prompts.json").tasks() == {"asr": False}


def test_the_trainer_names_the_evaluators_own_keys() -> None:
    assert salmonn.config.config.EVALUATOR_KEYS == RunConfig.EVALUATOR_ONLY
    assert (
        RunConfig.model_fields.keys() <= salmonn.config.schema.RunConfig.model_fields.keys() | RunConfig.EVALUATOR_ONLY
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_file_has_no_key_that_either_program_does_not_know(path: Path) -> None:
    keys = []
    try:
        load_config(path, check_extra=salmonn.check_config)
    except ConfigError as error:
        keys += [str(problem) for problem in error.problems]
    for purpose in ("evaluate", "train", "answer"):
        document = salmonn.config.config.open_document(path)
        keys += [text for _, text in salmonn.config.config.find_problems(document.tree, path.parent, purpose=purpose)]
    assert [text for text in keys if "unknown" in text or "not a setting" in text or "no section" in text] == []


@pytest.mark.parametrize("key", ["run.sed=1", "datasets.prefx=x", "run.optims.max_epok=1", "run.on_audio_eror=fail"])
def test_a_misspelt_key_is_named_before_a_model_is_loaded(key: str) -> None:
    with pytest.raises(ConfigError, match="did you mean") as caught:
        load_config(ROOT / "configs" / "salmonn_eval_config.yaml", [key], check_extra=salmonn.check_config)
    assert [problem.where for problem in caught.value.problems] == [f"--options: {key.partition('=')[0]}"]
