"""Tests of making a model smaller: layers are chosen by loss, files load again, healing is taught and goes on."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from salmonn.__main__ import main
from salmonn.compress.ablation import choose_layers, kept_layers
from salmonn.compress.pruned_files import renumbered
from salmonn.compress.run import claim, require_tokens
from salmonn.compress.settings import load_settings
from salmonn.config.config import load_config
from salmonn.errors import ConfigError
from salmonn.inference.inference import load_language_model
from salmonn.model.predicted import Predicted
from salmonn.model.salmonn import SALMONN, Distillation
from salmonn.weights.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "audiolm-trainer"
NANO = TRAINER / "nano"
Write = Callable[..., Path]


class Layers(nn.Module):
    """Five layers worth 1, 2, 4, 8 and 16; without the second the fourth is worth more."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(5))
        for place, layer in enumerate(self.layers):
            layer.worth = 2**place  # type: ignore[assignment]

    def loss(self) -> float:
        worth = {int(layer.worth) for layer in self.layers}  # type: ignore[arg-type]
        return 100.0 - sum(worth) + (0.0 if worth & {1, 2} else 100.0)


def test_layers_are_weighed_anew_after_each_drop() -> None:
    model, said = Layers(), list[str]()
    rounds = choose_layers("llm", model, model.loss, drop=2, progress=said.append)
    # The cheapest first; then the second would be the cheapest but for the first one's absence.
    assert [each.dropped for each in rounds] == [0, 2]
    assert rounds[0].loss == 100 - 31
    assert rounds[0].without == {0: 70.0, 1: 71.0, 2: 73.0, 3: 77.0, 4: 85.0}
    assert kept_layers(5, rounds) == [1, 3, 4]
    assert len(model.layers) == 5
    assert len(said) == 9


def test_the_adapter_is_numbered_anew() -> None:
    name = "llama_model.base_model.model.model.layers.{}.self_attn.q_proj.lora_A.weight"
    tensors = {name.format(layer): torch.full((1,), float(layer)) for layer in range(12)}
    tensors["speech_Qformer.bert.encoder.layer.0.x"] = torch.zeros(1)
    tensors["speech_Qformer.layers.3.x"] = torch.full((1,), 9.0)
    found = renumbered(tensors, [0, 3, 10])
    assert {key: float(value) for key, value in found.items()} == {
        name.format(0): 0.0,
        name.format(1): 3.0,
        name.format(2): 10.0,
        "speech_Qformer.bert.encoder.layer.0.x": 0.0,
        "speech_Qformer.layers.3.x": 9.0,
    }


def test_the_divergence_is_that_of_the_textbook() -> None:
    """T^2 x sum over tokens of sum_v p_teacher (log p_teacher - log p_student), both softened by T."""
    torch.manual_seed(0)
    ours, theirs = torch.randn(3, 7), torch.randn(3, 7)
    expected = 0.0
    for mine, teachers in zip((ours / 2.0).tolist(), (theirs / 2.0).tolist(), strict=True):
        norms = [math.log(sum(math.exp(x) for x in row)) for row in (mine, teachers)]
        expected += sum(
            math.exp(t - norms[1]) * ((t - norms[1]) - (m - norms[0])) for m, t in zip(mine, teachers, strict=True)
        )
    wanted = torch.zeros(3, dtype=torch.int64)
    found = Predicted(ours, wanted, 0).divergence(Predicted(theirs, wanted, 0), 2.0)
    assert float(found) == pytest.approx(4.0 * expected, rel=1e-5)


