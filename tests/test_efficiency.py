"""Tests of evaluator/speed/measure.py and evaluator/provider/probe.py: figures of a model whose time is made up."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_model import EchoLM, Reply
from timed_model import FakeClock, TimedLM

from evaluator.errors import ContractError
from evaluator.model import Request
from evaluator.provider.probe import ModelProbe
from evaluator.speed import measure as efficiency
from evaluator.speed.measure import Measurement, measure


def requests(*seconds: float) -> list[Request]:
    """Silent clips with indices that are no places."""
    return [Request(10 + n, np.zeros(round(16000 * s), np.float32), "asr", "") for n, s in enumerate(seconds)]


def measured(model: Any, *seconds: float, repeats: int = 2, **more: Any) -> Measurement:
    return measure(model, requests(*(seconds or (2.0, 6.0, 2.0, 6.0))), repeats=repeats, clock=model.clock, **more)


def median(found: Measurement, name: str) -> float:
    return found.figures[name].median


def test_figures_at_batch_1() -> None:
    found = measured(TimedLM())
    # One second to the first of five tokens, a quarter for each further one: two seconds a clip.
    assert median(found, "batch1_first_step_seconds_p50") == 1.0
    assert median(found, "batch1_first_token_seconds_p95") == 1.0
    assert median(found, "batch1_further_token_seconds_p50") == 0.25
    assert median(found, "batch1_further_token_seconds_mean") == 0.25
    assert median(found, "batch1_final_text_seconds_p50") == 2.0
    assert median(found, "batch1_rtfx") == 16.0 / 8.0
    assert median(found, "batch1_rtf") == 8.0 / 16.0
    assert median(found, "batch1_tokens_per_second") == 20 / 8.0
    assert found.audio_seconds == (2.0, 6.0, 2.0, 6.0)
    assert found.tokens == (5, 5, 5, 5)


def test_figures_of_all_clips_at_once() -> None:
    found = measured(TimedLM())
    assert median(found, "full_seconds") == 2.0
    assert median(found, "full_rtfx") == 8.0
    assert median(found, "full_rtf") == 0.125
    assert median(found, "full_clips_per_second") == 2.0
    assert median(found, "full_tokens_per_second") == 10.0


def test_warm_up_is_not_counted() -> None:
    found = measured(TimedLM(slow_calls=5), repeats=2)
    assert found.figures["batch1_final_text_seconds_p95"].rounds == (2.0, 2.0)
    assert found.figures["full_seconds"].rounds == (2.0, 2.0)


def test_a_slow_round_widens_the_range_and_leaves_the_median() -> None:
    found = measured(TimedLM(slow_calls=6), repeats=3)
    spread = found.figures["batch1_final_text_seconds_p95"]
    assert (spread.median, spread.lowest, spread.highest) == (2.0, 2.0, 62.0)


def test_the_device_is_waited_for_on_both_sides() -> None:
    model = TimedLM()
    measured(model, 1.0, repeats=1)
    # Two rounds of first token, alone, first token, together.
    assert model.synchronized == 2 * 4 * 2
    assert model.waiting == 0.0


def test_beams_know_the_first_token_with_the_last() -> None:
    found = measured(TimedLM(certain=False))
    assert median(found, "batch1_first_step_seconds_p50") == 1.0
    assert median(found, "batch1_first_token_seconds_p50") == 2.0
    assert any("Beam search" in note for note in found.notes)
    assert not any("Beam search" in note for note in measured(TimedLM()).notes)


def test_peaks_of_both_halves() -> None:
    found = measured(TimedLM(), 1.0, 1.0, 1.0, 1.0)
    assert (found.peak_memory["device_batch1"], found.peak_memory["device_full"]) == (2000, 8000)
    assert found.missing == {}


def test_memory_that_counting_takes_is_not_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TimedLM()
    used = [100]
    counts = SimpleNamespace(figures=lambda request: {"parameters_total": used.append(900) or 1})
    monkeypatch.setattr(efficiency, "process_peak_memory", lambda: max(used))
    model.probe = lambda: counts  # type: ignore[method-assign]
    found = measured(model)
    assert used == [100, 900]
    assert found.peak_memory["process_since_start"] == 100


def test_counting_that_fails_costs_no_other_figure() -> None:
    def figures(request: Request) -> dict[str, float]:
        raise RuntimeError("an operation that nobody counts")

    model = TimedLM()
    model.probe = lambda: SimpleNamespace(figures=figures)  # type: ignore[method-assign]
    found = measured(model)
    assert found.missing["parameters, MACs"] == "RuntimeError: an operation that nobody counts"
    assert median(found, "batch1_final_text_seconds_p50") > 0


def test_model_figures_are_of_the_longest_clip() -> None:
    found = measured(TimedLM())
    assert found.model_figures == {"parameters_total": 1234567, "samples": 96000}
    assert found.settings == {"device": "made up", "num_beams": 1}


def test_what_is_not_offered_is_missing_with_its_reason() -> None:
    found = measure(EchoLM(), requests(1.0, 2.0), repeats=1, clock=FakeClock())
    offered = "not offered by this model"
    assert found.missing["batch1_first_token_seconds"] == f"{offered} (probe().first_token)"
    assert found.missing["device memory"] == f"{offered} (peak_memory)"
    assert found.missing["parameters, MACs"] == f"{offered} (probe().figures)"
    assert not any("first" in name or "further" in name for name in found.figures)
    assert (found.model_figures, found.settings, set(found.peak_memory)) == ({}, {}, {"process_since_start"})
    assert any("synchronize" in note for note in found.notes)


def test_a_peak_that_cannot_begin_anew_is_named_so() -> None:
    model = TimedLM()
    model.probe = lambda: SimpleNamespace()  # type: ignore[method-assign]
    found = measured(model)
    assert {**found.peak_memory, "process_since_start": 0} == {"process_since_start": 0, "device_since_start": 8000}
    assert "device memory at batch 1" in found.missing


def test_answers_of_one_token_have_no_further_one() -> None:
    found = measured(TimedLM(tokens=1))
    assert found.missing["batch1_further_token_seconds"] == "no answer has a second token"
    assert "batch1_further_token_seconds_p50" not in found.figures


@dataclass
class Noisy(TimedLM):
    """Measured on a machine where something else comes and goes: each call takes a drawn time longer."""

    noise: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(3))

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer, and be disturbed."""
        self.clock.now += self.noise * self.draw.random()
        yield from super().generate(requests)

    def probe(self) -> Any:
        """Offer a first token that is disturbed, too."""
        probe = super().probe()

        def first_token(request: Request) -> bool:
            self.clock.now += self.noise * self.draw.random()
            certain: bool = type(probe).first_token(probe, request)
            return certain

        probe.first_token = first_token
        return probe


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("tokens", [2, 3, 20])
def test_no_further_token_costs_less_than_a_step_can(tokens: int, noise: float) -> None:
    """A step takes 10 ms. What noise hides is missing with its reason, and never nothing or negative."""
    found = measured(Noisy(tokens=tokens, token_seconds=0.01, noise=noise), *[1.0] * 12, repeats=3)
    further = {name: spread for name, spread in found.figures.items() if "further" in name}
    for spread in further.values():
        assert spread.lowest > 0
    if noise <= 0.01 * (tokens - 1):
        assert further["batch1_further_token_seconds_p50"].median == pytest.approx(0.01, rel=0.8)
    if "batch1_further_token_seconds_p50" not in further:
        assert found.missing["batch1_further_token_seconds"].startswith("too few: ")


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_a_median_needs_four_clips(clips: int) -> None:
    found = measured(TimedLM(), *[1.0] * clips)
    assert not any(name.endswith(("_p50", "_p95")) for name in found.figures)
    told = f"too few: {clips} clips, and a median needs 4"
    assert found.missing["batch1_final_text_seconds"] == found.missing["batch1_first_token_seconds"] == told
    assert median(found, "batch1_rtfx") == 0.5
    assert median(found, "batch1_further_token_seconds_mean") == 0.25


