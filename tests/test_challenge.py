"""Tests of the challenge's efficiency protocol: what is inside which clock, and what the file says of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_model import EchoLM, FakeProvider
from fake_site import Site, make_site
from timed_model import FakeClock, TimedProbe

from evaluator.cli import build_evaluate_command
from evaluator.errors import ContractError, ProcessError
from evaluator.model import Request
from evaluator.speed import challenge_run
from evaluator.speed.challenge import ChallengeFigures, ComponentCost, measure_challenge
from evaluator.speed.challenge_run import run_challenge
from evaluator.speed.fresh_process import measure_in_fresh_process
from evaluator.speed.table import read_column, table

ROOT = Path(__file__).resolve().parents[1]
CLIP = Request(0, np.zeros(160000, np.float32), "asr", "")


class Part(NamedTuple):
    name: str
    run: Callable[[], None]
    weights_bytes: int


@dataclass
class StagedLM:
    """A device that works behind the host's back: each stage takes the host 1 s to queue and the device longer."""

    clock: FakeClock = field(default_factory=FakeClock)
    waiting: float = 0.0
    synchronized: int = 0
    peak: int = 0
    ran: list[str] = field(default_factory=list)
    sampling_rate: int = 16000

    def generate(self, requests: Any) -> Any:
        """Never asked."""
        raise NotImplementedError

    def peak_memory(self) -> int:
        """Grow with each iteration."""
        self.peak += 10
        return self.peak

    def probe(self) -> "StagedProbe":
        """Offer stages."""
        return StagedProbe(self)  # type: ignore[arg-type]


class StagedProbe(TimedProbe):
    """Four stages that queue 5, 20, 30 and 4 s of work."""

    def stages(self, request: Request) -> list[Part]:
        """Name them."""
        work = {"features": 5.0, "whisper": 20.0, "prompt": 30.0, "step": 4.0}
        return [Part(name, lambda name=name, s=seconds: self._queue(name, s), 100) for name, seconds in work.items()]

    def activations(self, run: Callable[[], None]) -> int:
        """Count something."""
        run()
        return 77

    def _queue(self, name: str, seconds: float) -> None:
        model: Any = self.model
        model.ran.append(name)
        model.clock.now += 1.0
        model.waiting += seconds


def test_what_is_inside_each_clock() -> None:
    model = StagedLM()
    found = measure_challenge(model, CLIP, clock=model.clock, warm_up=1, iterations=2)
    # The original sees the host's time alone: two stages to the first token, one step.
    assert (found.ttft, found.tpot) == (2.0, 1.0)
    # Waited for: features, encoder and prompt with the device's 55 s, a step with its 4 s.
    assert (found.waited_ttft, found.waited_tpot) == (58.0, 5.0)
    # Iterations 2 and 3; the first warms up.
    assert found.device_memory == 25
    assert found.components["prompt"] == ComponentCost(31.0, 100, 77)
    assert list(found.components) == ["features", "whisper", "prompt", "step"]
    assert model.ran[:4] == ["features", "whisper", "prompt", "step"]


def test_a_model_without_stages_is_told() -> None:
    with pytest.raises(ContractError, match="offers no stages"):
        measure_challenge(EchoLM(), CLIP)


def figures(latency: float, *, device: float | None = None) -> ChallengeFigures:
    costs = {"features": ComponentCost(1.0, 0, None), "step": ComponentCost(2.0, 8, 9)}
    return ChallengeFigures(latency / 2, latency / 2, 1.0, 1.0, device, 5_000_000_000, costs, {"device": "made up"})


