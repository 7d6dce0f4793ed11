"""The dry run: real data, a tiny model of the configured shape, and a page that says what the real run will need."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from salmonn.config.config import from_mapping
from salmonn.config.schema import Config
from salmonn.data.batch_order import build_batch_order
from salmonn.data.dataset import Samples, open_samples
from salmonn.errors import AudioError, CheckpointError
from salmonn.model.salmonn import SALMONN
from salmonn.model.tiny import build_tiny_model
from salmonn.planning.data_report import ReadingRate
from salmonn.planning.dryrun import STEPS, rehearse_steps, run_dryrun
from salmonn.planning.run_plan import (
    Longest,
    RunPlan,
    Sizes,
    measure_sizes,
    plan_lines,
    plan_run,
    reading_lines,
    size_lines,
)
from salmonn.prompts import train_prompts

TRAINER = Path(__file__).resolve().parents[1]
NANO = TRAINER / "nano"
RATE = 16_000
Configure = Callable[..., Config]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Build a configuration of the shipped parts with five real clips: configure(model={...}, run={...})."""
    rows = []
    for number in range(5):
        wave = 0.1 * np.random.default_rng(number).standard_normal(RATE * (number + 1))
        soundfile.write(tmp_path / f"{number}.wav", wave.astype(np.float32), RATE)
        rows.append(
            {"path": f"{number}.wav", "text": "two " * (number + 1), "task": ("asr", "audiocaption")[number % 2]}
        )
    (tmp_path / "train.json").write_text(json.dumps({"annotation": rows}), encoding="utf-8")
    (tmp_path / "valid.json").write_text(json.dumps({"annotation": rows[:2]}), encoding="utf-8")

    def build(**changes: dict[str, Any]) -> Config:
        sections: dict[str, dict[str, Any]] = {
            "model": {
                "llama_path": str(NANO / "llama"),
                "whisper_path": str(NANO / "whisper"),
                "beats_path": str(NANO / "beats.pt"),
                "qformer_path": str(NANO / "qformer"),
                "prompt_path": str(TRAINER / "prompts/train_prompt.json"),
                "end_sym": "</s>",
            },
            "datasets": {"prefix": str(tmp_path), "train_ann_path": "train.json", "valid_ann_path": "valid.json"},
            "run": {"device": "cpu", "output_dir": str(tmp_path / "out"), "batch_size_train": 2, "num_workers": 2},
        }
        for name, section in changes.items():
            sections[name] = {**sections[name], **section}
        return from_mapping(sections, tmp_path, purpose="dryrun")

    return build


