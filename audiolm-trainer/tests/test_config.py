"""The configuration: its schema, one report for every problem, overrides, paths, and a token that stays hidden."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from salmonn.config.config import Purpose, find_problems, from_mapping, load_config
from salmonn.config.recorded import recorded_config
from salmonn.config.schema import Config
from salmonn.config.yaml import MAX_DEPTH, read_document
from salmonn.errors import ConfigError

CANARY = "hf_CanaryToken0123456789"
TRAINER = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the configuration of `write` names."""
    for name in ("llama", "whisper", "wavs"):
        (tmp_path / name).mkdir()
    for name in ("beats.pt", "ckpt.pth", "train.json", "test.json", "ann.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    return tmp_path


def write(folder: Path, *, model: str = "", rest: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(
        "model:\n"
        "  llama_path: llama\n"
        "  whisper_path: whisper\n"
        "  beats_path: beats.pt\n"
        "  prompt_path: train.json\n"
        "  test_prompt_path: test.json\n" + ("" if "ckpt:" in model else "  ckpt: none\n") + model + rest,
        encoding="utf-8",
    )
    return path


def problems_of(path: Path, *options: str, purpose: Purpose = "evaluate") -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, options, purpose=purpose)
    return dict(caught.value.problems)


def sections(**model: Any) -> dict[str, Any]:
    return {"model": {"llama_path": "owner/llama", "whisper_path": "owner/whisper", "ckpt": "none", **model}}


def test_defaults_are_the_originals(folder: Path) -> None:
    config = load_config(write(folder))
    assert (config.model.lora_rank, config.model.lora_alpha, config.model.lora_dropout) == (8, 32, 0.1)
    assert config.model.lora_target_modules == ["q_proj", "v_proj"]
    assert (config.model.second_per_window, config.model.num_speech_query_token) == (0.333333, 1)
    assert (config.generate.max_new_tokens, config.generate.num_beams) == (200, 4)
    assert (config.run.seed, config.run.iters_per_epoch, config.run.optims.init_lr) == (42, 3000, 3e-5)
    assert config.end_sym == "</s>"


def test_every_problem_is_in_one_report_with_file_line_key_and_nearest_key(folder: Path) -> None:
    rest = "  lora_rnk: 8\n  lora: 1\ngenerate:\n  num_beams: '4'\nrun:\n  optims:\n    warmup_step: 3\ngenerat: 1\n"
    path = write(folder, model="  ckpt: none.pth\n", rest=rest)
    found = problems_of(path, "run.seed=x", purpose="train")
    assert found[f"{path}:8: model.lora_rnk"] == "is not a setting; did you mean lora_rank?"
    assert found[f"{path}:9: model.lora"] == "input should be a valid boolean (found 1)"
    assert found[f"{path}:11: generate.num_beams"] == "input should be a valid integer (found '4')"
    assert found[f"{path}:14: run.optims.warmup_step"] == "is not a setting; did you mean warmup_steps?"
    assert found[f"{path}:15: generat"] == "is no section; did you mean generate?"
    assert found["--options: run.seed"] == "input should be a valid integer (found 'x')"
    assert "none.pth does not exist (looked in" in found[f"{path}:7: model.ckpt"]
    assert str(folder) in found[f"{path}:7: model.ckpt"]
    assert found[f"{path}: datasets.train_ann_path"] == "is missing"
    assert len(found) == 8


def test_numbers_are_yaml_1_2(folder: Path) -> None:
    rest = "run:\n  optims: {init_lr: 3e-5, warmup_start_lr: 1e-6, min_lr: 0}\n  amp: no\n  exp_name: 1:30\n"
    config = load_config(write(folder, rest=rest))
    optims = config.run.optims
    assert (optims.init_lr, optims.warmup_start_lr, optims.min_lr) == (3e-5, 1e-6, 0.0)
    assert config.run.amp is False
    assert config.run.exp_name == "1:30"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  ckpt: a\n  ckpt: b\n", "config.yaml:3: model.ckpt: the key appears twice (first on line 2)"),
        ("model: [\n", "not valid YAML"),
        ("model: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}"),
        ("- 1\n", "has no sections"),
        ("", "model: the section is missing"),
        ("model: !!python/name:os.system\n", "the tag !!python/name:os.system is not allowed"),
        ("model: 3\n", "model: is a section"),
        ("run: {}\n", "model: the section is missing"),
    ],
)
def test_broken_files_are_sentences(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r".") as caught:
        load_config(path)
    assert message in str(caught.value)


