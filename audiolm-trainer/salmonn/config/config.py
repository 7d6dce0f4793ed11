"""Read and check a configuration of the SALMONN YAML schema.

A YAML file with `--options`, or a plain mapping, becomes a frozen `Config` with absolute paths, or one `ConfigError`
that lists every problem with its file, line and dotted key and names the key that was probably meant. A relative path
means the working directory first, then the configuration's folder.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_origin

from pydantic import BaseModel, ValidationError

from salmonn.config.choices import choice_problems
from salmonn.config.paths import Purpose, path_problems, resolve_paths
from salmonn.config.schema import Config, GenerateConfig
from salmonn.config.yaml import Document, YamlError, read_document
from salmonn.errors import ConfigError
from salmonn.wording import counted, did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SECTIONS = ("model", "generate", "datasets", "run")
EVALUATOR_SECTIONS = ("scoring",)
EVALUATOR_KEYS = frozenset(
    {"on_audio_error", "empty_text", "latency_clips", "report", "clip_timeout_s", "max_failures"}
)
"""Keys of `run` that only the evaluator reads; a file for both programs may have them."""
_LONGEST_ANSWER: int = GenerateConfig.model_fields["max_new_tokens"].default


def load_config(path: Path, options: Sequence[str] = (), *, purpose: Purpose = "evaluate") -> Config:
    """Read a YAML file.

    Args:
        path: the YAML file.
        options: overrides "a.b=1", or pairs "a.b", "1".
        purpose: what the configuration is for; see `Purpose`.

    Raises:
        ConfigError: anything is wrong; every problem is listed with file and line.
    """
    return _build_config(open_document(path, options), path.resolve().parent, purpose)


def open_document(path: Path, options: Sequence[str] = ()) -> Document:
    """Read a YAML file and its overrides without judging what they say.

    Raises:
        ConfigError: the file cannot be read, is not YAML or has no mapping at its top.
    """
    try:
        return read_document(path, options)
    except YamlError as error:
        raise ConfigError(f"the configuration {error}") from error


def from_mapping(mapping: Mapping[str, Any], folder: Path | None = None, *, purpose: Purpose = "evaluate") -> Config:
    """Build a configuration from nested mappings.

    Args:
        mapping: {"model": {...}, "generate": {...}, "datasets": {...}, "run": {...}}, all but model optional.
        folder: where relative paths are looked for after the working directory.
        purpose: what the configuration is for; see `Purpose`.

    Raises:
        ConfigError: anything is wrong; every problem is listed.
    """
    return _build_config(Document(path=None, tree=_plain(mapping)), folder, purpose)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Lay nested sections out flat: {"run": {"seed": 1}} -> {"run.seed": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def find_problems(
    mapping: Mapping[str, Any], folder: Path | None = None, *, purpose: Purpose = "evaluate"
) -> list[tuple[str, str]]:
    """List everything wrong with a configuration as (dotted key, message), without loading anything.

    Example:
        >>> find_problems({"model": {"llama_path": "/none", "whisper_path": "/none"}})[0][0]
        'model.llama_path'
    """
    tree = _own_part(_plain(mapping))
    problems = [*_section_problems(tree), *_schema_problems(tree)]
    problems += choice_problems(tree, purpose, longest=_LONGEST_ANSWER)
    problems += path_problems(resolve_paths(tree, folder), folder, purpose)
    return list(dict.fromkeys(problems))


def _build_config(document: Document, folder: Path | None, purpose: Purpose) -> Config:
    located: list[tuple[str, str]] = [*document.problems]
    located += [(document.label(key), text) for key, text in find_problems(document.tree, folder, purpose=purpose)]
    if not located:
        return Config.model_validate(_known(resolve_paths(_own_part(document.tree), folder)))
    raise ConfigError(f"the configuration has {counted(len(located), 'problem')}", located)


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested mappings into dicts, so that nothing here changes the caller's."""
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}


def _own_part(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only the evaluator reads."""
    own = {key: value for key, value in tree.items() if key not in EVALUATOR_SECTIONS and value is not None}
    if isinstance(own.get("run"), dict):
        own["run"] = {key: value for key, value in own["run"].items() if key not in EVALUATOR_KEYS}
    return own


def _known(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of the schema, without keys whose value is null: they have their defaults."""
    return without_nulls({key: tree[key] for key in SECTIONS if key in tree}, Config)


def without_nulls(values: Mapping[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    """Leave out what is not given: the known keys, nested ones too, whose value is None.

    An unknown key stays: it is wrong with any value.
    """
    kept: dict[str, Any] = {}
    for key, value in values.items():
        known = section.model_fields.get(key)
        kind = known.annotation if known else None
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            kept[key] = without_nulls(value, kind)
        elif value is not None or known is None:
            kept[key] = value
    return kept


def _section_problems(tree: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Sections that are misspelt (others are some other program's) or are values instead of sections."""
    if "model" not in tree:
        yield "model", "the section is missing"
    for key, value in tree.items():
        if key in SECTIONS and not isinstance(value, dict):
            yield key, "is a section: its keys belong indented under it"
        meant = did_you_mean(key, SECTIONS)
        if key not in SECTIONS and meant:
            yield key, f"is no section{meant}"


def _schema_problems(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = _known({key: value for key, value in tree.items() if isinstance(value, dict)})
    if "model" not in known:
        known["model"] = {"llama_path": "-", "whisper_path": "-"}
    try:
        Config.model_validate(known)
    except ValidationError as error:
        # A setting of several types has one error for each of them.
        by_key: dict[tuple[str, ...], list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            by_key.setdefault(_key_path(detail["loc"]), []).append(detail)
        return [_describe(path, details) for path, details in by_key.items()]
    return []


def _key_path(location: Sequence[int | str]) -> tuple[str, ...]:
    """The part of a pydantic location that names keys: behind a setting of several types stands a type's name."""
    section: type[BaseModel] = Config
    for depth, part in enumerate(location, start=1):
        field = section.model_fields.get(str(part))
        if field is None:
            break
        if get_origin(field.annotation) in (Union, UnionType):
            location = location[:depth]
            break
        if not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        section = field.annotation
    return tuple(str(part) for part in location)


def _describe(path: tuple[str, ...], details: "Sequence[ErrorDetails]") -> tuple[str, str]:
    key = ".".join(path)
    kind, value = details[0]["type"], details[0]["input"]
    if kind == "missing":
        return key, "is missing"
    if kind == "extra_forbidden":
        return key, "is not a setting" + did_you_mean(path[-1], _keys_of(path[:-1]))
    message = ", or ".join(f"{detail['msg'][:1].lower()}{detail['msg'][1:]}" for detail in details)
    shown = "" if path[-1] == "token" else f" (found {value!r})"
    return key, f"{message}{shown}"


def _keys_of(location: tuple[str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        annotation = section.model_fields[part].annotation
        assert isinstance(annotation, type)
        section = annotation
    return [*section.model_fields, *(EVALUATOR_KEYS if location == ("run",) else ())]
