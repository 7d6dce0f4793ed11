"""What can be configured: the YAML file and --options in, one checked Config out.

The schema is the original's (sections model, generate, datasets, run) plus `scoring`. The evaluator checks
datasets, run and scoring; model and generate belong to the model and pass through, with their paths resolved:
a relative path is tried against the working directory, then against the file's own folder. Every problem
comes in one ConfigError.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from evaluator.config.sections import (
    SECTIONS,
    DatasetsConfig,
    RunConfig,
    ScoringConfig,
    check_section,
    take_foreign,
)
from evaluator.config.yaml import Document, YamlError, read_document
from evaluator.errors import ConfigError, Problem
from evaluator.redaction import Redactor, mask_secrets
from evaluator.tasks import Task
from evaluator.wording import counted, did_you_mean

CheckExtra = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]

_MODEL_PATH_KEYS = frozenset({"ckpt", "speech_llama_proj_model"})


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
        foreign: keys of datasets and run that the evaluator does not know, by section: the model's own.
        notices: sentences the user should see once (deprecated keys, keys that nobody checks).
        token: the file's model.token; None where there is none, or the environment variable HF_TOKEN is set.
    """

    path: Path
    model: dict[str, Any]
    generate: dict[str, Any]
    datasets: DatasetsConfig
    run: RunConfig
    scoring: ScoringConfig
    foreign: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"datasets": {}, "run": {}})
    notices: tuple[str, ...] = ()
    token: SecretStr | None = None
    _document: Document = field(default_factory=lambda: Document(None, {}), repr=False)

    def annotation_path(self, task: Task) -> Path:
        """The annotation file of a task; the deprecated datasets.test_ann_path wins where it is given.

        Raises:
            ConfigError: no file is named, or the named one does not exist.
        """
        value, problems = _annotation(self.datasets, task, self._document, self.path.parent)
        if problems:
            title = "The annotation file is missing." if value else "No annotation file is configured."
            raise ConfigError(title, problems)
        return Path(value)

    def mapping(self) -> dict[str, Any]:
        """The plain sections model, generate, datasets, run for the model's `load_model`.

        Holds the token when the file has one: hand it on, never print or store it. Keys that are the evaluator's
        alone (`RunConfig.EVALUATOR_ONLY`, scoring) are left out.
        """
        token = {"token": self.secret} if self.token else {}
        return _plain({**self.model, **token}, self.generate, self.datasets, self.run, self.foreign)

    def public(self) -> dict[str, Any]:
        """The whole configuration without secrets, ready for JSON: what run.json records."""
        sections = _plain(self.model, self.generate, self.datasets, self.run, self.foreign)
        sections["run"].update(self.run.model_dump(include=set(RunConfig.EVALUATOR_ONLY)))
        masked: dict[str, Any] = _masked({**sections, "scoring": self.scoring.model_dump()})
        return masked

    @property
    def secret(self) -> str:
        """The token in clear, to be masked wherever it turns up; "" where there is none."""
        return self.token.get_secret_value() if self.token is not None else ""

    def on_device(self, device: str) -> "Config":
        """The same configuration with another run.device."""
        return replace(self, run=self.run.model_copy(update={"device": device}))

    def locate(self, key: str) -> str:
        """Where a dotted key was set: "config.yaml:12", "--options", "--device".

        A key that is not there has its section's line.
        """
        return self._document.locate(key)


def load_config(
    path: Path,
    options: Sequence[str] = (),
    *,
    device: str | None = None,
    output_dir: str | None = None,
    check_extra: CheckExtra | None = None,
    task: Task | None = None,
) -> Config:
    """Read, override, resolve and check a configuration.

    Args:
        path: the YAML file.
        options: "a.b=1" items, or pairs "a.b", "1"; values are YAML, null clears the key.
        device: overrides run.device.
        output_dir: overrides run.output_dir.
        check_extra: the model package's `check_config`: asked about {"model", "generate", "datasets", "run"} (plain,
            paths resolved, without the token); yields (dotted key, what is wrong), which joins the same report. It
            judges what the evaluator does not know in datasets and run; None: a notice names those keys.
        task: what will be run: where the configuration has problems, annotation and audio folder that are missing are
            told with them.

    Raises:
        ConfigError: with every problem found, each with file and line, key, and the nearest key there is.
    """
    document = _read(path, options)
    for key, value in (("device", device), ("output_dir", output_dir)):
        if value is not None:
            document.assign(f"run.{key}", value, "--" + key.replace("_", "-"))
    problems = [Problem(*problem) for problem in document.problems]
    data = _sections(document, problems)
    token = _take_token(data["model"], document, problems)
    _resolve_paths(data, path.parent)
    foreign = {
        name: take_foreign(kind, data[name]) for name, kind in (("datasets", DatasetsConfig), ("run", RunConfig))
    }
    datasets = check_section(DatasetsConfig, "datasets", data, document, problems)
    run = check_section(RunConfig, "run", data, document, problems)
    scoring = check_section(ScoringConfig, "scoring", data, document, problems)
    sections = _plain(data["model"], data["generate"], datasets, run, foreign)
    extra = check_extra(sections) if check_extra else ()
    _add_model_problems(extra, document, problems)
    if problems and task is not None:
        problems += _annotation(datasets, task, document, path.parent)[1]
    if problems:
        redact = Redactor()
        redact.add(token)
        found = [Problem(redact(problem.where), redact(problem.message)) for problem in problems]
        raise ConfigError(f"The configuration {path} has {counted(found)}:", found)
    notices = _notices(datasets, document, token=token)
    if check_extra is None:
        notices += _unjudged(foreign, document)
    return Config(
        path=path,
        model=data["model"],
        generate=data["generate"],
        datasets=datasets,
        run=run,
        scoring=scoring,
        foreign=foreign,
        notices=notices,
        token=SecretStr(token) if token and not os.environ.get("HF_TOKEN") else None,
        _document=document,
    )


