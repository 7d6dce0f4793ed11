"""Configurations: the original's schema, overrides, paths, secrets, and every problem in one report."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evaluator.config.config import Config, load_config
from evaluator.errors import ConfigError
from evaluator.tasks import AAC, ASR

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "hf_canaryCANARYcanary"


@pytest.fixture(autouse=True)
def _no_token_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


def load(folder: Path, text: str | bytes, *options: str, **more: Any) -> Config:
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, options, **more)


def problems(folder: Path, text: str | bytes, *options: str, **more: Any) -> list[str]:
    """The problems of a configuration, with the file's folder taken out of them."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *options, **more)
    assert caught.value.exit_code == 2
    found = [str(problem) for problem in caught.value.problems] or [caught.value.message]
    return [line.replace(str(folder) + os.sep, "") for line in found]


def test_the_originals_file_loads_unchanged(reference: Path) -> None:
    folder = reference.resolve()
    config = load_config(folder / "config.yaml")
    assert config.model["llama_path"] == str(folder / "llama")
    assert config.model["ckpt"] == str(folder / "ckpt.pth")
    assert config.model["lora_rank"] == 8
    assert config.model["prompt_template"] == "USER: {}\nASSISTANT:"
    assert config.generate["end_sym"] == "<|end_of_text|>"
    assert config.datasets.prefix == str(folder / "wavs")
    assert (config.run.batch_size_eval, config.run.num_workers, config.run.device) == (1, 0, "cpu")
    assert config.annotation_path(ASR) == folder / "ann" / "test_asr.json"
    assert config.annotation_path(AAC) == folder / "ann" / "test_aac.json"
    assert config.notices == ()
    assert config.token is None


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_shipped_configurations_load_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(ROOT / "configs" / name)
    assert config.model["test_prompt_path"] == str(ROOT / "audiolm-trainer" / "prompts" / "test_prompt.json")


def test_default_configuration_names_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(ROOT / "configs" / "salmonn_eval_config.yaml")
    nano = ROOT / "audiolm-trainer" / "nano"
    assert config.model["llama_path"] == str(nano / "llama")
    assert config.model["qformer_path"] == str(nano / "qformer")
    assert config.datasets.prefix == str(ROOT / "data" / "sample")


def unknown(sections: Any) -> list[tuple[str, str]]:
    """A model package's `check_config` that knows no key of its own in datasets and run."""
    own = {"batch_size_eval", "decode_slots", "num_workers", "device", "output_dir", "seed"}
    return [(f"run.{key}", "unknown key") for key in sections["run"] if key not in own]


def test_every_problem_is_in_one_report_with_its_line(tmp_path: Path) -> None:
    text = """\
model:
  llama_path: x
run:
  batch_size_evl: 4
  device: cuda0
  num_workers: "8"
  empty_text: " "
  on_audio_error: skip
  batch_size_eval: 0
  seed: true
  prefix: x
datasets:
  prefix: 3
runn: {}
scoring: []
"""
    found = problems(tmp_path, text, "run.sead=4", check_extra=unknown)
    assert sorted(found) == sorted(
        [
            "c.yaml:4: run.batch_size_evl: unknown key",
            'c.yaml:5: run.device: expected "auto", "cpu", "cuda" or "cuda:1", found "cuda0"',
            'c.yaml:6: run.num_workers: expected a whole number, found "8"',
            "c.yaml:7: run.empty_text: expected one line with something visible in it: "
            'it stands for empty answers in the CSV, found " "',
            "c.yaml:8: run.on_audio_error: expected 'fail' or 'record', found \"skip\"",
            "c.yaml:9: run.batch_size_eval: expected 1 or more, found 0",
            "c.yaml:10: run.seed: expected a whole number, found true",
            'c.yaml:11: run.prefix: unknown key here; it belongs to the section "datasets"',
            "c.yaml:13: datasets.prefix: expected a text (in quotation marks if it looks like a number), found 3",
            'c.yaml:14: runn: unknown section; did you mean "run"?',
            "c.yaml:15: scoring: expected keys with values, indented below the section's name",
            "--options: run.sead: unknown key",
        ]
    )


