"""Tests of evaluator/run/predict.py: every sample once, in order, with its own audio."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_model import EchoLM, Reply

from evaluator.annotation.annotation import Sample
from evaluator.audio import loading as audio
from evaluator.errors import AudioError, ContractError
from evaluator.model import Answer, Request
from evaluator.run.journal import Journal, Prediction, read_journal
from evaluator.run.predict import checked_answer, predict
from evaluator.run.watch import Watch


def make_samples(folder: Path, lengths: Sequence[int]) -> list[Sample]:
    """Clips of these lengths (samples at 16 kHz, 1 s at least); 0 makes a file that is no audio."""
    samples = []
    for index, length in enumerate(lengths):
        path = folder / f"clip{index}.wav"
        if length:
            soundfile.write(path, np.full(length, 0.1), 16000)
        else:
            path.write_text("this is not audio")
        samples.append(Sample(index, f"test{index:04d}", path, "asr", "", ()))
    return samples


class Run:
    """Calls predict with a journal in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress: list[tuple[int, int]] = []

    def __call__(self, model: Any, samples: Sequence[Sample], **changes: Any) -> list[Prediction]:
        """Predict; the journal's lines in the order of the rows, of which none may be missing or there twice."""
        arguments: dict[str, Any] = {"on_audio_error": "fail", "workers": 2, **changes}
        with Journal(self.folder / "predictions.jsonl") as journal:
            predict(
                model,
                iter(samples),
                journal=journal,
                watch=Watch(progress=lambda *count: self.progress.append(count)),
                **arguments,
            )
        found = sorted(self.journal(), key=lambda record: record.index)
        assert [record.index for record in found] == sorted(sample.index for sample in samples)
        return found

    def journal(self) -> list[Prediction]:
        return read_journal(self.folder / "predictions.jsonl")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


LENGTHS = [16000, 20000, 24000, 17000, 30000, 16500, 19000]


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_annotation_order_and_own_audio(run: Run, tmp_path: Path, workers: int, batch_size: int) -> None:
    predictions = run(EchoLM(batch_size=batch_size), make_samples(tmp_path, LENGTHS), workers=workers)
    assert [prediction.index for prediction in predictions] == list(range(len(LENGTHS)))
    assert [prediction.text for prediction in predictions] == [f"asr {length}" for length in LENGTHS]
    assert [prediction.audio_seconds for prediction in predictions] == [n / 16000 for n in LENGTHS]
    assert all(prediction.seconds >= 0 and prediction.error is None for prediction in predictions)
    assert run.progress == [(done, 0) for done in range(1, len(LENGTHS) + 1)]


def test_journal_has_the_order_of_answers(run: Run, tmp_path: Path) -> None:
    predictions = run(EchoLM(batch_size=3), make_samples(tmp_path, LENGTHS))
    assert [record.index for record in run.journal()] == [2, 1, 0, 5, 4, 3, 6]
    assert sorted(run.journal(), key=lambda record: record.index) == predictions


