"""The run folder: what is kept, what the best is, from which file a run goes on."""

import json
import os
from datetime import datetime
from pathlib import Path

import pytest
import torch

from salmonn.checkpoint import read_weights
from salmonn.errors import CheckpointError
from salmonn.run_folder import RunFolder, newest_checkpoint

WEIGHTS = {"a": torch.zeros(2)}


def test_the_best_survives_the_checkpoint_it_was_linked_to(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.mark_best(folder.save("0", WEIGHTS, epoch=0))
    for number in range(1, 4):
        folder.save(str(number), WEIGHTS, epoch=number)
        folder.keep(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("checkpoint_2.pth", "checkpoint_3.pth", "checkpoint_best.pth"),
    ]
    assert read_weights(tmp_path / "checkpoint_best.pth")["epoch"] == 0


def test_the_best_is_copied_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    folder = RunFolder(tmp_path)
    for number in range(2):
        folder.mark_best(folder.save(str(number), WEIGHTS, epoch=number))
    assert read_weights(tmp_path / "checkpoint_best.pth")["epoch"] == 1
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_run_goes_on_from_the_newest_checkpoint_that_can_be_resumed(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for number, extra in enumerate(({"progress": {}}, {"progress": {}}, {})):
        folder = RunFolder(tmp_path / str(number))
        path = folder.save("0", WEIGHTS, **extra)
        os.utime(path, (number, number))
    folder.mark_best(path)
    assert newest_checkpoint(tmp_path) == tmp_path / "1" / "checkpoint_0.pth"


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_0.pth").write_bytes(b"PK not a checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint_0\.pth"):
        newest_checkpoint(tmp_path)


def test_figures_after_the_resumed_step_are_dropped_and_an_unfinished_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.forget_metrics_after(3)
    for step in range(1, 6):
        folder.add_metrics(step, {"step/loss": 1 / step})
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "st')
    folder.forget_metrics_after(3)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": i, "step/loss": 1 / i} for i in (1, 2, 3)]


def test_a_folder_or_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"run\.output_dir .*file/out cannot be written"):
        RunFolder.create(tmp_path / "file" / "out", datetime(2026, 1, 2))
    (tmp_path / "log.txt").mkdir()
    with pytest.raises(CheckpointError, match=r"log\.txt cannot be written"):
        RunFolder(tmp_path).log({"event": "x"})
