"""What can be configured: the YAML file and --options in, one checked Config out.

The schema is the original's (sections model, generate, datasets, run) plus `scoring`. The evaluator checks
datasets, run and scoring; model and generate belong to the model and pass through, with their paths resolved:
a relative path is tried against the working directory, then against the file's own folder. Every problem
comes in one ConfigError.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from evaluator.config_sections import (
    SECTIONS,
    DatasetsConfig,
    RunConfig,
    ScoringConfig,
    check_section,
    nearest,
)
from evaluator.errors import ConfigError, Problem
from evaluator.tasks import Task
from evaluator.yaml_file import YamlFile, parse_value, read_yaml

__all__ = ["Config", "DatasetsConfig", "RunConfig", "ScoringConfig", "load_config", "mask_secrets"]

CheckExtra = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]

_EVALUATOR_ONLY_RUN_KEYS = frozenset({"on_audio_error", "empty_text"})
_MODEL_PATH_KEYS = frozenset({"ckpt", "speech_llama_proj_model"})
_SECRET = re.compile(r"hf_[A-Za-z0-9]{10,}")


def mask_secrets(text: str) -> str:
    """Replace what looks like a Hugging Face token: "token hf_abcdefghijkl" -> "token ***"."""
    return _SECRET.sub("***", text)


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration.

    Attributes:
        path: the YAML file.
        model: the section as written, paths resolved, without the token.
        generate: the section as written.
        datasets: where annotations and audio are.
        run: how to run.
        scoring: what to score with.
        notices: sentences the user should see once (deprecated keys).
        token: the file's model.token; None where there is none, or the environment variable HF_TOKEN is set.
    """

    path: Path
    model: dict[str, Any]
    generate: dict[str, Any]
    datasets: DatasetsConfig
    run: RunConfig
    scoring: ScoringConfig
    notices: tuple[str, ...] = ()
    token: SecretStr | None = None
    _places: Mapping[str, str] = field(default_factory=dict, repr=False)

    def annotation_path(self, task: Task) -> Path:
        """The annotation file of a task; the deprecated datasets.test_ann_path wins where it is given.

        Raises:
            ConfigError: no file is named, or the named one does not exist.
        """
        key = "test_ann_path" if self.datasets.test_ann_path else f"test_ann_path_{task.name}"
        value = str(getattr(self.datasets, key))
        dotted = f"datasets.{key}"
        if not value:
            message = f"name the annotation JSON of {task.title} here"
            raise ConfigError("No annotation file is configured.", [Problem(self._where(dotted), message)])
        path = Path(value)
        if not path.exists():
            message = f"there is no file {_tried(value, self.path.parent)}"
            raise ConfigError("The annotation file is missing.", [Problem(self._where(dotted), message)])
        return path

    def mapping(self) -> dict[str, Any]:
        """The plain sections model, generate, datasets, run for the model's `load_model`.

        Holds the token when the file has one: hand it on, never print or store it. Keys that only the
        evaluator knows (run.on_audio_error, run.empty_text, scoring) are left out.
        """
        token = {"token": self.token.get_secret_value()} if self.token else {}
        return _plain({**self.model, **token}, self.generate, self.datasets, self.run)

    def public(self) -> dict[str, Any]:
        """The whole configuration without secrets, ready for JSON: what run.json records."""
        sections = _plain(self.model, self.generate, self.datasets, self.run)
        sections["run"].update(on_audio_error=self.run.on_audio_error, empty_text=self.run.empty_text)
        masked: dict[str, Any] = _masked({**sections, "scoring": self.scoring.model_dump()})
        return masked

    def on_device(self, device: str) -> "Config":
        """The same configuration with another run.device."""
        return replace(self, run=self.run.model_copy(update={"device": device}))

    def locate(self, key: str) -> str:
        """Where a dotted key was set: "config.yaml:12", "--options", "--device".

        A key that is not there has its section's line.
        """
        return _locate(self._places, key, self.path)

    def _where(self, key: str) -> str:
        return f"{self.locate(key)}: {key}"