def test_a_missing_file_and_one_that_is_not_text_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("options", "end_sym"),
    [
        (["generate.num_beams=1", "model.end_sym=a=b"], "a=b"),
        (["generate.num_beams", "1", "model.end_sym", "x"], "x"),
    ],
)
def test_overrides_come_as_items_or_pairs(folder: Path, options: list[str], end_sym: str) -> None:
    config = load_config(write(folder), options)
    assert (config.generate.num_beams, config.model.end_sym) == (1, end_sym)


def test_null_clears_a_key_and_wrong_overrides_are_named(folder: Path) -> None:
    path = write(folder, rest="run: {seed: 7, device: cpu}\n")
    assert load_config(path, ["run.seed=null"]).run.seed == 42
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["run.seed.deep=1", "lonely"], purpose="answer")
    assert "run.seed.deep: run.seed is a value, not a section" in str(caught.value)
    assert '"lonely" has no value' in str(caught.value)
    with pytest.raises(ConfigError, match=r"expected SECTION\.KEY=VALUE"):
        load_config(path, ["=1"])


def test_paths_are_of_the_working_directory_first_then_of_the_files_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "llama").mkdir()
    monkeypatch.chdir(elsewhere)
    config = load_config(write(folder))
    assert config.model.llama_path == str(elsewhere / "llama")
    assert config.model.whisper_path == str(folder / "whisper")


def test_hub_names_pass_and_paths_of_another_kind_do_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "models").mkdir()
    assert not find_problems(sections(test_prompt_path="test.json"))
    keyed = dict(
        find_problems(sections(test_prompt_path="test.json", speech_llama_proj_model="llama", beats_path="owner/beats"))
    )
    assert keyed["model.speech_llama_proj_model"].endswith("a file is expected")
    assert "does not exist" in keyed["model.beats_path"]
    typo = {**sections(), "model": {"llama_path": "models/lama", "whisper_path": "test.json"}}
    keyed = dict(find_problems(typo))
    assert "does not exist" in keyed["model.llama_path"]
    assert keyed["model.whisper_path"].endswith("a folder is expected")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"low_resource": True}, "model.low_resource"),
        ({"only_preprocessor": True}, "model.only_preprocessor"),
        ({"use_speech_Qformer": False}, "model.use_speech_Qformer"),
        ({"prompt_template": "USER:"}, "model.prompt_template"),
        ({"end_sym": ""}, "model.end_sym"),
        ({"dtype": "int8"}, "model.dtype"),
        ({"lora_target_modules": []}, "model.lora_target_modules"),
        ({"merge_lora": True, "lora": False}, "model.merge_lora"),
    ],
)
def test_what_cannot_be_done_is_refused(changes: dict[str, Any], key: str) -> None:
    assert [found for found, _ in find_problems(sections(**changes), purpose="answer")] == [key]


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"model": {"freeze_whisper": False}}, "model.freeze_whisper"),
        ({"model": {"freeze_beats": False}}, "model.freeze_beats"),
        ({"model": {"merge_lora": True}}, "model.merge_lora"),
        ({"run": {"evaluate": True}}, "run.evaluate"),
    ],
)
def test_training_refuses_what_only_decoding_may_carry(section: dict[str, Any], key: str) -> None:
    mapping = sections(**section.get("model", {})) | {"run": section.get("run", {})}
    assert key in dict(find_problems(mapping, purpose="train"))
    assert key not in dict(find_problems(mapping, purpose="answer"))


def test_an_evaluation_yaml_is_accepted_as_it_is(folder: Path) -> None:
    rest = (
        "datasets:\n  prefix: wavs\n  test_ann_path_asr: ann.json\n  test_ann_path: none.json\n"
        "run:\n  batch_size_eval: 2\n  on_audio_error: record\n  empty_text: '.'\n  output_dir: .\n"
        "scoring:\n  meteor: true\n"
    )
    config = load_config(write(folder, rest=rest))
    assert config.run.batch_size_eval == 2
    assert load_config(write(folder, rest=rest), purpose="answer").run.batch_size_eval == 2
    wrong = rest.replace("on_audio_error", "on_audio_eror")
    assert [key.rpartition(" ")[2] for key in problems_of(write(folder, rest=wrong))] == ["run.on_audio_eror"]