def test_the_model_joins_the_same_report(tmp_path: Path) -> None:
    def check(sections: Any) -> list[tuple[str, str]]:
        assert set(sections) == {"model", "generate", "datasets", "run"}
        assert "token" not in sections["model"]
        return [("model.lora_rnk", "unknown key"), ("model.llama_path", "missing"), ("run.seed", "again")]

    text = f"model:\n  lora_rnk: 3\n  token: {TOKEN}\nrun:\n  seed: x\n"
    assert problems(tmp_path, text, check_extra=check) == [
        'c.yaml:5: run.seed: expected a whole number, found "x"',
        "c.yaml:2: model.lora_rnk: unknown key",
        "c.yaml:1: model.llama_path: missing",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-5", 3e-5),
        ("1e-6", 1e-6),
        (".5", 0.5),
        ("+1.E3", 1000.0),
        ("-3", -3),
        ("1_000", 1000),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("0777", "0777"),
        ("08", "08"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("yes", True),
        ("no", False),
        ("null", None),
        ('"3"', "3"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_numbers(tmp_path: Path, text: str, value: object) -> None:
    found = load(tmp_path, f"generate:\n  x: {text}\n").generate["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("run:\n  seed: 1\n  seed: 2\n", "c.yaml:3: run.seed: the key appears twice (first on line 2)"),
        ("run:\n  seed: 1\nrun:\n  seed: 2\n", "c.yaml:3: run: the key appears twice"),
        ("generate:\n  <<: [1]\n", "c.yaml:2: generate: expected a mapping after the merge key"),
        ("generate:\n  a: !!python/name:os.system\n", "c.yaml:2: generate.a: the tag !!python/name:os.system"),
        ("generate:\n  a: !!set {b}\n", "c.yaml:2: generate.a: the tag !!set"),
        ("generate:\n  a: !!int b\n", "c.yaml:2: generate.a: the value cannot be read as its type"),
        ("run:\n  seed: " + "9" * 5000 + "\n", "c.yaml:2: run.seed: the value cannot be read as its type"),
        ("model:\n  ckpt: ${oc.env:HOME}/x\n", "c.yaml:2: model.ckpt: references such as ${...}"),
        ("1: 2\n", "c.yaml:1: a key must be text"),
        ("run:\n\tseed: 1\n", "c.yaml:2: not valid YAML"),
        ("generate: " + "[" * 100_000, "c.yaml: nests deeper"),
        ("generate: &a\n  x: *a\n", "c.yaml: holds more than"),
        ("a: 1\n---\nb: 2\n", "c.yaml:2: not valid YAML"),
        ("- a\n", "c.yaml: has no sections"),
        (b"run:\n  seed: \xe9\n", "c.yaml:2: is not UTF-8 text (invalid continuation byte)"),
        (b"run:\n  seed: \0\n", "c.yaml: not valid YAML: a character"),
        (b"#" * 300_000, "c.yaml: is larger than 256 KiB"),
    ],
)
def test_what_yaml_could_do_and_may_not(tmp_path: Path, text: str | bytes, problem: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "holds more than 20000 values" in problems(tmp_path, "\n".join(lines))[0]


def test_aliases_are_plain_values(tmp_path: Path) -> None:
    assert load(tmp_path, "generate:\n  a: &x [1, 2]\n  b: *x\n").generate == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("text", ["", "run:\n", "run: null\ndatasets:\n  prefix: null\nscoring:\n  threads: null\n"])
def test_null_means_not_given(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert (config.run.batch_size_eval, config.datasets.prefix, config.scoring.threads) == (8, "", 2)


def test_merge_keys_bring_what_is_not_written_out(tmp_path: Path) -> None:
    text = "generate: &base\n  a: 1\n  b: 2\nmodel:\n  b: 3\n  <<: [*base, {a: 5, c: 6}]\n"
    assert load(tmp_path, text).model == {"a": 1, "b": 3, "c": 6}


def test_keys_of_the_model_package_are_handed_on(tmp_path: Path) -> None:
    text = (
        "run:\n  optims: {max_epoch: 3, init_lr: 3e-5}\n  amp: no\n  exp_name: x\n"
        "datasets:\n  train_ann_path: a.json\n  valid_ann_path: b.json\n"
    )
    config = load(tmp_path, text, check_extra=lambda sections: [])
    assert config.mapping()["run"]["optims"] == {"max_epoch": 3, "init_lr": 3e-5}
    assert config.mapping()["run"]["amp"] is False
    assert config.mapping()["datasets"] == {"train_ann_path": "a.json", "valid_ann_path": "b.json"}
    assert config.public()["run"]["exp_name"] == "x"
    assert config.notices == ()


def test_keys_that_nobody_checks_are_named(tmp_path: Path) -> None:
    config = load(tmp_path, "run:\n  sead: 1\ndatasets:\n  folder: x\n")
    assert [notice.replace(str(tmp_path) + os.sep, "") for notice in config.notices] == [
        "c.yaml: the evaluator does not know datasets.folder, run.sead; the model package gets them unchecked."
    ]
    assert config.mapping()["run"]["sead"] == 1


@pytest.mark.parametrize(
    ("options", "section", "expected"),
    [
        (["run.seed=5", "run.device=cpu"], "run", {"seed": 5, "device": "cpu"}),
        (["run.seed", "5", "run.device", "cuda:1"], "run", {"seed": 5, "device": "cuda:1"}),
        (["run.seed=null"], "run", {"seed": 42}),
        (["run.empty_text=..."], "run", {"empty_text": "..."}),
        (["run.empty_text=-"], "run", {"empty_text": "-"}),
        (["model.prompt_template=USER: {}"], "model", {"prompt_template": "USER: {}"}),
        (["model.a=b=c"], "model", {"a": "b=c"}),
        (["model.a="], "model", {"a": None}),
        (["run.seed="], "run", {"seed": 42}),
        (
            ["model.a=!", "model.b=!USER: {}", "model.c=<<", "model.d=# c"],
            "model",
            {"a": "!", "b": "!USER: {}", "c": "<<", "d": "# c"},
        ),
        (
            ["model.a=!!int 0x", "model.b=*x", "model.c=&x", "model.d=a: b", "model.e=- a"],
            "model",
            {"a": "!!int 0x", "b": "*x", "c": "&x", "d": "a: b", "e": "- a"},
        ),
        (["model.a=~", "model.b=Null"], "model", {"a": None, "b": None}),
        (["model.a=no", "model.b=0x10", "model.c=1_000"], "model", {"a": False, "b": 16, "c": 1000}),
        (["model.prompt_template=USER: {}\\nA:"], "model", {"prompt_template": "USER: {}\nA:"}),
        (['model.prompt_template="USER: {}\\nA:"'], "model", {"prompt_template": "USER: {}\nA:"}),
        (["model.a='3'"], "model", {"a": "3"}),
        (["model.lora=false", "model.l=[a, b]"], "model", {"lora": False, "l": ["a", "b"]}),
        (["generate.length_penalty=3e-5"], "generate", {"length_penalty": 3e-5}),
        (["run.optims.max_epoch=3"], "run", {"optims": {"max_epoch": 3}}),
    ],
)
def test_options_override(tmp_path: Path, options: list[str], section: str, expected: dict[str, Any]) -> None:
    public = load(tmp_path, "run:\n  seed: 1\nmodel:\n  lora: true\n", *options).public()
    assert {key: public[section][key] for key in expected} == expected


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["run.seed"], '--options: "run.seed" has no value; write run.seed=VALUE'),
        (["run.seed=1", "x"], '--options: "x" has no value; write x=VALUE'),
        (["rn.seed=1"], '--options: rn: unknown section; did you mean "run"?'),
        (["run=1"], "--options: run: expected SECTION.KEY=VALUE"),
        (["run.seed.x=1"], "--options: run.seed.x: run.seed is a value, not a section"),
        (["model.token.x=1"], "--options: model.token: expected a text"),
        (["run.seed=" + "9" * 5000], "--options: run.seed: expected a whole number, found "),
        (["model.x=[a, !b c]"], "--options: model.x: the tag !b is not allowed"),
        (["run.seed=[1"], "--options: run.seed: not valid YAML"),
        (["model.x=${HOME}"], "--options: model.x: references such as ${...}"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: list[str], problem: str) -> None:
    found = problems(tmp_path, "run:\n  seed: 1\n", *options)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_flags_win_over_everything_and_are_named(tmp_path: Path) -> None:
    config = load(tmp_path, "run:\n  device: cpu\n", "run.device=cuda", device="cuda:1", output_dir="out")
    assert (config.run.device, config.run.output_dir) == ("cuda:1", "out")
    assert config.locate("run.device") == "--device"
    assert problems(tmp_path, "run:\n", device="gpu") == [
        '--device: run.device: expected "auto", "cpu", "cuda" or "cuda:1", found "gpu"'
    ]


def test_locate_names_line_option_or_section(tmp_path: Path) -> None:
    config = load(tmp_path, "run:\n  seed: 1\n  num_workers: 2\n", "run.seed=2")
    path = str(tmp_path / "c.yaml")
    assert config.locate("run.num_workers") == f"{path}:3"
    assert config.locate("run.seed") == "--options"
    assert config.locate("run.device") == f"{path}:1"
    assert config.locate("model.ckpt") == path


def test_paths_try_the_working_directory_then_the_configs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, names in ((here, ["both", "only_here"]), (there, ["both", "only_there"])):
        for name in names:
            (folder / name).mkdir(parents=True)
    monkeypatch.chdir(here)
    keys = {"llama_path": "both", "whisper_path": "only_there", "beats_path": "../here/only_here", "ckpt": "nowhere"}
    lines = [f"  {key}: {value}" for key, value in keys.items()]
    config = load(there, "\n".join(["model:", *lines, "  end_sym: both", "datasets:", "  prefix: only_there"]))
    assert config.model == {
        "llama_path": str(here / "both"),
        "whisper_path": str(there / "only_there"),
        "beats_path": str(here / "only_here"),
        "ckpt": "nowhere",
        "end_sym": "both",
    }
    assert config.datasets.prefix == str(there / "only_there")


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "4f2a").write_text("")
    (tmp_path / "model.pth").symlink_to("4f2a")
    assert load(tmp_path, "model:\n  ckpt: model.pth\n").model["ckpt"] == str(tmp_path / "model.pth")


def test_annotation_path_says_where_it_looked(tmp_path: Path) -> None:
    config = load(tmp_path, "datasets:\n  test_ann_path_asr: nowhere.json\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: datasets\.test_ann_path_asr: .*working directory .*folder"):
        config.annotation_path(ASR)
    with pytest.raises(ConfigError, match=r"c\.yaml:1: datasets\.test_ann_path_aac: name the annotation JSON"):
        config.annotation_path(AAC)


def test_the_deprecated_annotation_wins_with_a_notice(tmp_path: Path) -> None:
    for name in ("old.json", "new.json"):
        (tmp_path / name).write_text("[]")
    config = load(tmp_path, "datasets:\n  test_ann_path_asr: new.json\n  test_ann_path: old.json\n")
    assert config.annotation_path(ASR).name == config.annotation_path(AAC).name == "old.json"
    assert len(config.notices) == 1
    assert "c.yaml:3: datasets.test_ann_path is deprecated" in config.notices[0]


def test_the_token_is_handed_on_and_shown_nowhere(tmp_path: Path) -> None:
    config = load(tmp_path, f"model:\n  token: {TOKEN}\n  note: my {TOKEN}\n")
    assert config.mapping()["model"]["token"] == TOKEN
    shown = [json.dumps(config.public()), repr(config.token), *config.notices]
    shown.append(repr(load(tmp_path, f"model:\n  token: {TOKEN}\n")))
    assert not any(TOKEN in text for text in shown)
    assert any("c.yaml:2: model.token is written down in clear" in notice for notice in config.notices)


@pytest.mark.parametrize("secret", [TOKEN, "a-secret-of-another-shape"])
def test_problems_do_not_show_the_token(tmp_path: Path, secret: str) -> None:
    text = f"model:\n  token: {secret}\nrun:\n  device: {secret}\n  {secret}: 1\n"
    assert secret not in "\n".join(problems(tmp_path, text))
    assert secret not in "\n".join(problems(tmp_path, f"model:\n  token: {secret}\n  x: [\n"))


@pytest.mark.parametrize("text", ["model:\n  token: ''\n", "model:\n  token: None\n", "model:\n  token: null\n", ""])
def test_no_token_is_no_token(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert config.token is None
    assert "token" not in config.mapping()["model"]


def test_the_environments_token_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_fromTheEnvironment")
    config = load(tmp_path, f"model:\n  token: {TOKEN}\n")
    assert config.token is None
    assert "token" not in config.mapping()["model"]


def test_what_the_model_gets_and_what_is_recorded(tmp_path: Path) -> None:
    config = load(tmp_path, "run:\n  on_audio_error: record\n  batch_size_eval: 3\nscoring:\n  meteor: true\n")
    assert set(config.mapping()) == {"model", "generate", "datasets", "run"}
    assert "on_audio_error" not in config.mapping()["run"]
    public = config.public()
    assert public["run"]["on_audio_error"] == "record"
    assert public["run"]["device"] == "auto"
    assert public["scoring"]["meteor"] is True
    json.dumps(public, allow_nan=False)


def test_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(ConfigError, match="The configuration file"):
            load_config(path)