def test_answers_without_tokens_have_no_tokens_per_second() -> None:
    found = measured(TimedLM(tokens=0, token_seconds=0.0))
    assert found.missing["tokens_per_second"] == "no answer has a token"
    assert "full_tokens_per_second" not in found.figures


def test_texts_that_depend_on_company_are_noted() -> None:
    class Fickle(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            held = list(requests)
            for request in held:
                yield Reply(request.index, f"{len(held)} asked", 2, "stop")

    clock = FakeClock()
    found = measure(Fickle(), requests(1.0, 1.0), repeats=1, clock=clock)
    assert any(note.startswith("2 of 2 texts differ") for note in found.notes)
    assert found.different_texts == 2
    assert measured(TimedLM()).different_texts == 0


def test_a_text_that_differs_in_one_round_only_counts() -> None:
    class Moody(TimedLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for reply in super().generate(requests):
                # Calls 1 to 5 are the warm-up: four clips alone, then all.
                yield reply._replace(text="other") if self.calls == 6 else reply

    found = measured(Moody(), repeats=2)
    assert found.different_texts == 1
    assert any(note.startswith("1 of 4 texts differ") for note in found.notes)


def test_progress_counts_clips() -> None:
    told: list[tuple[int, int]] = []
    measured(TimedLM(), repeats=1, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (32, 32)
    assert [done for done, _ in told] == [*range(1, 13), 16, *range(17, 29), 32]


@pytest.mark.parametrize("indices", [[10], [10, 11, 11], [10, 12]])
def test_answers_are_checked(indices: list[int]) -> None:
    class Wrong(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            if len(list(requests)) == 2:
                yield from (Reply(index, "said", 1, "stop") for index in indices)
            else:
                yield from (Reply(index, "said", 1, "stop") for index in {10, 11} & set(indices))

    with pytest.raises(ContractError, match="asked for index"):
        measure(Wrong(), requests(1.0, 1.0), repeats=1)


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("figures", {"macs": -1}, "number from 0"),
        ("figures", {"macs": float("nan")}, "number from 0"),
        ("figures", {"macs": True}, "number from 0"),
        ("figures", [1, 2], "names and values"),
        ("settings", {"device": object}, "text or a number"),
        ("settings", {1: "cpu"}, "names and values"),
        ("first_token", None, "True or False"),
    ],
)
def test_what_a_probe_says_is_checked(method: str, value: object, message: str) -> None:
    model = TimedLM()
    offered = SimpleNamespace(**{method: lambda *_: value})
    probe = ModelProbe(model, offered)
    ask: Any = getattr(probe, method)
    with pytest.raises(ContractError, match=message):
        ask(*([] if method == "settings" else requests(1.0)))