def test_the_page_holds_data_rehearsal_and_needs_and_saves_nothing(configure: Configure, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    config = configure(run={"optims": {"max_epoch": 2}, "iters_per_epoch": 10, "accum_grad_iters": 3})
    report = run_dryrun(config)
    page = "\n".join(report.lines())
    assert sorted(tmp_path.rglob("*")) == before
    assert len(page.splitlines()) <= 45
    assert max(len(line) for line in page.splitlines()) <= 120
    assert "training    5 clips, 15.0 s of audio" in page
    assert "  tasks     asr 3, audiocaption 2" in page
    assert "validation  2 clips" in page
    assert re.search(r"3 steps of 2 clips, loss \d+\.\d{4}, \d+\.\d{4}, \d+\.\d{4}\n", page)
    assert "2 epochs, 20 steps, 8 optimizer steps" in page
    assert "40 samples seen, 8.0 passes over the training set" in page
    real = SALMONN.from_config(config, device=torch.device("cpu"), dtype=torch.float32, train=True)
    trainable = sum(parameter.numel() for parameter in real.trainable_parameters().values())
    assert f"parameters  {trainable / 1e6:.2f} M trained" in page
    assert "memory      " in page
    assert "computed for a CPU and float32 weights, 2 clips of 5 s" in page
    assert "computing is not in it" in page
    assert report.missing == ()


def test_a_table_is_kept_only_where_the_configuration_says(configure: Configure, tmp_path: Path) -> None:
    report = run_dryrun(configure(datasets={"cache_dir": str(tmp_path / "tables")}))
    assert "the annotation's table was saved" in report.lines()[0]
    assert list((tmp_path / "tables").iterdir())
    assert not (tmp_path / "out").exists()


def test_the_same_seed_rehearses_to_the_same_losses(configure: Configure) -> None:
    first, second = (run_dryrun(configure()).rehearsal for _ in range(2))
    assert first == second
    assert len(first.losses) == STEPS
    assert len(set(first.losses)) == STEPS
    assert all(np.isfinite(loss) for loss in (*first.losses, first.validation_loss))


def test_a_rehearsal_trains_what_is_trainable(configure: Configure, tmp_path: Path) -> None:
    config = configure(run={"optims": {"init_lr": 1e-2}})
    torch.manual_seed(0)
    model = build_tiny_model(config)
    before = {name: tensor.clone() for name, tensor in model.trained_state_dict().items()}
    frozen = model.speech_encoder.whisper.conv1.weight.clone()
    samples = read_samples(config, tmp_path / "cache")
    rehearse_steps(config, model, samples, samples)
    changed = [name for name, tensor in model.trained_state_dict().items() if not torch.equal(tensor, before[name])]
    assert any(name.startswith("speech_Qformer") for name in changed)
    assert any("lora_B" in name for name in changed)
    assert torch.equal(model.speech_encoder.whisper.conv1.weight, frozen)
    assert not model.training


def read_samples(config: Config, cache: Path) -> Samples:
    datasets = config.datasets
    tasks = train_prompts(config).tasks()
    return open_samples(datasets.train_ann_path, prefix=datasets.prefix, tasks=tasks, cache_dir=cache)


def test_clips_that_cannot_be_read_are_named_and_left_out(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "1.wav").write_bytes(b"not audio")
    report = run_dryrun(configure(run={"batch_size_train": 5, "max_unreadable": 0}))
    assert report.rehearsal.clips == 4
    assert report.train is not None
    assert [clip.name for clip in report.train.unreadable] == ["1.wav"]
    assert dict(report.missing)["run.max_unreadable"].startswith("1 clips cannot be read, 0 are allowed")
    for number in range(5):
        (tmp_path / f"{number}.wav").write_bytes(b"not audio")
    with pytest.raises(AudioError, match="no clip of a batch of 5 can be read"):
        run_dryrun(configure(run={"batch_size_train": 5}))


def test_what_cannot_be_trained_is_listed_with_what_is_missing(configure: Configure) -> None:
    config = configure(
        model={"ckpt": str(NANO / "salmonn.pth"), "end_sym": "the end", "speech_llama_proj_model": "none.pth"},
        run={"batch_size_train": 6},
    )
    missing = dict(run_dryrun(config).missing)
    assert list(missing) == ["model.speech_llama_proj_model", "model.end_sym", "model.ckpt", "run.batch_size_train"]
    assert "5 training samples do not fill one step of 6" in missing["run.batch_size_train"]


def test_the_tiny_model_has_the_configured_shape(configure: Configure) -> None:
    config = configure(
        model={"num_speech_query_token": 2, "end_sym": "<|eot|>", "lora_target_modules": ["k_proj", "up_proj", "Wqkv"]}
    )
    model = build_tiny_model(config)
    assert len(model.token_ids("<|eot|>")) == 1
    audio = model.embed(model.encode([np.zeros(RATE, dtype=np.float32)]))
    assert audio.shape[1] == 2 * 88
    adapted = {name.split(".")[-4] for name in model.trainable_parameters() if "lora_A" in name}
    assert adapted == {"k_proj", "up_proj"}
    without = build_tiny_model(configure(model={"beats_path": "", "lora": False}))
    assert without.speech_encoder.beats is None
    assert not any("lora" in name for name in without.trainable_parameters())


def test_sizes_of_unknown_parts_are_not_guessed(configure: Configure) -> None:
    config = configure(model={"llama_path": "nobody/unknown-llm"})
    sizes = measure_sizes(config, Longest(20, 30, 10.0))
    assert isinstance(sizes, CheckpointError)
    [line] = size_lines(sizes, config, Longest(20, 30, 10.0))
    assert line.startswith("parameters  cannot be known: the sizes of the language model 'nobody/unknown-llm'")


def test_a_hub_name_of_a_known_model_needs_no_files(configure: Configure) -> None:
    config = configure(
        model={
            "llama_path": "meta-llama/Llama-3.2-3B-Instruct",
            "whisper_path": "openai/whisper-large-v2",
            "beats_path": "not-here.pt",
            "qformer_path": "",
        },
        run={"device": "auto"},
    )
    longest = Longest(30, 300, 30.0)
    sizes = measure_sizes(config, longest)
    assert isinstance(sizes, Sizes)
    lines = size_lines(sizes, config, longest)
    assert lines[0] == "parameters  27.50 M trained, 3.94 B frozen"
    assert "bfloat16" in lines[2]


@pytest.mark.parametrize(
    ("run", "samples", "expected"),
    [
        ({"iters_per_epoch": 10, "accum_grad_iters": 4}, 7, RunPlan(2, 20, 6, 40, 40 / 7)),
        ({"epoch_based": True}, 7, RunPlan(2, 6, 6, 12, 12 / 7)),
        ({"epoch_based": True, "drop_last": False}, 7, RunPlan(2, 8, 8, 14, 2.0)),
        ({"epoch_based": True, "world_size": 2}, 7, RunPlan(4, 2, 2, 8, 8 / 7)),
        ({"epoch_based": True}, None, RunPlan(2, 0, 0, 0, None)),
    ],
)
def test_a_run_is_counted(configure: Configure, run: dict[str, Any], samples: int | None, expected: RunPlan) -> None:
    config = configure(run={**run, "optims": {"max_epoch": 2}})
    assert plan_run(config, samples) == expected
    assert plan_lines(config, expected)[0].startswith(f"batches     2 x world_size {config.run.world_size} = ")


@pytest.mark.parametrize(
    ("weights", "drop_last", "steps", "passes"),
    [
        ({"asr": 3.0}, True, 5, 10 / 11),
        ({"asr": 3.0}, False, 6, 1.0),
        ({"asr": 0.5}, True, 2, 1.0),
        ({}, True, 2, 4 / 5),
    ],
)
def test_weights_of_tasks_count_in_the_plan(
    configure: Configure, tmp_path: Path, weights: dict[str, float], drop_last: bool, steps: int, passes: float
) -> None:
    run = {"epoch_based": True, "drop_last": drop_last, "optims": {"max_epoch": 1}}
    config = configure(datasets={"task_weights": weights}, run=run)
    plan = run_dryrun(config).plan
    order = build_batch_order(
        read_samples(config, tmp_path / "cache"),
        batch_size=2,
        seed=1,
        drop_last=drop_last,
        bucket_by_length=False,
        task_weights=weights,
    )
    assert plan.steps == order.batches_per_pass == steps
    assert plan.passes == pytest.approx(passes)


@pytest.mark.parametrize(
    ("weights", "key", "text"),
    [
        ({"asr": 0.001}, "datasets.task_weights.asr", "so that none would ever be drawn"),
        ({"QA": 2.0}, "datasets.task_weights", "QA is no task of the training set"),
    ],
)
def test_weights_that_training_refuses_are_named(
    configure: Configure, weights: dict[str, float], key: str, text: str
) -> None:
    assert text in dict(run_dryrun(configure(datasets={"task_weights": weights})).missing)[key]


def test_reading_time_is_a_lower_bound_and_kept_features_are_read_once(configure: Configure) -> None:
    plan = RunPlan(step_samples=2, steps=1000, updates=1000, samples_seen=36_000, passes=36.0)
    rate = ReadingRate(clips=20, seconds=2.0)
    lines = reading_lines(configure(), plan, rate)
    assert "10 clips/s" in lines[0]
    assert "at least 60 min to read 36,000 clips; computing is not in it" in lines[1]
    once = reading_lines(configure(run={"cache_features": True}), plan, rate)
    assert "at least 2 min to read 1,000 clips once (run.cache_features)" in once[1]
    assert reading_lines(configure(), plan, ReadingRate(0, 1.0)) == ["reading     no clip could be read"]