def load_config(
    path: Path,
    options: Sequence[str] = (),
    *,
    device: str | None = None,
    output_dir: str | None = None,
    check_extra: CheckExtra | None = None,
) -> Config:
    """Read, override, resolve and check a configuration.

    Args:
        path: the YAML file.
        options: "a.b=1" items, or pairs "a.b", "1"; values are YAML, null clears the key.
        device: overrides run.device.
        output_dir: overrides run.output_dir.
        check_extra: asked about {"model", "generate", "datasets", "run"} (plain, paths resolved, without the
            token); yields (dotted key, what is wrong), which joins the same report.

    Raises:
        ConfigError: with every problem found, each with file and line, key, and the nearest key there is.
    """
    file = read_yaml(path)
    problems = list(file.problems)
    places = {key: f"{path}:{line}" for key, line in file.lines.items()}
    data = _sections(file, problems)
    _override(data, options, places, problems)
    for key, value in (("device", device), ("output_dir", output_dir)):
        if value is not None:
            data["run"][key] = value
            places[f"run.{key}"] = "--" + key.replace("_", "-")
    token = _take_token(data["model"], places, problems)
    _resolve_paths(data, path.parent)
    datasets = check_section(DatasetsConfig, "datasets", data, places, problems)
    run = check_section(RunConfig, "run", data, places, problems)
    scoring = check_section(ScoringConfig, "scoring", data, places, problems)
    extra = check_extra(_plain(data["model"], data["generate"], datasets, run)) if check_extra else ()
    _add_model_problems(extra, places, problems, path)
    if problems:
        found = [Problem(*(_without(token, text) for text in (p.where, p.message))) for p in problems]
        raise ConfigError(f"The configuration {path} has {_count(found)}:", found)
    return Config(
        path=path,
        model=data["model"],
        generate=data["generate"],
        datasets=datasets,
        run=run,
        scoring=scoring,
        notices=_notices(datasets, places, token=token),
        token=SecretStr(token) if token and not os.environ.get("HF_TOKEN") else None,
        _places=places,
    )