def combined(monkeypatch: pytest.MonkeyPatch, site: Site, *found: ChallengeFigures) -> dict[str, Any]:
    each = iter(found)
    monkeypatch.setattr(challenge_run, "measure_in_fresh_process", lambda *args, **named: next(each))
    return run_challenge(
        FakeProvider(), site.load(), known_tasks={"asr": False}, processes=len(found), progress=lambda done, total: None
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def test_processes_are_put_together(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    found = combined(monkeypatch, site, figures(1.0, device=4e9), figures(1.01, device=4e9), figures(1.02, device=4e9))
    assert found["figures"]["challenge_latency_seconds"]["median"] == 1.01
    assert found["figures"]["challenge_memory_bytes"]["median"] == 4e9
    assert found["protocol"]["processes"] == 3
    assert not any("differs" in note or "No GPU" in note for note in found["notes"])
    assert found["components"]["step"]["activations_bytes"] == 9


def test_a_wide_spread_is_said(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    found = combined(monkeypatch, site, figures(1.0), figures(1.2))
    assert any("challenge_latency_seconds differs by 18% of its median" in note for note in found["notes"])
    assert any(note.startswith("No GPU") for note in found["notes"])


def test_memory_without_a_gpu_is_above_an_empty_python(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setattr(challenge_run, "empty_process_memory", lambda: 1_000_000_000)
    found = combined(monkeypatch, site, figures(1.0))
    assert found["figures"]["challenge_memory_bytes"]["median"] == 4e9
    assert any("One process" in note for note in found["notes"])
    monkeypatch.setattr(challenge_run, "empty_process_memory", lambda: None)
    found = combined(monkeypatch, site, figures(1.0))
    assert "challenge_memory_bytes" in found["missing"]
    assert "challenge_memory_bytes" not in found["figures"]


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    busy = iter([100.0, 1e9])
    monkeypatch.setattr(challenge_run, "busy_seconds", lambda: next(busy))
    assert any("was busy" in note for note in combined(monkeypatch, site, figures(1.0))["notes"])
    monkeypatch.setattr(challenge_run, "busy_seconds", lambda: None)
    assert any("not known" in note for note in combined(monkeypatch, site, figures(1.0))["notes"])


@dataclass
class DyingProvider(FakeProvider):
    def load_model(self, config: Any, device: str) -> Any:
        """End the process as a killed one ends."""
        os._exit(7)


@pytest.mark.parametrize(
    ("provider", "error", "message"),
    [(FakeProvider(), ContractError, "offers no stages"), (DyingProvider(), ProcessError, "exit code 7")],
)
def test_what_a_fresh_process_cannot_do_is_told(
    site: Site, provider: FakeProvider, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        measure_in_fresh_process(provider, site.load(), ("asr", ""), is_first=True, progress=lambda done: None)


def invoke(site: Site, *args: str) -> Result:
    return CliRunner().invoke(build_evaluate_command(FakeProvider(), default_config=site.config), args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--efficiency", "--protocol", "challenge", "--clips", "3"], "--clips belongs to --protocol clips"),
        (["--efficiency", "--processes", "3"], "--processes belongs to --protocol challenge"),
        (["--mode", "valid_asr", "--protocol", "challenge"], "--protocol belongs to --efficiency"),
        (["--efficiency", "--protocol", "challenge", "--mode", "submission_qa"], "leave --mode submission_qa out"),
    ],
)
def test_options_of_another_protocol_are_refused(site: Site, args: list[str], message: str) -> None:
    result = invoke(site, *args)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
def test_the_nano_model_by_the_challenges_protocol(tmp_path: Path) -> None:
    search = os.pathsep.join([str(ROOT / "audiolm-trainer"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "evaluate_salmonn.py"), "--efficiency", "--protocol", "challenge",
            "--processes", "2", "--output-dir", str(tmp_path),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("efficiency_results/*/efficiency.json")
    data = json.loads(path.read_text())
    assert list(data["components"]) == ["features", "whisper", "beats", "qformer", "projection", "prompt", "step"]
    figures = {name: spread["median"] for name, spread in data["figures"].items()}
    parts = figures["challenge_ttft_seconds"] + figures["challenge_tpot_seconds"]
    assert figures["challenge_latency_seconds"] == pytest.approx(parts, rel=0.5)
    assert figures["challenge_memory_bytes"] > sum(cost["weights_bytes"] for cost in data["components"].values())
    lines = table([read_column(path)])
    assert any(line.startswith("whisper") and "2,560,512" in line for line in lines)
    assert "CPUAllocator" not in done.stderr