def _annotation(datasets: DatasetsConfig, task: Task, document: Document, folder: Path) -> tuple[str, list[Problem]]:
    """The annotation file of a task, and what is missing: the file, and with it the folder of the audio."""
    key = "test_ann_path" if datasets.test_ann_path else f"test_ann_path_{task.name}"
    value = str(getattr(datasets, key))
    label = document.label(f"datasets.{key}")
    if not value:
        return value, [Problem(label, f"name the annotation JSON of {task.title} here")]
    if Path(value).exists():
        return value, []
    problems = [Problem(label, f"there is no file {_tried(value, folder)}")]
    if datasets.prefix and not Path(datasets.prefix).exists():
        message = f"there is no folder {_tried(datasets.prefix, folder)}"
        problems.append(Problem(document.label("datasets.prefix"), message))
    return value, problems


def _read(path: Path, options: Sequence[str]) -> Document:
    try:
        return read_document(path, options)
    except YamlError as error:
        raise ConfigError("The configuration file cannot be read.", [Problem(*error.problem)]) from error


def _sections(document: Document, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """The five sections as dictionaries; absent or empty ones are empty."""
    result: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for name, value in document.tree.items():
        where = document.label(name)
        if name not in SECTIONS:
            problems.append(Problem(where, f"unknown section; {did_you_mean(name, SECTIONS)}"))
        elif isinstance(value, dict):
            result[name] = dict(value)
        elif value is not None:
            problems.append(Problem(where, "expected keys with values, indented below the section's name"))
    return result


def _take_token(model: dict[str, Any], document: Document, problems: list[Problem]) -> str:
    """Take the token out, so that nothing downstream can show it; "None" is how the original writes null."""
    token = model.pop("token", None)
    if token is None or token == "None":
        return ""
    if not isinstance(token, str):
        problems.append(Problem(document.label("model.token"), "expected a text"))
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


def _notices(datasets: DatasetsConfig, document: Document, *, token: str) -> tuple[str, ...]:
    notices = []
    if datasets.test_ann_path:
        notices.append(
            f"{document.locate('datasets.test_ann_path')}: datasets.test_ann_path is deprecated; it is used here in "
            "place of test_ann_path_asr and test_ann_path_aac. Name those two instead."
        )
    if token:
        notices.append(
            f"{document.locate('model.token')}: model.token is written down in clear; put it into the environment "
            "variable HF_TOKEN instead."
        )
    return tuple(notices)


def _unjudged(foreign: Mapping[str, Mapping[str, Any]], document: Document) -> tuple[str, ...]:
    """A sentence about the keys that nobody has checked, for a model package that offers no `check_config`."""
    keys = [f"{name}.{key}" for name, values in foreign.items() for key in values]
    if not keys:
        return ()
    return (f"{document.path}: the evaluator does not know {', '.join(keys)}; the model package gets them unchecked.",)


def _plain(
    model: Mapping[str, Any],
    generate: Mapping[str, Any],
    datasets: DatasetsConfig,
    run: RunConfig,
    foreign: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The four sections that the model package knows."""
    return {
        "model": dict(model),
        "generate": dict(generate),
        "datasets": {**datasets.model_dump(exclude_unset=True), **foreign["datasets"]},
        "run": {**run.model_dump(exclude=set(RunConfig.EVALUATOR_ONLY)), **foreign["run"]},
    }


def _add_model_problems(found: Iterable[tuple[str, str]], document: Document, problems: list[Problem]) -> None:
    """Add the model's problems, but for keys that the evaluator has complained about already."""
    seen = {problem.where for problem in problems}
    for key, message in found:
        where = document.label(key)
        if where not in seen:
            problems.append(Problem(where, message))


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_secrets(value) if isinstance(value, str) else value
