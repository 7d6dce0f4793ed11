"""Tests of the latency pass: a few clips of a run, asked alone when everything is written, at no risk to the run."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_model import EchoLM, FakeProvider, Reply
from fake_site import Site, make_site
from timed_model import TimedLM

from evaluator.annotation.annotation import Sample, read_annotation
from evaluator.errors import ContractError
from evaluator.evaluate import evaluate
from evaluator.model import Request
from evaluator.run.latency import LATENCY_OFF, Latency
from evaluator.speed.latency_pass import latency_of_run, measure_latency, still_spread

CLIPS = 12


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def samples(site: Site) -> list[Sample]:
    rows = []
    for index in range(CLIPS):
        soundfile.write(site.wavs / f"long{index}.wav", np.full(16000 * (1 + index % 4), 0.1), 16000)
        rows.append({"testset_id": f"row{index:02d}", "path": f"long{index}.wav", "task": "asr", "text": "a cat"})
    site.write_annotation(rows)
    path = site.folder / "asr.json"
    return read_annotation(path, prefix=str(site.wavs), mode="valid_asr", known_tasks={"asr": False}).without_problems()


def said(samples: Iterable[Sample], text: str = "said") -> dict[int, str]:
    return {sample.index: text for sample in samples}


def measured(model: Any, samples: list[Sample], *, budget: float = 1e9) -> Latency:
    return measure_latency(model, samples, said(samples), budget=budget, clock=model.clock)


def facts_of(site: Site) -> dict[str, Any]:
    [path] = site.results.glob("*_results/*/run.json")
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def test_figures_are_those_of_an_efficiency_measurement(samples: list[Sample]) -> None:
    found = measured(TimedLM(), samples)
    # One second to the first of five tokens, a quarter for each further one: two seconds a clip.
    assert {name: spread.median for name, spread in found.figures.items()} == {
        "batch1_first_step_seconds_p50": 1.0,
        "batch1_first_step_seconds_p95": 1.0,
        "batch1_first_token_seconds_p50": 1.0,
        "batch1_first_token_seconds_p95": 1.0,
        "batch1_further_token_seconds_p50": 0.25,
        "batch1_further_token_seconds_p95": 0.25,
        "batch1_further_token_seconds_mean": 0.25,
        "batch1_final_text_seconds_p50": 2.0,
        "batch1_final_text_seconds_p95": 2.0,
        "batch1_rtfx": 30 / 24,
        "batch1_rtf": 24 / 30,
        "batch1_tokens_per_second": 60 / 24,
    }
    assert found.ids == tuple(sample.id for sample in samples)
    assert found.audio_seconds == (1.0, 2.0, 3.0, 4.0) * 3
    assert found.device_batch1 == 2000
    assert found.model_figures == {"parameters_total": 1234567, "samples": 64000}
    assert (found.missing, found.different_texts) == ({}, 0)


def test_warming_up_is_not_counted(samples: list[Sample]) -> None:
    found = measured(TimedLM(slow_calls=1), samples)
    assert found.figures["batch1_final_text_seconds_p95"].median == 2.0


@pytest.mark.parametrize(("budget", "clips"), [(0.0, 1), (8.0, 1), (8.1, 2), (15.9, 3), (16.0, 3), (1e9, CLIPS)])
def test_no_clip_is_begun_when_the_time_is_up(samples: list[Sample], budget: float, clips: int) -> None:
    """A clip and its first token, twice, take 4 s, to warm up as well."""
    found = measured(TimedLM(), samples, budget=budget)
    assert len(found.ids) == clips
    assert found.planned == CLIPS
    short = any(
        note.startswith(f"{clips} of {CLIPS} clips were asked: the {budget:.3g} s for it") for note in found.notes
    )
    assert short == (clips < CLIPS)


def test_clips_are_spread_even_when_the_time_is_up(samples: list[Sample]) -> None:
    assert measured(TimedLM(), samples, budget=16.0).ids == ("row00", "row04", "row08")


@pytest.mark.parametrize(
    ("number", "order"),
    [(1, [0]), (2, [0, 1]), (3, [0, 2, 1]), (5, [0, 4, 2, 1, 3]), (8, [0, 4, 2, 6, 1, 5, 3, 7])],
)
def test_every_beginning_is_spread(number: int, order: list[int]) -> None:
    assert still_spread(number) == order


def test_texts_other_than_the_runs_are_counted(samples: list[Sample]) -> None:
    texts = {**said(samples), samples[3].index: "heard", samples[7].index: ""}
    model = TimedLM()
    found = measure_latency(model, samples, texts, budget=1e9, clock=model.clock)
    assert found.different_texts == 2
    assert any(note.startswith(f"2 of {CLIPS} texts are others") for note in found.notes)


def test_what_the_model_does_not_offer_is_missing_with_its_reason(samples: list[Sample]) -> None:
    found = measure_latency(EchoLM(), samples, said(samples), budget=1e9)
    assert {"batch1_first_token_seconds", "device memory", "parameters, MACs"} <= set(found.missing)
    assert found.device_batch1 is None
    assert "batch1_final_text_seconds_p50" in found.figures


def test_only_clips_with_an_answer_are_asked(samples: list[Sample]) -> None:
    model = EchoLM()
    latency_of_run(model, samples, said(samples[5:7]), most=8, predict_seconds=1e9)
    assert {request.index for request in model.pulled} == {5, 6}


def raising(error: BaseException) -> Callable[[Request], str]:
    def say(request: Request) -> str:
        raise error

    return say


def test_reasons_for_no_figures(samples: list[Sample]) -> None:
    def reason(model: Any, texts: dict[int, str] | None = None, most: int = 8) -> str | None:
        given = said(samples) if texts is None else texts
        return latency_of_run(model, samples, given, most=most, predict_seconds=1e9).reason

    assert reason(EchoLM(), most=0) == LATENCY_OFF
    assert reason(None) == "no model was loaded: every row had its answer"
    assert reason(EchoLM(), texts={}) == "no row has an answer"
    assert reason(EchoLM(say=raising(RuntimeError("it fell over")))) == "RuntimeError: it fell over"
    assert reason(EchoLM(say=raising(KeyboardInterrupt()))) == "interrupted (KeyboardInterrupt)"
    assert reason(EchoLM(say=raising(SystemExit("stopped by SIGTERM")))) == "interrupted (stopped by SIGTERM)"
    samples[0].path.unlink()
    assert str(reason(EchoLM())).startswith("AudioError: ")


def test_a_model_that_breaks_the_contract_alone_is_told(samples: list[Sample]) -> None:
    class Silent(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            yield from ()

    with pytest.raises(ContractError, match="asked for index"):
        measure_latency(Silent(), samples, said(samples), budget=1e9)


def test_run_json_says_what_was_measured(site: Site) -> None:
    model = TimedLM()
    result = evaluate(FakeProvider(model=model), site.load("run.latency_clips=3"), "valid_asr")
    facts = facts_of(site)
    latency = facts["latency"]
    assert result.latency.reason is None
    assert latency["reason"] is None
    assert latency["clips"]["planned"] == 3
    assert 1 <= latency["clips"]["measured"] == len(latency["clips"]["ids"]) == len(latency["clips"]["seconds"])
    assert latency["texts"] == {"compared": latency["clips"]["measured"], "different": 0}
    assert (latency["protocol"]["rounds"], latency["protocol"]["warm_up_clips"]) == (1, 1)
    assert latency["settings"]["device"] == "made up"
    assert latency["model_figures"]["parameters_total"] == 1234567
    assert facts["peak_memory_bytes"]["device_batch1"] == 2000
    # Five clips at once, and before that what was there when the model was loaded.
    assert facts["peak_memory_bytes"]["device_full"] == 10000
    assert facts["peak_memory_bytes"]["device_since_start"] == 10000
    assert facts["status"] == "finished"


class Afterwards(EchoLM):
    """Answers the run, and in a later call raises what it was given, after looking at what is on disk."""

    def __init__(self, error: BaseException, look: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.error = error
        self.look = look
        self.calls = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer once."""
        self.calls += 1
        if self.calls > 1:
            self.look()
            raise self.error
        yield from super().generate(requests)


