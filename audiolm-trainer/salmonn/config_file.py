"""A YAML file with overrides, as a plain tree that still knows where every key was written.

In goes a path and the items of `--options`; out comes a `Document`: nested dicts, the line of each key,
and the problems that only the text shows (duplicate keys, overrides without a value). Numbers and booleans
follow YAML 1.2 (`3e-5` is a number, `no` is a word). What the keys mean is the business of config.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from salmonn.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
OPTIONS = "--options"
TABLES = ("task_weights",)
"""Keys whose value is a table of the user's own names, not a section: a null in it is a slip ({asr:2} for {asr: 2})."""


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema instead of YAML 1.1's."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own class attribute


_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
for _tag, _pattern, _first in _SCALARS:
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )


@dataclass(frozen=True, slots=True)
class Document:
    """What a configuration says and where.

    Attributes:
        path: the file, None for a mapping made in code.
        tree: nested dicts, overrides applied, keys set to null left out.
        lines: dotted key -> 1-based line in the file, 0 for a key that `--options` set.
        problems: (dotted key, message) of everything wrong with the text itself.
    """

    path: Path | None
    tree: dict[str, Any]
    lines: dict[str, int]
    problems: tuple[tuple[str, str], ...] = ()

    def locate(self, key: str) -> str:
        """Say where a dotted key was written: "config.yaml:12", "--options", or its section's line."""
        if key == OPTIONS:
            return OPTIONS
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        line = self.lines.get(key)
        if line == 0:
            return OPTIONS
        if self.path is None:
            return ""
        return str(self.path) if line is None else f"{self.path}:{line}"


def read_document(path: Path, options: Sequence[str] = ()) -> Document:
    """Read a YAML file and apply the overrides.

    Args:
        path: the YAML file.
        options: items "a.b=1", or pairs "a.b", "1"; values are YAML, null removes the key.

    Raises:
        ConfigError: the file cannot be read, is not YAML, is no mapping, too large, too deep or has aliases.
    """
    node = _compose(path, _read_text(path))
    lines: dict[str, int] = {}
    problems: list[tuple[str, str]] = []
    tree = _build(node, "", lines, problems)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no settings: sections such as model: and run: are expected")
    _apply_options(tree, lines, options, problems)
    return Document(path=path, tree=drop_nulls(tree), lines=lines, problems=tuple(problems))


def drop_nulls(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys whose value is None, for a null clears a key.

    Example:
        >>> drop_nulls({"a": None, "b": {"c": None, "d": 1}})
        {'b': {'d': 1}}
    """
    return {
        key: drop_nulls(value) if isinstance(value, dict) and key not in TABLES else value
        for key, value in tree.items()
        if value is not None
    }


def spread_options(arguments: Sequence[str]) -> list[str]:
    """Repeat the flag before each of its values, for command lines that write it once.

    Example:
        >>> spread_options(["--options", "a.b=1", "c=2", "--dryrun"])
        ['--options', 'a.b=1', '--options', 'c=2', '--dryrun']
    """
    spread: list[str] = []
    inside = False
    for argument in arguments:
        if argument.startswith("--"):
            inside = argument == OPTIONS
            spread += [] if inside else [argument]
        else:
            spread += [OPTIONS, argument] if inside else [argument]
    return spread


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"configuration not found: {path} is not a file")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes: this is not a configuration file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error


def _compose(path: Path, text: str) -> yaml.Node | None:
    """Parse to nodes, after a flat pass over the events that refuses what could explode."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_CoreLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{path}:{_line(event)}: aliases (*name) are not supported")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{path}:{_line(event)}: nested deeper than {MAX_DEPTH} levels")
        node: yaml.Node | None = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return node


def _build(node: yaml.Node | None, dotted: str, lines: dict[str, int], problems: list[tuple[str, str]]) -> object:
    """Turn nodes into dicts, lists and scalars; note the line of each key and every key written twice."""
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, f"{dotted}.{index}", lines, problems) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, dotted, problems)
    tree: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        name = f"{dotted}.{key}" if dotted else key
        line = _line(key_node)
        if key in tree:
            problems.append((name, f"is written twice, in line {lines[name]} and line {line}; remove one"))
            continue
        lines[name] = line
        tree[key] = _build(value_node, name, lines, problems)
    return tree


def _scalar(node: yaml.Node | None, dotted: str, problems: list[tuple[str, str]]) -> object:
    if node is None:
        return None
    loader = _CoreLoader("")
    try:
        return loader.construct_object(node)
    except yaml.YAMLError:
        problems.append((dotted, f"has the tag {node.tag}, which is not supported; write a plain value"))
        return None
    finally:
        loader.dispose()


def _line(part: yaml.Event | yaml.Node) -> int:
    return part.start_mark.line + 1 if part.start_mark else 0


def _apply_options(
    tree: dict[str, Any], lines: dict[str, int], options: Sequence[str], problems: list[tuple[str, str]]
) -> None:
    items = iter(options)
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            following = next(items, None)
            if following is None:
                problems.append((OPTIONS, f"{item} has no value; write {item}=VALUE"))
                return
            text = following
        try:
            value = _build(_compose(Path(OPTIONS), text), key, {}, problems)
        except ConfigError as error:
            problems.append((OPTIONS, f"{key}: {error}"))
            continue
        _assign(tree, lines, key, value, problems)


def _assign(
    tree: dict[str, Any], lines: dict[str, int], key: str, value: object, problems: list[tuple[str, str]]
) -> None:
    *sections, name = key.split(".")
    if not all([*sections, name]):
        problems.append((OPTIONS, f"{key!r} is no key; write SECTION.KEY=VALUE"))
        return
    place = tree
    for depth, section in enumerate(sections):
        if place.get(section) is None:
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            problems.append((OPTIONS, f"{key}: {'.'.join(sections[: depth + 1])} is a value, not a section"))
            return
    place[name] = value
    lines[key] = 0