def test_as_many_clips_are_read_ahead_as_the_model_takes_at_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads would read four ahead; a model that takes twenty at once finds twenty more."""
    loaded = threading.Semaphore(0)
    load_audio = audio.load_audio

    def counted(path: Path, sampling_rate: int) -> Any:
        wave = load_audio(path, sampling_rate)
        # Clips that load at once are not read ahead.
        time.sleep(0.002)
        loaded.release()
        return wave

    class Hungry(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            stream = iter(requests)
            held = list(islice(stream, 20))
            # The twenty it holds and, when it took the last of them, all but two of as many again.
            for _ in range(38):
                assert loaded.acquire(timeout=60), "the clips of the next turn are not being read"
            yield from super().generate(chain(held, stream))

    monkeypatch.setattr(audio, "load_audio", counted)
    assert len(run(Hungry(), make_samples(tmp_path, [16000] * 60))) == 60


def test_requests_are_what_the_contract_says(run: Run, tmp_path: Path) -> None:
    [sample] = make_samples(tmp_path, [16000])
    model = EchoLM()
    run(model, [Sample(7, "x", sample.path, "qa", "Who speaks?", ("ignored",))])
    [request] = model.pulled
    assert (request.index, request.task, request.question) == (7, "qa", "Who speaks?")
    assert request.audio.dtype == np.float32
    assert request.audio.shape == (16000,)


def test_model_pulls_lazily(run: Run, tmp_path: Path) -> None:
    """Memory stays bounded: a model of batches of one is never ahead of its answers."""
    ahead = []

    class Watching(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for answered, request in enumerate(requests):
                self.pulled.append(request)
                ahead.append(len(self.pulled) - answered)
                yield Reply(request.index, "", 0, "stop")

    run(Watching(), make_samples(tmp_path, LENGTHS))
    assert ahead == [1] * len(LENGTHS)


def test_same_id_twice(run: Run, tmp_path: Path) -> None:
    """Validation annotations may repeat an id: the row is what counts."""
    first, second = make_samples(tmp_path, [16000, 32000])
    predictions = run(EchoLM(), [first, Sample(1, first.id, second.path, "asr", "", ())])
    assert [(p.id, p.text) for p in predictions] == [("test0000", "asr 16000"), ("test0000", "asr 32000")]


@pytest.mark.parametrize("broken", [0, 2, 3])
def test_unreadable_clip_stops_the_run(run: Run, tmp_path: Path, broken: int) -> None:
    lengths = [16000, 17000, 18000, 19000]
    lengths[broken] = 0
    with pytest.raises(AudioError, match=f"clip{broken}"):
        run(EchoLM(batch_size=1), make_samples(tmp_path, lengths))
    assert [record.index for record in run.journal()] == list(range(broken))


@pytest.mark.parametrize("broken", [0, 2, 3])
def test_unreadable_clip_is_recorded_and_never_replaced(run: Run, tmp_path: Path, broken: int) -> None:
    lengths = [16000, 17000, 18000, 19000]
    lengths[broken] = 0
    predictions = run(EchoLM(), make_samples(tmp_path, lengths), on_audio_error="record")
    expected = ["" if length == 0 else f"asr {length}" for length in lengths]
    assert [prediction.text for prediction in predictions] == expected
    failed = predictions[broken]
    assert (failed.finish_reason, failed.audio_seconds, failed.num_tokens) == ("error", 0.0, 0)
    assert failed.error is not None
    assert f"clip{broken}" in failed.error
    assert len(run.journal()) == 4


def test_all_clips_unreadable(run: Run, tmp_path: Path) -> None:
    model = EchoLM()
    predictions = run(model, make_samples(tmp_path, [0, 0]), on_audio_error="record")
    assert [prediction.finish_reason for prediction in predictions] == ["error", "error"]
    assert model.pulled == []


def test_model_that_swallows_the_error_of_its_input(run: Run, tmp_path: Path) -> None:
    class Swallowing(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            try:
                for request in requests:
                    yield Reply(request.index, "", 0, "stop")
            except AudioError:
                return

    with pytest.raises(AudioError, match="clip1"):
        run(Swallowing(), make_samples(tmp_path, [16000, 0, 16000]))


def scripted(*replies: object) -> Callable[[Iterable[Request]], Iterator[object]]:
    """A generate that pulls everything and then yields what it is told."""

    def generate(requests: Iterable[Request]) -> Iterator[object]:
        list(requests)
        yield from replies

    return generate


GOOD = Reply(0, "a", 1, "stop")
BROKEN = [
    ("twice", [GOOD, GOOD], r"index 0 more than once"),
    ("unknown index", [GOOD, Reply(9, "b", 1, "stop")], "index 9, which no request that it pulled has"),
    ("negative index", [GOOD, Reply(-1, "b", 1, "stop")], "index -1, which no request that it pulled has"),
    ("left out", [GOOD], r"without answering 1 request\(s\) it had pulled: index 1 \(test0001\)"),
    ("no answer", ["just text"], "'just text', which is no answer: it lacks text, num_tokens, finish_reason"),
    ("a tuple", [(0, "a", 1, "stop")], "lacks text, num_tokens, finish_reason"),
    ("text of bytes", [Reply(0, b"a", 1, "stop")], "text is b'a', not a string"),
    ("index of text", [Reply("0", "a", 1, "stop")], "index is '0', not a whole number"),
    ("index of bool", [Reply(True, "a", 1, "stop")], "index is True"),
    ("negative tokens", [Reply(0, "a", -1, "stop")], "num_tokens is -1"),
    ("half a token", [Reply(0, "a", 1.5, "stop")], r"num_tokens is 1\.5"),
    ("reason", [Reply(0, "a", 1, "eos")], "finish_reason is 'eos'"),
    ("no reason", [Answer(0, "", 0, "error")], 'error is None, and finish_reason "error" needs the reason'),
    ("a reason too many", [Answer(0, "a", 1, "stop", "late")], "error is 'late', and finish_reason is not \"error\""),
    ("several", [Reply(0, None, None, None)], "text is None.*num_tokens is None.*finish_reason is None"),
]


@pytest.mark.parametrize(("replies", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken_contract_is_named(run: Run, tmp_path: Path, replies: list[object], message: str) -> None:
    model = EchoLM()
    model.generate = scripted(*replies)  # type: ignore[method-assign,assignment]
    with pytest.raises(ContractError, match=message):
        run(model, make_samples(tmp_path, [16000, 16000]))
    assert len(run.journal()) == (1 if replies[0] is GOOD else 0)


def test_a_reason_instead_of_an_answer_is_a_failed_row(run: Run, tmp_path: Path) -> None:
    model = EchoLM()
    replies = [Answer(1, "", 0, "error", "the line is busy"), Answer(0, "I will not.", 3, "refusal")]
    model.generate = scripted(*replies)  # type: ignore[method-assign,assignment]
    run(model, make_samples(tmp_path, [16000, 16000]))
    found = [(each.index, each.text, each.finish_reason, each.error) for each in run.journal()]
    assert found == [(1, "", "error", "the line is busy"), (0, "I will not.", "refusal", None)]


def test_answer_before_its_request(run: Run, tmp_path: Path) -> None:
    def generate(requests: Iterable[Request]) -> Iterator[Reply]:
        next(iter(requests))
        yield Reply(1, "guessed", 1, "stop")

    model = EchoLM()
    model.generate = generate  # type: ignore[method-assign,assignment]
    with pytest.raises(ContractError, match=r"index 1, which no request that it pulled has"):
        run(model, make_samples(tmp_path, [16000, 16000]))


def test_model_that_stops_pulling(run: Run, tmp_path: Path) -> None:
    def generate(requests: Iterable[Request]) -> Iterator[Reply]:
        request = next(iter(requests))
        yield Reply(request.index, "only one", 1, "stop")

    model = EchoLM()
    model.generate = generate  # type: ignore[method-assign,assignment]
    with pytest.raises(ContractError, match=r"without pulling all requests; the next one has index 1 \(test0001\)"):
        run(model, make_samples(tmp_path, [16000, 16000, 16000]))


@pytest.mark.parametrize("rate", [None, 0, -16000, 16000.0, True, "16000"])
def test_sampling_rate_must_be_usable(run: Run, tmp_path: Path, rate: object) -> None:
    model = EchoLM(sampling_rate=rate)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="sampling_rate must be a whole number"):
        run(model, make_samples(tmp_path, [16000]))


@pytest.mark.parametrize("returned", [None, 3, EchoLM])
def test_a_generate_that_yields_nothing_is_named(run: Run, tmp_path: Path, returned: object) -> None:
    model = EchoLM()
    model.generate = lambda requests: returned  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(ContractError, match="The model's generate must yield answers, and it returned"):
        run(model, make_samples(tmp_path, [16000]))


@pytest.mark.parametrize("at", [0, 1])
def test_a_model_that_exits_has_not_answered(run: Run, tmp_path: Path, at: int) -> None:
    class Leaving(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for number, answer in enumerate(super().generate(requests)):
                if number == at:
                    sys.exit(0)
                yield answer

    with pytest.raises(ContractError, match=r"generate ended the process \(exit code 0\) before every clip"):
        run(Leaving(), make_samples(tmp_path, [16000] * 3))


def test_numpy_numbers_are_whole_numbers() -> None:
    answer = checked_answer(Reply(np.int64(3), "a", np.int32(4), "length"))
    assert (type(answer.index), type(answer.num_tokens)) == (int, int)
    assert answer == Answer(3, "a", 4, "length")


def test_model_that_fails_keeps_what_it_had_answered(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="fell over"):
        run(EchoLM(batch_size=2, fail_after=3), make_samples(tmp_path, LENGTHS))
    assert [record.index for record in run.journal()] == [1, 0, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interruption_closes_the_model_and_the_readers(run: Run, tmp_path: Path, error: type[BaseException]) -> None:
    closed = []

    class Closing(EchoLM):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            try:
                for request in requests:
                    yield Reply(request.index, "", 0, "stop")
            finally:
                closed.append(True)

    def interrupt(done: int, failed: int) -> None:
        if done == 2:
            raise error

    samples = make_samples(tmp_path, LENGTHS)
    before = threading.active_count()
    watch = Watch(progress=interrupt)
    with Journal(tmp_path / "predictions.jsonl") as journal, pytest.raises(error):
        predict(Closing(), samples, journal=journal, on_audio_error="fail", workers=2, watch=watch)
    assert closed == [True]
    assert threading.active_count() == before
    assert len(run.journal()) == 2


def test_text_is_not_touched(run: Run, tmp_path: Path) -> None:
    """Lower-casing and folding belong to the CSV writer; the journal keeps what was said."""
    said = "  A Cat,\n purrs\t"
    [prediction] = run(EchoLM(say=lambda request: said), make_samples(tmp_path, [16000]))
    assert prediction.text == said
