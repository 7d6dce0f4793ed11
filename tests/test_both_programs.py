"""One configuration serves both programs: the same reader, and every shipped file is understood by either."""

from pathlib import Path

import pytest
import yaml

import salmonn
import salmonn.config
from evaluator.config import load_config
from evaluator.config_sections import RunConfig
from evaluator.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
TRAINER = ROOT / "audiolm-trainer"
SHIPPED = sorted(
    path
    for folder in (ROOT / "configs", TRAINER / "configs")
    for path in folder.rglob("*.yaml")
    if "pretrain" not in yaml.safe_load(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("name", ["yaml_file.py", "cpu_threads.py"])
def test_both_have_the_same_file(name: str) -> None:
    """The projects stand alone, so each has the file; what one accepts or does the other must."""
    assert (ROOT / "evaluator" / name).read_bytes() == (TRAINER / "salmonn" / name).read_bytes()


def test_the_trainer_names_the_evaluators_own_keys() -> None:
    assert salmonn.config.EVALUATOR_KEYS == RunConfig.EVALUATOR_ONLY
    assert RunConfig.model_fields.keys() <= salmonn.config.RunConfig.model_fields.keys() | RunConfig.EVALUATOR_ONLY


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_file_has_no_key_that_either_program_does_not_know(path: Path) -> None:
    keys = []
    try:
        load_config(path, check_extra=salmonn.check_config)
    except ConfigError as error:
        keys += [str(problem) for problem in error.problems]
    for purpose in ("evaluate", "train", "answer"):
        document = salmonn.config.open_document(path)
        keys += [text for _, text in salmonn.config.find_problems(document.tree, path.parent, purpose=purpose)]
    assert [text for text in keys if "unknown" in text or "not a setting" in text or "no section" in text] == []


@pytest.mark.parametrize("key", ["run.sed=1", "datasets.prefx=x", "run.optims.max_epok=1", "run.on_audio_eror=fail"])
def test_a_misspelt_key_is_named_before_a_model_is_loaded(key: str) -> None:
    with pytest.raises(ConfigError, match="did you mean") as caught:
        load_config(ROOT / "configs" / "salmonn_eval_config.yaml", [key], check_extra=salmonn.check_config)
    assert [problem.where for problem in caught.value.problems] == [f"--options: {key.partition('=')[0]}"]
