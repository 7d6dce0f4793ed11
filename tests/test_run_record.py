"""Tests of run.json as a value: what is written is read back, and what is no such value is left out."""

import json
from dataclasses import fields
from pathlib import Path

from evaluator.run.record import RunRecord

ALWAYS = {"status", "reason", "started", "ended", "seconds", "rtfx", "versions", "checkpoint", "limit"}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record = RunRecord(mode="valid_asr", identity={"mode": "valid_asr"}, audio_seconds=30.0, speed={"tokens": 3})
    with record.timed("predict"):
        pass
    record.seconds["predict"] = 2.0
    record.write(tmp_path / "run.json", status="finished", reason=None)
    assert RunRecord.read(tmp_path / "run.json") == record
    assert (record.rtfx, record.stage) == (15.0, "predict")
    keys = list(json.loads((tmp_path / "run.json").read_text()))
    assert set(keys) == ALWAYS | {"stage", "mode", "identity", "audio_seconds", "speed"}
    assert keys == [each.name for each in fields(RunRecord) if each.name in keys]


def test_what_is_of_another_kind_is_not_known(tmp_path: Path) -> None:
    """Files of other versions and of other hands: their other keys still count."""
    facts = {"status": 3, "identity": ["a"], "speed": None, "seconds": [1], "rtfx": 2, "mode": "valid_asr", "more": 1}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    found = RunRecord.read(tmp_path / "run.json")
    assert found == RunRecord(mode="valid_asr", rtfx=2, started=found.started if found else "")


def test_no_record(tmp_path: Path) -> None:
    assert RunRecord.read(tmp_path / "run.json") is None
    for text in ("", "[]", "{", "3"):
        (tmp_path / "run.json").write_text(text)
        assert RunRecord.read(tmp_path / "run.json") is None


def test_scoring_again_keeps_what_was_measured(tmp_path: Path) -> None:
    earlier = RunRecord(started="2025-01-31T09:05:00+09:00", ended="2025-01-31T09:06:00+09:00", speed={"rtfx": 3.0})
    earlier.config, earlier.seconds = {"run": 1, "scoring": 2}, {"predict": 9.0, "score": 8.0}
    now = RunRecord(config={"run": 3, "scoring": 4}, seconds={"preflight": 1.0})
    begun = now.started
    now.keep(earlier)
    for stage in ("predict", "score"):
        with now.timed(stage):
            pass
    now.write(tmp_path / "run.json", status="finished", reason=None)
    assert (now.started, now.ended, now.scored_again) == (earlier.started, earlier.ended, begun)
    assert now.config == {"run": 1, "scoring": 4}
    assert now.seconds["predict"] == 9.0
    assert now.seconds["score"] < 1.0


def test_an_attempt_without_speed_leaves_nothing_to_keep() -> None:
    now = RunRecord(config={"run": 3})
    now.keep(RunRecord(seconds={"predict": 9.0}, config={"run": 1}))
    assert (now.scored_again, now.seconds, now.config) == (None, {}, {"run": 3})
