"""data/sample: what the sample set promises about its clips, ids, references and size."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import soundfile

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((SAMPLE / name).read_text(encoding="utf-8"))["annotation"]
    return rows


def _truths(name: str) -> dict[str, dict[str, Any]]:
    truths: dict[str, dict[str, Any]] = json.loads((SAMPLE / name).read_text(encoding="utf-8"))
    return truths


@pytest.mark.parametrize(("name", "task", "fewest"), [("asr.json", "asr", 80), ("aac.json", "audiocaption_v2", 60)])
def test_annotation_has_the_original_schema(name: str, task: str, fewest: int) -> None:
    rows = _rows(name)
    assert len(rows) >= fewest
    assert [row["testset_id"] for row in rows] == [f"test{index:04d}" for index in range(len(rows))]
    assert all(set(row) == {"testset_id", "path", "task", "text"} for row in rows)
    assert {row["task"] for row in rows} == {task}


@pytest.mark.parametrize("name", ["asr.json", "aac.json"])
def test_clips_are_flac_16_khz_mono_16_bit_and_fit_the_model(name: str) -> None:
    for row in _rows(name):
        info = soundfile.info(SAMPLE / row["path"])
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16000, 1)
        assert 0.5 < info.duration < 10


def test_no_clip_is_left_over_or_shared() -> None:
    named = [row["path"] for name in ("asr.json", "aac.json") for row in _rows(name)]
    there = {path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*.flac")}
    assert len(named) == len(set(named))
    assert set(named) == there


def test_at_least_half_of_the_speech_is_by_unseen_voices() -> None:
    voices = _truths("voices.json")
    assert set(voices) == {row["testset_id"] for row in _rows("asr.json")}
    assert sum(not voice["trained"] for voice in voices.values()) >= len(voices) / 2


def test_sentences_are_different_lower_case_words() -> None:
    texts = [row["text"] for row in _rows("asr.json")]
    assert len(set(texts)) == len(texts)
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", text) for text in texts)


def test_every_scene_has_five_references_and_a_known_kind() -> None:
    scenes = _truths("events.json")
    for row in _rows("aac.json"):
        assert len(row["text"]) == len(set(row["text"])) == 5
        assert len(scenes[row["testset_id"]]["events"]) == (1 if scenes[row["testset_id"]]["kind"] == "single" else 2)
    kinds = Counter(scene["kind"] for scene in scenes.values())
    assert set(kinds) == {"single", "then", "over"}
    assert min(kinds.values()) >= 15
    singles = Counter(scene["events"][0] for scene in scenes.values() if scene["kind"] == "single")
    assert len(singles) == 15
    assert set(singles.values()) == {2}


def test_sample_is_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) <= 12_000_000
