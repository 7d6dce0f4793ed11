"""Where figures go: files, TensorBoard, and a sentence for a tracker that is not installed."""

import json
import logging
import re
import warnings
from pathlib import Path

import pytest

from salmonn.training.run_folder import RunFolder
from salmonn.training.tracking import StepClock, Tracking, start_trackers

CONFIG = {"run": {"seed": 1, "trackers": ["tensorboard"]}}


@pytest.mark.slow
def test_tensorboard_gets_every_figure_at_its_global_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with warnings.catch_warnings():
        # TensorBoard's own dependencies.
        warnings.simplefilter("ignore")
        tracking = Tracking(folder, start_trackers(["tensorboard"], folder, run_name="x", step=0))
        tracking.start(CONFIG, step=0, total=40)
        for step in (5, 10):
            tracking.note("step", {"loss": 1.0 / step, "epoch": 0, "name": "text"}, step=step)
        tracking.finish()
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("step/loss")] == [
        *((5, pytest.approx(0.2)), (10, pytest.approx(0.1))),
    ]
    assert "step/name" not in events.Tags()["scalars"]


def test_log_and_metrics_hold_full_precision(tmp_path: Path) -> None:
    tracking = Tracking(RunFolder(tmp_path))
    tracking.start(CONFIG, step=0, total=40)
    tracking.note("step", {"lr": 1.23456789e-06, "note": "x"}, step=1)
    lines = [json.loads(line) for line in (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()]
    assert lines == [{"event": "config", **CONFIG}, {"event": "step", "step": 1, "lr": 1.23456789e-06, "note": "x"}]
    [metrics] = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(metrics) == {"step": 1, "step/lr": 1.23456789e-06}


def test_other_processes_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracking = Tracking(RunFolder(tmp_path), quiet=True)
    with caplog.at_level("INFO"):
        tracking.start(CONFIG, step=0, total=40)
        tracking.note("step", {"loss": 1.0}, step=1)
    assert not list(tmp_path.iterdir())
    assert not caplog.text


@pytest.mark.parametrize(
    ("first", "step", "left"), [(0, 10, "30 s"), (0, 1, "6 min"), (5, 10, "1 min"), (0, 40, "0 s"), (0, 0, "7 min")]
)
def test_the_rest_is_as_fast_as_what_is_done(first: int, step: int, left: str) -> None:
    assert StepClock(100.0, first, 40).left(110.0, step) == left
    assert StepClock(0.0, 0, 1000).left(5000.0, 500) == "1 h 23 min"


def test_a_line_says_how_far_the_run_has_come(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tracking = Tracking(RunFolder(tmp_path))
    tracking.start(CONFIG, step=20, total=40)
    tracking.note("step", {"loss": 1.0}, step=30)
    assert re.fullmatch(r"step 30 of 40, [0-9]+ s left: loss 1", caplog.messages[-1])