def test_a_teacher_has_its_part_in_training_alone(build: Callable[..., SALMONN], tiny: SALMONN) -> None:
    student = build(train=True)
    wave = torch.randn(16000).numpy()
    encoded = student.encode([wave])
    prompt, target = ("<Speech><SpeechHere></Speech> What?",), ("a",)
    student.eval()
    plain = student(encoded, prompt, target).loss_sum
    student.distillation = Distillation(tiny, weight=0.25, temperature=1.0)
    assert torch.equal(student(encoded, prompt, target).loss_sum, plain)
    student.train()
    torch.manual_seed(3)  # of dropout
    with torch.no_grad():
        ours = student.predict(student.embed(encoded), prompt, target)
        theirs = tiny.predict(tiny.embed(encoded), prompt, target)
    divergence = functional.kl_div(
        functional.log_softmax(ours.logits, -1), functional.softmax(theirs.logits, -1), reduction="sum"
    )
    torch.manual_seed(3)
    mixed = student(encoded, prompt, target).loss_sum
    assert mixed.item() == pytest.approx(0.75 * float(ours.score().loss_sum) + 0.25 * float(divergence), rel=1e-4)
    assert not any("teacher" in name or "distillation" in name for name, _ in student.named_parameters())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a training of the nano model on a few sample clips, and a compression of it."""

    def writer(run: dict[str, Any] | None = None, **compress: Any) -> Path:
        rows = json.loads((ROOT / "data/sample/asr.json").read_text(encoding="utf-8"))["annotation"]
        for name, part in (("train", rows[:12]), ("valid", rows[12:20])):
            (tmp_path / f"{name}.json").write_text(json.dumps({"annotation": part}), encoding="utf-8")
        tree = yaml.safe_load((TRAINER / "configs/nano/heal.yaml").read_text(encoding="utf-8"))
        for key in (
            "llama_path",
            "whisper_path",
            "beats_path",
            "qformer_path",
            "ckpt",
            "prompt_path",
            "test_prompt_path",
        ):
            tree["model"][key] = str((TRAINER / "configs/nano" / tree["model"][key]).resolve())
        tree["datasets"] = {
            "prefix": str(ROOT / "data/sample"),
            "train_ann_path": str(tmp_path / "train.json"),
            "valid_ann_path": str(tmp_path / "valid.json"),
        }
        optims = tree["run"]["optims"] | {"max_epoch": 1, "warmup_steps": 1}
        tree["run"] |= {"iters_per_epoch": 2, "batch_size_train": 4, "valid_generate": 4, "optims": optims}
        tree["run"] |= {"cache_features": False, "trackers": [], "num_workers": 0, **(run or {})}
        (tmp_path / "heal.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        section = {"train": str(tmp_path / "heal.yaml"), "output_dir": str(tmp_path / "small"), "ablation_clips": 4}
        path = tmp_path / "compress.yaml"
        path.write_text(yaml.safe_dump({"compress": section | compress}), encoding="utf-8")
        return path

    return writer


def compress(path: Path, *options: str) -> Any:
    return CliRunner().invoke(
        main, ["compress", "--cfg-path", str(path), *(["--options", *options] if options else [])]
    )


@pytest.mark.slow
def test_the_nano_model_loses_a_layer_and_is_healed(write: Write, tmp_path: Path) -> None:
    path = write(drop_llm_layers=1)
    done = compress(path)
    assert done.exit_code == 0, done.output
    small = tmp_path / "small"
    rows = json.loads((small / "table.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in rows] == ["original", "layers dropped", "healed"]
    assert [row["llm_layers"] for row in rows] == [3, 2, 2]
    assert rows[1]["weight_bytes"] < rows[0]["weight_bytes"]
    table = (small / "table.md").read_text(encoding="utf-8")
    assert "| healed | 2 | 3 |" in table
    assert "(table.svg)" in table
    assert "3  healed" in (small / "table.svg").read_text(encoding="utf-8")
    [round_] = json.loads((small / "layers.json").read_text(encoding="utf-8"))
    assert min(round_["without"].values()) == round_["without"][str(round_["dropped"])]
    # Its files are ordinary ones.
    options = [f"model.llama_path={small / 'llm'}", f"model.ckpt={small / 'healed.pth'}"]
    config = load_config(ROOT / "configs/salmonn_eval_config.yaml", options)
    assert load_language_model(config, "cpu").model.llm.config.num_hidden_layers == 2
    # Where all is done, nothing is done again; other settings are refused.
    before = {file: file.stat().st_mtime_ns for file in small.rglob("*.pth")}
    assert compress(path).exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in small.rglob("*.pth")} == before
    other = compress(path, "compress.ablation_clips=2")
    assert other.exit_code == 2
    assert "has a compression of other settings" in other.output
    assert "compress.ablation_clips: was 4, is 2" in other.output


@pytest.mark.slow
def test_a_language_model_is_healed_itself_and_compressed_again(write: Write, tmp_path: Path) -> None:
    path = write(drop_llm_layers=1, heal="full")
    done = compress(path)
    assert done.exit_code == 0, done.output
    small = tmp_path / "small"
    rows = json.loads((small / "table.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in rows] == ["original", "layers dropped", "healed"]
    # No adapter is left beside the weights, and the teacher is the whole model with its own.
    assert rows[2]["parameters"] < rows[1]["parameters"]
    assert yaml.safe_load((small / "teacher.yaml").read_text(encoding="utf-8"))["model"]["lora"] is True
    before, after = (load_file(small / name / "model.safetensors") for name in ("llm_merged", "llm_healed"))
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)
    # What answers is what was trained.
    [run] = (small / "healing").glob("*/checkpoint_best.pth")
    held = read_checkpoint(run)["model"]
    assert all(torch.equal(tensor, held[f"llama_model.{name}"]) for name, tensor in after.items())
    files = {"llama_path": small / "llm_healed", "ckpt": small / "llm_healed/bridge.safetensors", "lora": False}
    options = [f"model.{key}={value}" for key, value in files.items()]
    lm = load_language_model(load_config(ROOT / "configs/salmonn_eval_config.yaml", options), "cpu")
    assert lm.model.llm.config.num_hidden_layers == 2
    times = {file: file.stat().st_mtime_ns for file in small.rglob("*.safetensors")}
    assert compress(path).exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in small.rglob("*.safetensors")} == times
    # Again: from the checkpoint that holds the language model, which is made a folder first.
    tree = yaml.safe_load((small / "train.yaml").read_text(encoding="utf-8"))
    tree["model"] |= {"llama_path": str(small / "llm_merged"), "ckpt": str(run)}
    tree["run"] |= {"distill": ""}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    valid = json.loads((tmp_path / "valid.json").read_text(encoding="utf-8"))["annotation"]
    (tmp_path / "words.txt").write_text("\n".join(row["text"] for row in valid), encoding="utf-8")
    again = {"train": tmp_path / "again.yaml", "output_dir": tmp_path / "again", "vocabulary_texts": "words.txt"}
    again |= {"vocabulary": True, "heal": False}
    done = compress(path, *(f"compress.{key}={value}" for key, value in again.items()))
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "again/table.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in rows] == ["original", "smaller vocabulary", "layers dropped"]
    assert [row["llm_layers"] for row in rows] == [2, 2, 1]
    assert rows[1]["loss"] <= rows[0]["loss"] + 0.02


def test_a_quantised_language_model_is_not_healed_itself(write: Write, tmp_path: Path) -> None:
    path = write(drop_llm_layers=1, heal="full")
    tree = yaml.safe_load((tmp_path / "heal.yaml").read_text(encoding="utf-8"))
    tree["model"]["quantize"] = {"kind": "int8", "parts": ["llm"]}
    (tmp_path / "heal.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    done = compress(path)
    assert done.exit_code == 2
    assert "compress.heal: is full, and weights that are int8 cannot be trained" in done.output
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
def test_a_smaller_vocabulary_is_a_folder_that_teaches(write: Write, tmp_path: Path) -> None:
    """Layers are dropped from it, and the teacher has its tokens."""
    path = write(vocabulary=True, vocabulary_texts=str(tmp_path / "words.txt"), drop_llm_layers=1)
    # Words that training does not have would be spelled, which nobody has taught it.
    valid = json.loads((tmp_path / "valid.json").read_text(encoding="utf-8"))["annotation"]
    (tmp_path / "words.txt").write_text("\n".join(row["text"] for row in valid), encoding="utf-8")
    done = compress(path)
    assert done.exit_code == 0, done.output
    small = tmp_path / "small"
    rows = json.loads((small / "table.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in rows] == ["original", "smaller vocabulary", "layers dropped", "healed"]
    whole, cut = rows[:2]
    assert cut["vocabulary"] < whole["vocabulary"] == 903
    assert cut["parameters"] == whole["parameters"] - 160 * (903 - cut["vocabulary"])
    # Nothing but what can be said has changed: the same tokens compete with fewer others.
    assert cut["loss"] <= whole["loss"] + 0.02
    assert cut["wer_interval"][0] <= cut["wer"] <= cut["wer_interval"][1]
    teacher = yaml.safe_load((small / "teacher.yaml").read_text(encoding="utf-8"))
    assert teacher["model"]["llama_path"] == str(small / "llm_vocabulary")
    options = [f"model.llama_path={small / 'llm'}", f"model.ckpt={small / 'healed.pth'}"]
    lm = load_language_model(load_config(ROOT / "configs/salmonn_eval_config.yaml", options), "cpu")
    assert lm.model.llm.config.vocab_size == len(lm.model.tokenizer) == cut["vocabulary"]


def test_a_folder_stays_ones_own_when_settings_are_added(write: Write, tmp_path: Path) -> None:
    settings = load_settings(write(drop_llm_layers=1))
    config = load_config(Path(settings.train), purpose="train")
    folder = tmp_path / "small"
    claim(folder, settings, config)
    claim(folder, settings, config)
    # As a version wrote it that did not know some keys yet.
    known = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    del known["compress"]["vocabulary"], known["train"]["run"]["distill_weight"], known["train"]["model"]["quantize"]
    (folder / "settings.json").write_text(json.dumps(known), encoding="utf-8")
    claim(folder, settings, config)
    other = settings.model_copy(update={"vocabulary": True, "ablation_clips": 5})
    with pytest.raises(ConfigError) as caught:
        claim(folder, other, config)
    assert "compress.ablation_clips: was 4, is 5" in str(caught.value)
    assert "compress.vocabulary: was False, is True" in str(caught.value)
    assert str(caught.value).count(": was") == 2


def test_an_adapter_of_the_head_is_refused(write: Write, tmp_path: Path) -> None:
    settings = load_settings(write(vocabulary=True))
    config = load_config(Path(settings.train), purpose="train")
    parts = config.model.model_copy(update={"lora_target_modules": ["q_proj", "lm_head"]})
    with pytest.raises(ConfigError, match=r"compress.vocabulary: the adapter changes lm_head"):
        require_tokens(settings, config.model_copy(update={"model": parts}))


@pytest.mark.slow
def test_a_compression_that_was_interrupted_goes_on(write: Write, tmp_path: Path) -> None:
    path = write(drop_llm_layers=1, distill_weight=0.0)
    assert compress(path).exit_code == 0
    small = tmp_path / "small"
    weights = read_checkpoint(small / "healed.pth")["model"]
    for gone in ("healed.pth", "table.json"):
        (small / gone).unlink()
    assert compress(path).exit_code == 0
    again = read_checkpoint(small / "healed.pth")["model"]
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert len(json.loads((small / "table.json").read_text(encoding="utf-8"))) == 3


@pytest.mark.slow
def test_whisper_loses_a_layer_and_hears_less(write: Write, tmp_path: Path) -> None:
    done = compress(write(drop_whisper_layers=1, context_seconds=5.0, distill_weight=0.0, heal=False))
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "small/table.json").read_text(encoding="utf-8"))
    assert [(row["whisper_layers"], row["context_seconds"]) for row in rows] == [(3, 10.0), (2, 5.0)]
    assert (tmp_path / "small/whisper/preprocessor_config.json").is_file()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"drop_llm_layer": 1}, "did you mean drop_llm_layers"),
        ({"drop_llm_layers": 1.5}, "compress.drop_llm_layers"),
        ({"drop_llm_layers": 1, "heal": "whole"}, "compress.heal: .*'full'"),
        ({}, "nothing is to be made smaller"),
        ({"drop_whisper_layers": 1}, "a teacher needs the same encoders"),
        ({"drop_llm_layers": 1, "train": "none.yaml"}, "none.yaml is no file"),
        ({"vocabulary": True, "vocabulary_texts": "none.txt"}, "compress.vocabulary_texts: none.txt is no file"),
        ({"drop_llm_layers": 1, "vocabulary_texts": "a.txt"}, "names tokens that stay, and compress.vocabulary is"),
        ({"vocabulary": "some"}, "compress.vocabulary: input should be a valid boolean"),
        ({"context_seconds": 10.01, "heal": False}, "compress.context_seconds: is 10.01 s, no whole number of frames"),
    ],
)
def test_settings_that_cannot_be_are_refused(write: Write, section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(write(**section))


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs one section, compress"):
        load_settings(TRAINER / "configs/nano/heal.yaml")


def test_more_layers_than_there_are_claim_no_folder(write: Write, tmp_path: Path) -> None:
    """Found before anything is encoded; the mended file then has its folder."""
    done = compress(write(drop_llm_layers=3, drop_whisper_layers=99, distill_weight=0.0))
    assert done.exit_code == 2
    assert "compress.drop_llm_layers: is 3, and the llm has 3 layers, of which one has to stay" in done.output
    assert "compress.drop_whisper_layers: is 99, and the whisper has 3 layers" in done.output
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "message"), [(3, "has 3 layers, of which one has to stay"), (0, "is empty")])
def test_what_a_model_does_not_have_is_refused(write: Write, tmp_path: Path, layers: int, message: str) -> None:
    path = write(drop_llm_layers=layers or 1)
    if not layers:
        text = (tmp_path / "heal.yaml").read_text(encoding="utf-8")
        (tmp_path / "heal.yaml").write_text(text.replace(str(NANO / "salmonn.pth"), ""), encoding="utf-8")
    done = compress(path)
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.slow
def test_a_teacher_with_other_encoders_is_refused(write: Write, tmp_path: Path) -> None:
    from salmonn.training.run import train

    write()
    tree = yaml.safe_load((tmp_path / "heal.yaml").read_text(encoding="utf-8"))
    tree["run"] |= {"distill": str(tmp_path / "teacher.yaml"), "output_dir": str(tmp_path / "run")}
    (tmp_path / "taught.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    tree["run"].pop("distill")
    tree["model"]["context_seconds"] = 5.0
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ConfigError, match="the teacher has other encoders than this model"):
        train(load_config(tmp_path / "taught.yaml", purpose="train"))
