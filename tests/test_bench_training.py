"""The training benchmark runs, and refuses to compare what is not the same."""

import importlib
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_training")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_quick_run_prints_every_arm(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_training.py", "--quick", "--vocabulary", "1500"])
    bench.main()
    printed = capsys.readouterr().out
    assert "vocabulary=1500" in printed
    for arm in ("original", "new", "kept"):
        assert f"| {arm} | " in printed
    assert "| original | " in printed
    assert " 1.00 (1.00-1.00) " in printed


def test_arms_that_compute_something_else_are_not_compared(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    data = bench.draw_training_set(4)
    model = bench.build_random_model(bench.QUICK, device=device, dtype=torch.float32)
    bench.compare_losses(model, data, device)
    monkeypatch.setattr(bench, "original_loss", lambda *_: torch.tensor(1.0))
    with pytest.raises(SystemExit, match="do not compute the same loss"):
        bench.compare_losses(model, data, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_training.py", "--device", "cuda"])
    with pytest.raises(SystemExit, match="no GPU is here"):
        bench.main()


def test_the_arms_see_the_same_clips(bench: ModuleType) -> None:
    data = bench.draw_training_set(10)
    model = bench.build_random_model(bench.QUICK, device=torch.device("cpu"), dtype=torch.float32)
    arms = bench.build_arms(model, data, 4, torch.device("cpu"))
    assert {tuple(sorted(chain.from_iterable(arm.batches))) for arm in arms.values()} == {tuple(range(10))}
