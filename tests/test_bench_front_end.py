"""The benchmark of the features runs, compares both ways' numbers, and refuses to compare what is not the same."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("front_end")


def test_a_quick_run_prints_every_part_with_its_difference(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["front_end.py", "--quick"])
    bench.main()
    rows = re.findall(r"^\| (log-mel|filter bank|both) \| (\d+) \| .* \| ([^|]+) \|$", capsys.readouterr().out, re.M)
    assert [(part, size) for part, size, _ in rows] == [
        (part, size) for part in ("log-mel", "filter bank", "both") for size in ("1", "4")
    ]
    assert all(float(apart) <= 1e-6 for *_, apart in rows)


def test_other_shapes_are_not_compared(bench: ModuleType) -> None:
    assert bench.difference([torch.zeros(2)], [torch.tensor([0.0, 0.5])]) == 0.5
    with pytest.raises(SystemExit, match="other shapes"):
        bench.difference([torch.zeros(2)], [torch.zeros(3)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["front_end.py", "--device", "cuda"])
    with pytest.raises(SystemExit, match="no GPU is here"):
        bench.main()
