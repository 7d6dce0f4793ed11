"""`--model transformers:...` on tiny random models of five architectures: batched equal to alone, and the contract."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import transformers
from fake_site import make_site

from evaluator.conformance import check_model
from evaluator.errors import ConfigError, ModelLoadError
from evaluator.model import Answer, Request
from evaluator.models.batching import BatchedLM
from evaluator.models.choose import ModelChoice
from evaluator.models.hub import TransformersPackage

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that load models
CONFIG: dict[str, Any] = {
    "model": {},
    "generate": {"max_new_tokens": 12},
    "datasets": {},
    "run": {"batch_size_eval": 8, "seed": 42},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def package(folder: Path, name: str, **more: Any) -> Any:
    where = folder / name
    if not where.exists():
        tiny_models.make(name, where)
    return ModelChoice(f"transformers:{where}", **more).provider()


def clips() -> list[Request]:
    random = np.random.default_rng(0)
    found = []
    for index, seconds in enumerate([1.0, 3.17, 7.3, 1.01, 12.0, 5.0, 2.0, 2.5]):
        time = np.arange(round(16000 * seconds))
        wave = 0.1 * random.standard_normal(len(time)) * np.sin(time / (50 + 30 * index))
        found.append(Request(index, wave.astype(np.float32), "asr", ""))
    return found


@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_a_batch_answers_as_each_clip_alone_and_the_contract_is_kept(folder: Path, name: str) -> None:
    model = package(folder, name).load_model(CONFIG, "cpu")
    alone = {each.index: answer for each in clips() for answer in model.generate([each])}
    together = {answer.index: answer for answer in model.generate(clips()[::-1])}
    assert together == alone
    assert len({answer.text for answer in alone.values()}) > 1  # it hears: otherwise nothing was compared
    failed = [check for check in check_model(model, {"asr": False}) if not check.passed]
    assert failed == []


def test_each_architecture_is_loaded_by_its_class_and_asked_its_way(folder: Path) -> None:
    from evaluator.models.auto_class import auto_class

    found = {}
    for name in tiny_models.MAKERS:
        package(folder, name)
        chosen = auto_class(transformers.AutoConfig.from_pretrained(folder / name), name)
        found[name] = (chosen.name, chosen.way)
    assert found == {
        "qwen2_audio": ("AutoModelForMultimodalLM", "chat"),
        "audioflamingo3": ("AutoModelForSeq2SeqLM", "chat"),
        "glmasr": ("AutoModelForMultimodalLM", "chat"),
        "whisper": ("AutoModelForSpeechSeq2Seq", "speech"),
        "wav2vec2": ("AutoModelForCTC", "ctc"),
    }


def test_a_prompt_of_ones_own_changes_the_answer_and_what_a_run_is(folder: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.yaml"
    book.write_text('asr: "word1 word2 word3"\nQA: "word4 {question}"\n')
    plain, own = package(folder, "audioflamingo3"), package(folder, "audioflamingo3", prompts=book)
    assert own.tasks(CONFIG) == {"asr": False, "QA": True}
    assert plain.fingerprints(CONFIG)["model.prompts"] != own.fingerprints(CONFIG)["model.prompts"]
    texts = [[each.text for each in found.load_model(CONFIG, "cpu").generate(clips())] for found in (plain, own)]
    assert texts[0] != texts[1]
    model = own.load_model(CONFIG, "cpu")
    asked = [request._replace(task="QA", question=f"word{number}") for number, request in enumerate([clips()[0]] * 3)]
    assert len({answer.text for answer in model.generate(asked)}) > 1


def test_whisper_goes_through_long_audio_to_its_end(folder: Path) -> None:
    # Time tokens are let through: random weights write them anywhere.
    config = {**CONFIG, "generate": {**CONFIG["generate"], "suppress_tokens": [1, 66]}}
    model = package(folder, "whisper").load_model(config, "cpu")
    wave = clips()[4].audio
    long = np.concatenate([wave] * 5)
    [first], [second] = (list(model.generate([Request(0, np.concatenate([wave] * n), "asr", "")])) for n in (3, 5))
    assert second.num_tokens > first.num_tokens
    mixed = [Request(0, long, "asr", ""), *(each._replace(index=each.index + 1) for each in clips())]
    assert next(answer for answer in model.generate(mixed) if answer.index == 0) == second


def test_sampling_depends_on_the_row_alone(folder: Path) -> None:
    sampled = {**CONFIG, "generate": {**CONFIG["generate"], "do_sample": True, "temperature": 2.0}}
    model = package(folder, "qwen2_audio").load_model(sampled, "cpu")
    together = {answer.index: answer for answer in model.generate(clips())}
    assert next(iter(model.generate([clips()[3]]))) == together[3]
    other = package(folder, "qwen2_audio").load_model({**sampled, "run": {**CONFIG["run"], "seed": 1}}, "cpu")
    assert {answer.index: answer for answer in other.generate(clips())} != together


def test_full_memory_halves_batches_once_and_loses_no_clip() -> None:
    sizes = []

    def ask(batch: Sequence[Request]) -> list[Answer]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise MemoryError
        return [Answer(each.index, "", 0, "stop") for each in batch]

    model = BatchedLM(ask, sampling_rate=16000, most=8)
    assert sorted(answer.index for answer in model.generate(clips())) == list(range(8))
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert len(list(model.generate(clips()[:3]))) == 3
    assert sizes[6:] == [2, 1]


def test_a_clip_that_does_not_fit_in_memory_alone_has_no_answer() -> None:
    longest = max(clips(), key=lambda each: len(each.audio)).index

    def ask(batch: Sequence[Request]) -> list[Answer]:
        if longest in [each.index for each in batch]:
            raise MemoryError
        return [Answer(each.index, "yes", 1, "stop") for each in batch]

    found = {each.index: each for each in BatchedLM(ask, sampling_rate=16000, most=4).generate(clips())}
    assert sorted(found) == list(range(8))
    failed = Answer(longest, "", 0, "error", "it does not fit into memory, even alone")
    assert [each for each in found.values() if each.error] == [failed]


def test_a_model_that_no_clip_fits_is_an_error() -> None:
    asked = []

    def ask(batch: Sequence[Request]) -> list[Answer]:
        asked.append(len(batch))
        raise MemoryError

    with pytest.raises(MemoryError):
        list(BatchedLM(ask, sampling_rate=16000, most=4).generate(clips() * 3))
    assert asked == [4, 2, *[1] * 20]


def test_settings_that_nobody_knows_are_named_with_the_nearest(folder: Path) -> None:
    config = {
        "model": {"dtyp": "auto", "dtype": "int3"},
        "generate": {"max_new_token": 3},
        "datasets": {},
        "run": {"sede": 1},
    }
    assert package(folder, "whisper").check_config(config) == [
        ("model.dtyp", 'unknown key; did you mean "dtype"?'),
        ("generate.max_new_token", 'unknown key; did you mean "max_new_tokens"?'),
        ("run.sede", 'unknown key; did you mean "seed"?'),
        ("model.dtype", "expected one of auto, float32, bfloat16, float16, found 'int3'"),
    ]


def test_a_model_that_hears_nothing_is_refused(tmp_path: Path) -> None:
    transformers.LlamaConfig(architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="LlamaForCausalLM is in none of transformers'"):
        TransformersPackage(str(tmp_path), None, trusted=False).check_parts(CONFIG)
    with pytest.raises(ConfigError, match=r"there is no file config\.json in"):
        TransformersPackage(str(tmp_path / "nothing"), None, trusted=False).check_parts(CONFIG)


def test_foreign_code_runs_only_by_its_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    where = tmp_path / "remote"
    where.mkdir()
    remote = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (where / "config.json").write_text(json.dumps({"model_type": "own_thing", "auto_map": remote}))
    ran = tmp_path / "ran"
    (where / "own.py").write_text(
        "from pathlib import Path\nfrom transformers import PreTrainedConfig\n"
        f"Path({str(ran)!r}).touch()\nclass OwnConfig(PreTrainedConfig):\n    model_type = 'own_thing'\n"
    )
    with pytest.raises(ConfigError, match=r"brings Python files of its own.*--trust-remote-code"):
        TransformersPackage(str(where), None, trusted=False).check_parts(CONFIG)
    assert not ran.exists()
    TransformersPackage(str(where), None, trusted=True).check_parts(CONFIG)
    assert ran.exists()


def test_weights_that_lack_a_tensor_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    package(folder, "wav2vec2")
    where = tmp_path / "cut"
    where.mkdir()
    for path in (folder / "wav2vec2").iterdir():
        (where / path.name).write_bytes(path.read_bytes())
    weights = load_file(where / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, where / "model.safetensors", metadata={"format": "pt"})
    before, after = (TransformersPackage(str(place), None, trusted=False) for place in (folder / "wav2vec2", where))
    assert before.fingerprints(CONFIG)["model.name"].split()[1] != after.fingerprints(CONFIG)["model.name"].split()[1]
    with pytest.raises(ModelLoadError, match=r"no weights for 1 tensor\(s\) of the model: lm_head.weight"):
        after.load_model(CONFIG, "cpu")


def test_a_prompt_book_is_read_with_all_its_problems(tmp_path: Path) -> None:
    from evaluator.models.prompts import read_prompts

    book = tmp_path / "book.yaml"
    book.write_text("asr: 3\nQA: ''\n")
    with pytest.raises(ConfigError) as caught:
        read_prompts(book)
    assert [problem.where for problem in caught.value.problems] == [f"{book}:1: asr", f"{book}:2: QA"]
    book.write_text("")
    with pytest.raises(ConfigError, match="it has no prompt"):
        read_prompts(book.rename(tmp_path / "empty.yaml"))


@pytest.mark.slow
def test_the_command_runs_and_resumes_a_model_of_a_folder(folder: Path, tmp_path: Path) -> None:
    package(folder, "qwen2_audio")
    site = make_site(tmp_path)
    typed = f"run --model transformers:{folder / 'qwen2_audio'} --mode valid_asr --annotation asr.json --output-dir out"
    options = "--device cpu --options datasets.prefix=wavs run.latency_clips=0 generate.max_new_tokens=4"
    command = [str(Path(sys.executable).with_name("audiolm-evaluator")), *typed.split(), *options.split()]
    first = subprocess.run(command, cwd=site.folder, capture_output=True, text=True, timeout=120)
    assert first.returncode == 0, first.stderr
    [csv] = (site.folder / "out/valid_results").glob("*.csv")
    journal = csv.with_suffix("") / "predictions.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]))
    before = csv.read_bytes()
    command += ["--resume", str(csv.with_suffix("")), "--workers", "1"]
    again = subprocess.run(command, cwd=site.folder, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert csv.read_bytes() == before
    assert json.loads((csv.with_suffix("") / "run.json").read_text())["rows_of_earlier_attempts"] == 2