def test_a_tracker_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else object())
    mapping = sections() | {"run": {"trackers": ["tensorboard", "wandb"]}}
    found = dict(find_problems(mapping, purpose="train"))
    assert found["run.trackers"] == "wandb is not installed: pip install wandb"
    assert "run.trackers" not in dict(find_problems(mapping, purpose="answer"))


def test_a_setting_of_several_types_is_one_problem(folder: Path) -> None:
    found = problems_of(write(folder), "run.cache_features=memory")
    assert found == {
        "--options: run.cache_features": "input should be a valid boolean, or input should be 'disk' (found 'memory')"
    }


@pytest.mark.parametrize("empty", ["run: {seed: , optims: {max_epoch: null}}\n", "run:\n", "generate: null\n"])
def test_an_empty_value_is_not_given(folder: Path, empty: str) -> None:
    config = load_config(write(folder, rest=empty))
    assert (config.run.seed, config.run.optims.max_epoch) == (42, 30)
    assert load_config(write(folder), ["model.end_sym=", "run.seed="]).model.end_sym == "</s>"


def test_an_unknown_key_is_wrong_with_an_empty_value_too(folder: Path) -> None:
    path = write(folder, model="  lora_rnk:\n", rest="run: {optims: {warmup_step: }}\n")
    assert set(problems_of(path)) == {f"{path}:8: model.lora_rnk", f"{path}:9: run.optims.warmup_step"}


@pytest.mark.parametrize("purpose", ["evaluate", "answer"])
@pytest.mark.parametrize("written", ['""', "null", ""])
def test_what_answers_needs_a_checkpoint_or_the_word_for_none(folder: Path, purpose: Purpose, written: str) -> None:
    path = write(folder, model=f"  ckpt: {written}\n")
    found = problems_of(path, purpose=purpose)
    assert [text for key, text in found.items() if "model.ckpt" in key] == [
        'is empty, and an untrained model would answer: name the checkpoint, or write "none" to mean that'
    ]
    for word in ("none", "None"):
        config = load_config(path, [f"model.ckpt={word}"], purpose=purpose)
        assert (config.model.ckpt, config.model.checkpoint_path) == (word, "")
    named = load_config(path, ["model.ckpt=ckpt.pth"], purpose=purpose)
    assert named.model.checkpoint_path == str(folder / "ckpt.pth")


def test_training_may_start_from_nothing(folder: Path) -> None:
    path = write(folder, model='  ckpt: ""\n', rest="datasets: {train_ann_path: ann.json}\n")
    assert load_config(path, purpose="train").model.checkpoint_path == ""
    assert load_config(path, ["model.ckpt=none"], purpose="train").model.checkpoint_path == ""


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("generate.min_length=201", "is 201, and an answer ends after generate.max_new_tokens, 200"),
        ("generate.temperature=-1", "greater than or equal to 0"),
        ("generate.repetition_penalty=.inf", "finite number"),
        ("generate.length_penalty=.nan", "finite number"),
        ("generate.temperature=0 generate.do_sample=True", "must be above 0 to sample"),
        ("model.second_per_window=0.01", "is 0.01 s, which rounds to no frame"),
        ("model.second_stride=0.001", "is 0.001 s, which rounds to no frame"),
        ("model.second_per_window=31.0", "is 31.0 s, and a clip has 30 s at most"),
    ],
)
def test_settings_that_cannot_be_are_named(folder: Path, option: str, message: str) -> None:
    [(key, text)] = find_problems(read_document(write(folder), option.split()).tree, folder)
    assert key == option.partition("=")[0]
    assert message in text


def test_a_temperature_of_0_without_sampling_is_accepted(folder: Path) -> None:
    assert load_config(write(folder), ["generate.temperature=0"]).generate.temperature == 0


def test_a_dry_run_needs_prompts_only(folder: Path) -> None:
    rest = "datasets: {train_ann_path: none.json}\n"
    path = write(folder, model="  ckpt: none.pth\n", rest=rest)
    assert load_config(path, purpose="dryrun").model.ckpt == "none.pth"
    assert set(problems_of(path, "model.prompt_path=none.json", purpose="dryrun")) == {"--options: model.prompt_path"}