@pytest.mark.parametrize(
    "error", [RuntimeError("no memory, token hf_SECRETsecretSECRETsecret12"), KeyboardInterrupt(), SystemExit(143)]
)
def test_nothing_that_happens_costs_the_run(site: Site, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    site.change({"model": {"token": "hf_SECRETsecretSECRETsecret12"}})
    found: dict[str, Any] = {}
    result = evaluate(
        FakeProvider(model=Afterwards(error, lambda: found.update(facts_of(site)))), site.load(), "valid_asr"
    )
    assert result.scores is not None
    assert result.csv_path.is_file()
    # Had the process died there, the run would have been finished all the same.
    assert (found["status"], found["reason"]) == ("finished", None)
    assert found["latency"] == {"reason": "the process ended before it was measured", "interrupted": True}
    facts = facts_of(site)
    assert (facts["status"], facts["reason"]) == ("finished", None)
    assert facts["latency"]["reason"] == result.latency.reason
    assert "SECRET" not in str(facts)


def test_a_short_run_gets_a_second(site: Site, samples: list[Sample]) -> None:
    """Enough for a median, although 5 % of its time were nothing."""
    found = latency_of_run(EchoLM(), samples, said(samples), most=8, predict_seconds=0.0)
    assert found.reason is None
    assert len(found.ids) == 8


def test_scoring_again_keeps_what_was_measured(site: Site) -> None:
    first = evaluate(FakeProvider(model=TimedLM()), site.load("run.latency_clips=4"), "valid_asr")
    before = facts_of(site)
    provider = FakeProvider()
    site.change({"scoring": {"metrics": ["wer"]}})
    config = site.load("run.latency_clips=2", "run.batch_size_eval=1")
    again = evaluate(provider, config, "valid_asr", resume=str(first.folder))
    after = facts_of(site)
    assert provider.loads == []
    # Of the configuration only what scoring uses: the speed was measured with the batch size of then.
    # (Seconds are those of writing and scoring, which may round to the same.)
    assert {name for name in before if before[name] != after[name]} - {"seconds"} == {"config", "stage"}
    assert {name for name in after if name not in before} == {"scored_again"}
    assert after["config"] == {**before["config"], "scoring": {**before["config"]["scoring"], "metrics": ["wer"]}}
    kept = ("preflight", "load_model", "predict", "latency")
    assert {name: after["seconds"][name] for name in kept} == {name: before["seconds"][name] for name in kept}
    assert (after["stage"], list(after["seconds"])) == ("score", list(before["seconds"]))
    for name in ("audio_seconds", "peak_memory", "counts", "rtfx"):
        assert getattr(again, name) == getattr(first, name), name
    assert first.latency.reason is None
    assert again.latency.reason is None
    assert again.latency.figures == first.latency.figures
    assert again.scores is not None
    assert [metric.name for metric in again.scores.metrics] == ["wer"]


def test_scoring_again_keeps_what_the_model_heard(site: Site) -> None:
    """A model that hears less than 30 s says so only when it is loaded, and scoring again loads none."""
    model = EchoLM()
    model.max_seconds = 1.1  # type: ignore[attr-defined]
    first = evaluate(FakeProvider(model=model), site.load(), "valid_asr")
    assert first.counts.cut > 0
    again = evaluate(FakeProvider(), site.load(), "valid_asr", resume=str(first.folder))
    assert (again.counts, again.heard_seconds) == (first.counts, 1.1)


def test_scoring_again_reads_names_of_before(site: Site) -> None:
    first = evaluate(FakeProvider(model=TimedLM()), site.load(), "valid_asr")
    path = first.folder / "run.json"
    path.write_text(path.read_text().replace("rtfx", "real_time_factor"))
    again = evaluate(FakeProvider(), site.load(), "valid_asr", resume=str(first.folder))
    assert first.latency.reason is None
    assert again.latency.reason is None
    assert again.latency.figures["batch1_rtfx"] == first.latency.figures["batch1_rtfx"]
    assert facts_of(site)["rtfx"] == first.rtfx


@pytest.mark.parametrize("latency", [{}, {"reason": None}, {"reason": None, "figures": [1]}])
def test_a_latency_that_was_changed_by_hand_costs_nothing(site: Site, latency: dict[str, Any]) -> None:
    first = evaluate(FakeProvider(), site.load(), "valid_asr")
    path = first.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "latency": latency}))
    again = evaluate(FakeProvider(), site.load(), "valid_asr", resume=str(first.folder))
    assert str(again.latency.reason).startswith("run.json does not tell")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_an_end_during_latency_is_no_second_run(site: Site, error: BaseException) -> None:
    """The same command again, as a scheduler gives it: it finds the run, asks nothing, and the next one starts anew."""
    first = evaluate(FakeProvider(model=Afterwards(error)), site.load(), "valid_asr")
    scores = (first.folder / "scores.json").read_bytes()
    provider = FakeProvider()
    second = evaluate(provider, site.load(), "valid_asr", resume="auto")
    assert (second.folder, provider.loads) == (first.folder, [])
    assert (facts_of(site)["status"], facts_of(site)["latency"]) == ("finished", {"reason": second.latency.reason})
    assert (second.folder / "scores.json").read_bytes() == scores
    third = evaluate(FakeProvider(), site.load(), "valid_asr", resume="auto")
    assert third.folder != first.folder


def test_a_kill_during_latency_is_no_second_run(site: Site) -> None:
    """kill -9: run.json stays as it was when the pass began."""
    kept: dict[str, str] = {}

    def look() -> None:
        [path] = site.results.glob("*_results/*/run.json")
        kept[str(path)] = path.read_text()

    first = evaluate(FakeProvider(model=Afterwards(RuntimeError("any"), look)), site.load(), "valid_asr")
    [(path, text)] = kept.items()
    Path(path).write_text(text)
    second = evaluate(FakeProvider(), site.load(), "valid_asr", resume="auto")
    assert second.folder == first.folder