def _count(problems: Sequence[Problem]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def _sections(file: YamlFile, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """The five sections as dictionaries; absent or empty ones are empty."""
    result: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for name, value in file.data.items():
        where = f"{file.path}:{file.lines[name]}: {name}"
        if name not in SECTIONS:
            problems.append(Problem(where, f"unknown section; {nearest(name, SECTIONS)}"))
        elif isinstance(value, dict):
            result[name] = dict(value)
        elif value is not None:
            problems.append(Problem(where, "expected keys with values, indented below the section's name"))
    return result


def _option_pairs(options: Sequence[str], problems: list[Problem]) -> list[tuple[str, str]]:
    """Split options into (key, value): all "a.b=1" when the first has a "=", else taken two by two."""
    if not options:
        return []
    if "=" in options[0]:
        pairs = []
        for item in options:
            key, equals, value = item.partition("=")
            if equals:
                pairs.append((key, value))
            else:
                problems.append(Problem("--options", f'"{item}" has no value; write {item}=VALUE'))
        return pairs
    if len(options) % 2:
        problems.append(Problem("--options", f'"{options[-1]}" has no value; write {options[-1]}=VALUE'))
    return list(zip(options[::2], options[1::2], strict=False))


def _override(
    data: dict[str, dict[str, Any]],
    options: Sequence[str],
    places: dict[str, str],
    problems: list[Problem],
) -> None:
    for key, text in _option_pairs(options, problems):
        where = f"--options: {key}"
        section, _, rest = key.partition(".")
        names = rest.split(".")
        if section not in SECTIONS or not all(names):
            hint = nearest(section, SECTIONS) if section not in SECTIONS else "name a key of the section"
            problems.append(Problem(where, f"expected SECTION.KEY=VALUE; {hint}"))
            continue
        try:
            value = parse_value(text, where)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        target: Any = data[section]
        for name in names[:-1]:
            target = target.setdefault(name, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            problems.append(Problem(where, "there is a single value above this key; it has no keys of its own"))
            continue
        if value is None:
            target.pop(names[-1], None)
        else:
            target[names[-1]] = value
        places[key] = "--options"


def _take_token(model: dict[str, Any], places: Mapping[str, str], problems: list[Problem]) -> str:
    """Take the token out, so that nothing downstream can show it; "None" is how the original writes null."""
    token = model.pop("token", None)
    if token is None or token == "None":
        return ""
    if not isinstance(token, str):
        problems.append(Problem(f"{places['model.token']}: model.token", "expected a text"))
        return ""
    return token.strip()


def _resolve_paths(data: dict[str, dict[str, Any]], folder: Path) -> None:
    for section in ("model", "generate", "datasets"):
        for key, value in data[section].items():
            if not isinstance(value, str) or not value:
                continue
            in_datasets = section == "datasets" and (key == "prefix" or "_ann_path" in key)
            if in_datasets or key.endswith("_path") or key in _MODEL_PATH_KEYS:
                data[section][key] = resolve_path(value, folder)


def resolve_path(value: str, folder: Path) -> str:
    """Make a path absolute where it exists: against the working directory, then `folder`; else leave it as
    written.

    What stays as written may be a name on the model hub, or a file that whoever opens it will report as
    missing.
    """
    expanded = os.path.expanduser(value)  # noqa: PTH111 - Path.expanduser raises where there is no home
    for base in (Path.cwd(), folder):
        candidate = base / expanded
        try:
            if candidate.exists():
                # The name itself stays: hub caches link readable names to files named by hash.
                keep = candidate.name not in ("", "..")
                return str(candidate.parent.resolve() / candidate.name if keep else candidate.resolve())
        except (OSError, ValueError):  # a name too long for the system, or with a NUL: not a path that exists
            continue
    return value


def _tried(value: str, folder: Path) -> str:
    if Path(value).is_absolute():
        return f"{value!r}"
    places = f"neither in the working directory {Path.cwd()} nor in the config's folder {folder.resolve()}"
    return f"{value!r}, {places}"


def _notices(datasets: DatasetsConfig, places: Mapping[str, str], *, token: str) -> tuple[str, ...]:
    notices = []
    if datasets.test_ann_path:
        notices.append(
            f"{places['datasets.test_ann_path']}: datasets.test_ann_path is deprecated; it is used here in "
            "place of test_ann_path_asr and test_ann_path_aac. Name those two instead."
        )
    if token:
        notices.append(
            f"{places['model.token']}: model.token is written down in clear; put it into the environment "
            "variable HF_TOKEN instead."
        )
    return tuple(notices)


def _plain(
    model: Mapping[str, Any], generate: Mapping[str, Any], datasets: DatasetsConfig, run: RunConfig
) -> dict[str, Any]:
    """The four sections that the model knows; of the trainer's keys only those that were given."""
    run_values = {**run.model_dump(exclude=RunConfig.trainer_keys()), **run.model_dump(exclude_unset=True)}
    return {
        "model": dict(model),
        "generate": dict(generate),
        "datasets": datasets.model_dump(exclude_unset=True),
        "run": {key: value for key, value in run_values.items() if key not in _EVALUATOR_ONLY_RUN_KEYS},
    }


def _locate(places: Mapping[str, str], key: str, path: Path) -> str:
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        place = places.get(".".join(parts[:end]))
        if place is not None:
            return place
    return str(path)


def _add_model_problems(
    found: Iterable[tuple[str, str]], places: Mapping[str, str], problems: list[Problem], path: Path
) -> None:
    """Add the model's problems, but for keys that the evaluator has complained about already."""
    seen = {problem.where for problem in problems}
    for key, message in found:
        where = f"{_locate(places, key, path)}: {key}"
        if where not in seen:
            problems.append(Problem(where, message))


def _without(token: str, text: str) -> str:
    return mask_secrets(text.replace(token, "***") if len(token) >= 6 else text)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_secrets(value) if isinstance(value, str) else value
