"""What a model package is asked before its model loads: its answers are taken, its failures are sentences."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluator.commands.session import Terminated
from evaluator.config.config import Config, load_config
from evaluator.errors import AudioLMError, ConfigError
from evaluator.preflight import known_tasks
from evaluator.provider.loading import load_model
from evaluator.provider.questions import check_parts, config_check, found_fingerprints, found_notices


def package(**functions: Callable[..., object]) -> Any:
    return SimpleNamespace(load_model=lambda config, device: None, **functions)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text("model:\n  layers: 3\n", encoding="utf-8")
    return load_config(path)


def generator(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "model.layers", "is odd"
    raise KeyError("gone")


def unasked() -> list[tuple[str, str]]:
    return []


def raising(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    raise ValueError("no such thing")


def test_a_package_that_offers_nothing_says_nothing(config: Config) -> None:
    check_parts(package(), config)
    assert found_notices(package(), config) == []
    assert found_fingerprints(package(), config) == {}


def test_answers_are_taken_with_their_place(config: Config) -> None:
    asked = package(
        check_parts=lambda config: [("model.layers", f"{config['model']['layers']} is one too many")],
        notices=lambda config: iter([("model.layers", "has no effect")]),
        fingerprints=lambda config: {"model.layers": "abc"},
    )
    with pytest.raises(ConfigError, match=r"The model cannot be loaded\.") as caught:
        check_parts(asked, config)
    assert [str(problem) for problem in caught.value.problems] == [f"{config.path}:2: model.layers: 3 is one too many"]
    check_parts(asked, config, needed=False)
    assert found_notices(asked, config) == [f"{config.path}:2: model.layers has no effect."]
    assert found_fingerprints(asked, config) == {"model.layers": "abc"}


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (raising, "ValueError: no such thing"),
        (generator, "KeyError: 'gone'"),
        (lambda config: 3, "it gave 3, not"),
        (lambda config: ["model"], "it gave 'model', not"),
        (lambda config: [("model", 1)], r"it gave \('model', 1\), not"),
        (unasked, "TypeError"),
    ],
)
@pytest.mark.parametrize("name", ["check_parts", "notices"])
def test_a_function_that_does_not_work_is_named(
    config: Config, name: str, function: Callable[..., object], why: str
) -> None:
    ask = {"check_parts": check_parts, "notices": found_notices}[name]
    with pytest.raises(ConfigError, match=rf"The model package's {name} does not work \({why}.*mend the package"):
        ask(package(**{name: function}), config)


def needing(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    raise ModuleNotFoundError("No module named 'peft.tuners'", name="peft.tuners")


@pytest.mark.parametrize(
    "ask",
    [
        lambda config: check_parts(package(check_parts=needing), config),
        lambda config: found_notices(package(notices=needing), config),
        lambda config: load_config(config.path, check_extra=config_check(package(check_config=needing))),
        lambda config: known_tasks(package(tasks=needing), config),
        lambda config: load_model(SimpleNamespace(load_model=lambda config, device: needing(config)), config),
    ],
)
def test_a_python_package_that_is_not_installed_is_named_with_its_cure(
    config: Config, ask: Callable[[Config], object]
) -> None:
    with pytest.raises(AudioLMError, match="the Python package peft, which is not installed: pip install peft"):
        ask(config)


@pytest.mark.parametrize("found", [None, 3, ["asr", 1], {1: False}])
def test_tasks_of_another_form_are_named(config: Config, found: object) -> None:
    with pytest.raises(ConfigError, match="The model package cannot list its tasks"):
        known_tasks(package(tasks=lambda config: found), config)


@pytest.mark.parametrize("function", [raising, lambda config: [1], lambda config: {"a": 1}, lambda config: None])
def test_fingerprints_that_are_none_are_named(config: Config, function: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="The model package's fingerprints does not work"):
        found_fingerprints(package(fingerprints=function), config)


@pytest.mark.parametrize("function", [raising, generator, lambda config: [("model", None)], lambda config: 3])
def test_a_check_of_the_configuration_that_fails_joins_the_report(
    tmp_path: Path, function: Callable[..., object]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model:\n  layers: 3\nrun:\n  batch_size_eval: x\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, check_extra=config_check(package(check_config=function)))
    places = [problem.where for problem in caught.value.problems]
    assert places == [f"{path}:4: run.batch_size_eval", f"{path}:1: model"]
    assert "check_config does not work" in caught.value.problems[1].message


def leaving(*_: object) -> list[tuple[str, str]]:
    raise SystemExit(0)


def test_a_package_that_exits_is_named_and_does_not_end_the_run_in_silence(config: Config) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config.path, check_extra=config_check(package(check_config=leaving)))
    assert "check_config does not work (SystemExit: 0)" in caught.value.problems[0].message
    with pytest.raises(ConfigError, match=r"check_parts does not work \(SystemExit: 0\)"):
        check_parts(package(check_parts=leaving), config)
    with pytest.raises(AudioLMError, match=r"could not be loaded. SystemExit: 0"):
        load_model(SimpleNamespace(load_model=leaving), config)
    with pytest.raises(ConfigError, match="cannot list its tasks: SystemExit: 0"):
        known_tasks(package(tasks=leaving), config)


def test_a_signal_while_the_package_works_still_ends_the_run(config: Config) -> None:
    def stopped(*_: object) -> list[tuple[str, str]]:
        raise Terminated

    with pytest.raises(Terminated):
        load_model(SimpleNamespace(load_model=stopped), config)
    with pytest.raises(Terminated):
        check_parts(package(check_parts=stopped), config)
    with pytest.raises(Terminated):
        load_config(config.path, check_extra=config_check(package(check_config=stopped)))
