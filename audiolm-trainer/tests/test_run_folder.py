"""The run folder: what is kept, what the best is, from which file a run goes on."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch

from salmonn.errors import CheckpointError
from salmonn.training.run_folder import RunFolder, newest_checkpoint, remove_unfinished_checkpoints
from salmonn.weights.atomic_write import _host, whole_file
from salmonn.weights.checkpoint import read_weights

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


def gone_process() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_unfinished_checkpoints_of_killed_processes_are_removed(tmp_path: Path) -> None:
    own, other, gone, alive = tmp_path / "own", tmp_path / "other", gone_process(), os.getppid()
    for folder in (own, other):
        folder.mkdir()
        for name in (f"pth.{gone}", f"pth.{alive}", f"pth@{_host()}.{gone}", f"pth@elsewhere.{gone}", "pth"):
            (folder / f".checkpoint_step_3.{name}.tmp").write_bytes(b"half")
        (folder / "checkpoint_0.pth").write_bytes(b"whole")
        (folder / ".metrics.jsonl.tmp").touch()
    remove_unfinished_checkpoints(tmp_path, own)
    # The run that goes on has its folder for itself; elsewhere somebody may be writing.
    assert sorted(path.name for path in own.iterdir()) == [".metrics.jsonl.tmp", "checkpoint_0.pth"]
    assert sorted(path.name for path in other.iterdir()) == [
        f".checkpoint_step_3.pth.{alive}.tmp",
        ".checkpoint_step_3.pth.tmp",
        f".checkpoint_step_3.pth@elsewhere.{gone}.tmp",
        ".metrics.jsonl.tmp",
        "checkpoint_0.pth",
    ]
    remove_unfinished_checkpoints(tmp_path / "none", None)


def test_what_is_being_written_tells_whose_it_is(tmp_path: Path) -> None:
    with whole_file(tmp_path / "checkpoint_0.pth", size=0) as unfinished:
        assert unfinished.name == f".checkpoint_0.pth@{_host()}.{os.getpid()}.tmp"
        unfinished.write_bytes(b"")


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
