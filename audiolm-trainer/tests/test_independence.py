"""A clip's embeddings and text are the same alone, in any batch, in any order, beside any other prompt.

The lengths are those that break the original: in a batch it keeps a partly filled last patch and lets the Q-Former see
BEATs' outputs past a clip's end (50 tokens instead of 48, 155 instead of 152, 200 instead of 192).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from salmonn.audio.loading import load_audio
from salmonn.decoding.transformers_decoding import GenerationSettings
from salmonn.inference.inference import SalmonnLM
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import PromptBook

SECONDS = (0.4, 1.0, 1.7, 3.1, 4.0, 4.01, 8.0, 9.5)


class Request(NamedTuple):
    index: int
    audio: NDArray[np.float32]
    task: str
    question: str


@pytest.fixture(scope="module")
def waves() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return [
        (0.2 * np.sin(np.arange(int(16000 * s)) / (3 + i)) + 0.05 * rng.standard_normal(int(16000 * s))).astype(
            np.float32
        )
        for i, s in enumerate(SECONDS)
    ]


@pytest.fixture(scope="module")
def alone(tiny: SALMONN, waves: list[NDArray[np.float32]]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([tiny.embed(tiny.encode([wave])) for wave in waves])


@pytest.mark.parametrize("order", [range(8), range(7, -1, -1), (3, 0, 7, 2, 6, 1, 5, 4)])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_embeddings(
    tiny: SALMONN, waves: list[NDArray[np.float32]], alone: torch.Tensor, size: int, order: tuple[int, ...]
) -> None:
    order = tuple(order)
    for start in range(0, 8, size):
        rows = order[start : start + size]
        with torch.no_grad():
            batch = tiny.embed(tiny.encode([waves[row] for row in rows]))
        assert float((batch - alone[list(rows)]).abs().max()) <= 1e-5


def test_what_is_masked_matters(tiny: SALMONN, waves: list[NDArray[np.float32]], alone: torch.Tensor) -> None:
    """Without the zeros past a clip's end the embeddings do change: the tests above can fail."""
    with torch.no_grad():
        encoded = tiny.encode([waves[1], waves[7]])
        unmasked = type(encoded)(encoded.whisper, encoded.beats, torch.full_like(encoded.beats_tokens, 10_000))
        difference = (tiny.embed(unmasked)[0] - alone[1]).abs().max()
    assert float(difference) > 1e-2


def make_lm(model: SALMONN, reference: Path, *, batch_size: int, beams: int) -> SalmonnLM:
    return SalmonnLM(
        model,
        prompts=PromptBook.from_files(reference / "prompts/test.json", "USER: {}\nASSISTANT:"),
        settings=GenerationSettings(max_new_tokens=12, num_beams=beams),
        end_sym="<|end_of_text|>",
        batch_size=batch_size,
    )


@pytest.mark.parametrize("beams", [1, 4])
def test_text(tiny: SALMONN, reference: Path, waves: list[NDArray[np.float32]], beams: int) -> None:
    """Mixed tasks with prompts of different length, one of them with a question of its own."""
    tasks = ("asr", "audiocaption_v2", "QA")
    requests = [Request(i, wave, tasks[i % 3], "What is it?" * i if i % 3 == 2 else "") for i, wave in enumerate(waves)]
    single = make_lm(tiny, reference, batch_size=1, beams=beams)
    expected = {request.index: next(single.generate([request])) for request in requests}
    for size, order in ((8, requests), (3, requests[::-1]), (5, requests[4:] + requests[:4])):
        answers = list(make_lm(tiny, reference, batch_size=size, beams=beams).generate(iter(order)))
        assert {answer.index: answer for answer in answers} == expected


def test_answers_on_reference_clips_do_not_depend_on_batches(tiny: SALMONN, reference: Path) -> None:
    clips = sorted((reference / "wavs").glob("clip0*.wav"))
    requests = [Request(i, load_audio(path), "asr", "") for i, path in enumerate(clips)]
    one, many = (
        sorted(make_lm(tiny, reference, batch_size=size, beams=1).generate(requests)) for size in (1, len(clips))
    )
    assert one == many


def test_the_nano_models_embeddings_do_not_depend_on_the_batch(
    nano: SalmonnLM, waves: list[NDArray[np.float32]]
) -> None:
    with torch.no_grad():
        alone = torch.cat([nano.model.embed(nano.model.encode([wave])) for wave in waves])
        batch = nano.model.embed(nano.model.encode(waves))
    assert float((batch - alone).abs().max()) <= 1e-5


def test_the_nano_model_says_the_same_in_any_batch(nano: SalmonnLM, waves: list[NDArray[np.float32]]) -> None:
    """Needs nothing but this folder; `data/sample` of the evaluator has the same test on real clips."""
    requests = [Request(i, wave, ("asr", "audiocaption_v2")[i % 2], "") for i, wave in enumerate(waves)]
    answers = {}
    for size, rows in ((1, requests), (3, requests[::-1]), (8, requests)):
        lm = SalmonnLM(
            nano.model, prompts=nano.prompts, settings=nano.defaults, end_sym=nano.model.end_sym, batch_size=size
        )
        answers[size] = sorted(lm.generate(iter(rows)))
    assert answers[1] == answers[3] == answers[8]
