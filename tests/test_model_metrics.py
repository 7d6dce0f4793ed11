"""Tests of SPIDEr-FL and FENSE: tiny random models where the real ones lie, and what is told where there are none."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluator.config.sections import ScoringConfig
from evaluator.scoring.captioning import Captions
from evaluator.scoring.captions import model_metrics
from evaluator.scoring.captions.model_metrics import model_results
from evaluator.scoring.captions.sentence_models import DETECTOR, SBERT, ModelScores
from evaluator.scoring.protocols.explain import differences, explain, settings_of
from evaluator.scoring.result import MetricResult
from evaluator.scoring.scoring import preflight, score
from evaluator.tasks import AAC

CANDIDATES = ["A dog barks twice", "rain falls on a tin roof", "people talk while music plays", "a man talks and and"]
REFERENCES = [
    ("Two dogs bark.", "A dog is barking twice."),
    ("Rain falls.",),
    ("Music plays.", "People talk."),
    ("A man",),
]
NAMES = ["fense", "sbert_sim", "fer"]
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a dog two dogs bark barks is barking twice rain falls on tin roof people talk "
    "while music plays man talks and"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as FENSE_DATA: detector, its base model, sentence encoder; random weights, half of the captions err."""
    pytest.importorskip("aac_metrics")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import torch
    from aac_metrics.functional.fer import BERTFlatClassifier
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("fense")
    torch.manual_seed(1)
    (folder / "vocab.txt").write_text("\n".join(WORDS.split()), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    base = folder / "tiny-bert"
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    detector = BERTFlatClassifier(str(base), num_classes=6).eval()
    lines = [text.lower() for text in CANDIDATES]
    batch = tokenizer(lines, truncation=True, padding="max_length", max_length=64, return_tensors="pt")
    with torch.no_grad():
        logits = detector(**batch)[:, 5]
        detector.clf.bias[5] += math.log(9) - logits.median() - 1e-4
    states = {**detector.state_dict(), "encoder.embeddings.position_ids": torch.zeros(1)}
    torch.save({"model_type": "tiny-bert", "num_classes": 6, "state_dict": states}, folder / f"{DETECTOR}.ckpt")
    sentence_transformers.SentenceTransformer(str(base), device="cpu").save(str(folder / SBERT))
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_models_that_are_on_disk_are_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FENSE_DATA", str(models))
    config = ScoringConfig(metrics=NAMES, bootstrap_resamples=0)
    assert preflight(AAC, config) == []
    scores = score(AAC, REFERENCES, CANDIDATES, config)
    found = {metric.name: metric for metric in scores.metrics}
    assert [(name, metric.reason) for name, metric in found.items() if metric.value is None] == []
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(models / SBERT), device="cpu")
    plain = [[text.lower().strip(".") for text in texts] for texts in [CANDIDATES, *REFERENCES]]
    vectors = [[vector / np.linalg.norm(vector) for vector in encoder.encode(texts)] for texts in plain]
    cosines = [
        float(np.mean([candidate @ one for one in row])) for candidate, row in zip(vectors[0], vectors[1:], strict=True)
    ]
    assert found["sbert_sim"].rows == pytest.approx(cosines, abs=1e-5)
    assert sorted(found["fer"].rows) == [0.0, 0.0, 1.0, 1.0]
    expected = [a * (1 - 0.9 * b) for a, b in zip(found["sbert_sim"].rows, found["fer"].rows, strict=True)]
    assert found["fense"].rows == pytest.approx(expected)
    assert found["fense"].value == pytest.approx(np.mean(expected))
    for metric in scores.metrics:
        assert not any("not known" in line for line in explain(metric.signature))
        assert differences(metric.signature) == []
        assert settings_of(metric.signature).metrics == [metric.name]


@pytest.mark.parametrize("name", [*NAMES, "spider_fl"])
def test_without_a_model_there_is_a_reason_and_no_number(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FENSE_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(model_metrics, "run_models", _refuse)
    found = model_results(Captions(("a",), (("b",),)), MetricResult("spider", 1.0, (1.0,)), [name])
    assert found[name].value is None
    assert found[name].rows == ()
    assert found[name].reason
    assert found[name].fix


def _refuse(*_: Any, **wanted: bool) -> ModelScores:
    from evaluator.errors import MetricUnavailableError

    raise MetricUnavailableError("the detector is not there", fix="fetch it")


@pytest.mark.slow
def test_nothing_is_fetched_where_there_is_no_encoder(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{DETECTOR}.ckpt").symlink_to(models / f"{DETECTOR}.ckpt")
    monkeypatch.setenv("FENSE_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = {metric.name: metric for metric in score(AAC, REFERENCES, CANDIDATES, ScoringConfig(metrics=NAMES)).metrics}
    assert {metric.value for metric in found.values()} == {None}
    assert "FENSE's models cannot be run" in str(found["fense"].reason)
    assert SBERT in str(found["fense"].fix)


def test_the_detectors_file_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("FENSE_DATA", str(tmp_path))
    [told] = preflight(AAC, ScoringConfig(metrics=["fense", "cider_d"]))
    assert told.startswith("fense will be unavailable: ")
    assert f"{DETECTOR}.ckpt is not there; fetch it once from https://" in told


def test_spider_fl_is_spider_less_what_errors_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: SPIDEr 1.0, 0.5 and 2.0 with an error in the second row: (1.0 + 0.05 + 2.0) / 3."""
    monkeypatch.setattr(model_metrics, "run_models", lambda *_, **__: ModelScores((), (0.0, 1.0, 0.0)))
    captions = Captions(("a",) * 3, (("b",),) * 3)
    spider = MetricResult("spider", 3.5 / 3, (1.0, 0.5, 2.0))
    found = model_results(captions, spider, ["spider_fl", "fer"])
    assert found["spider_fl"].value == pytest.approx(3.05 / 3)
    assert found["fer"].value == 1 / 3
    missing = MetricResult("spider", None, reason="no SPICE", fix="get it")
    told = model_results(captions, missing, ["spider_fl"])["spider_fl"]
    assert (told.name, told.value, told.reason) == ("spider_fl", None, "no SPICE")
    assert json.dumps(told.facts())