def test_the_token_comes_from_the_environment_first_and_is_never_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, model=f"  token: {CANARY}\n")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    config = load_config(path)
    assert config.token == CANARY
    for shown in (repr(config), str(config), str(config.public()), config.model_dump_json()):
        assert CANARY not in shown
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    assert load_config(path).token == "hf_environment"
    monkeypatch.delenv("HF_TOKEN")
    assert load_config(write(folder)).token is None


def test_errors_do_not_show_the_token(folder: Path) -> None:
    path = write(folder, model=f"  token: [{CANARY}]\n  lora: x\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [f"model.tokn={CANARY}"])
    assert "did you mean token?" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_the_public_form_makes_the_same_configuration_again(folder: Path) -> None:
    config = load_config(write(folder))
    assert from_mapping(config.public()) == config


def test_documents_know_where_keys_are(folder: Path) -> None:
    document = read_document(write(folder, rest="run: {seed: 1}\n"), ["run.seed=2"])
    assert document.locate("run.seed") == "--options"
    assert document.locate("run.unwritten").endswith("config.yaml:8")
    assert document.locate("model.llama_path").endswith("config.yaml:2")
    assert document.tree["run"] == {"seed": 2}


def test_the_references_configuration_loads(reference: Path) -> None:
    config = load_config(reference / "config.yaml")
    assert isinstance(config, Config)
    assert config.model.llama_path == str(reference / "llama")
    assert config.model.end_sym == "<|end_of_text|>"
    assert config.generate.max_new_tokens == 40


@pytest.mark.parametrize("name", ["config.yaml", "train_stage2.yaml"])
def test_shipped_training_configurations_lack_nothing_but_the_users_files(name: str) -> None:
    found = find_problems(read_document(TRAINER / "configs" / name).tree, TRAINER / "configs", purpose="train")
    users = {"model.ckpt", "datasets.train_ann_path", "datasets.valid_ann_path"}
    assert {key for key, _ in found} <= users
    assert load_config(TRAINER / "configs" / name, purpose="dryrun").run.optims.warmup_steps == 3000


def test_reading_a_configuration_imports_no_torch() -> None:
    code = (
        "import sys, salmonn.config.config, salmonn.prompts; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=TRAINER, check=False).returncode == 0


def test_shards_are_found_like_files_and_a_missing_one_is_named(folder: Path) -> None:
    for number in range(2):
        (folder / f"train-{number}.tar").touch()
    keys = {"train_ann_path": "train-{0..1}.tar", "valid_ann_path": "train-{0..2}.tar"}
    problems = dict(find_problems(sections() | {"datasets": keys}, folder, purpose="train"))
    assert "datasets.train_ann_path" not in problems
    assert "train-2.tar does not exist" in problems["datasets.valid_ann_path"]


def test_what_may_be_shared_has_no_folder_and_no_token(folder: Path) -> None:
    (folder / "secret").mkdir()
    model = {"token": "hf_secret", "llama_path": str(folder / "secret"), "whisper_path": "owner/whisper"}
    mapping = sections(**model) | {"run": {"output_dir": str(folder / "out")}}
    shared = from_mapping(mapping, folder, purpose="answer").shareable()
    assert shared["model"]["llama_path"] == "secret"
    assert shared["model"]["whisper_path"] == "owner/whisper"
    assert shared["run"]["output_dir"] == "out"
    assert "hf_secret" not in str(shared)
    assert str(folder) not in str(shared)


def test_a_table_without_a_space_behind_its_colon_is_not_taken_for_empty(folder: Path) -> None:
    path = write(folder, rest="datasets:\n  task_weights: {asr:2.0}\n")
    with pytest.raises(ConfigError, match=r"datasets\.task_weights\.asr:2\.0: input should be a valid number"):
        load_config(path, purpose="dryrun")


def test_how_a_model_is_loaded_is_not_said_of_its_weights(folder: Path) -> None:
    """A checkpoint of before the key goes on being resumed, and what is passed on never has it."""
    config = from_mapping(sections(merge_lora=True), folder, purpose="answer")
    assert config.model.merge_lora
    assert config.public()["model"]["merge_lora"] is True
    assert "merge_lora" not in config.shareable()["model"]
    assert recorded_config(config.public())["model"].keys() == config.shareable()["model"].keys()
