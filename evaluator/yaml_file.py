"""YAML for configurations: plain values with the line of every key, and every problem of the file at once.

In: the bytes of a file, or the value of one `--options a.b=VALUE`. Out: dictionaries, lists and scalars, and
where each dotted key stands. Numbers are read as YAML 1.2 does (3e-5 is a number, 1:30 and 0777 are not);
booleans also as yes/no/on/off, which files of the original may hold. Only data is read: no tags, no merge
keys, no ${...} references.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from evaluator.errors import ConfigError, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000
"""Nodes after aliases are expanded; shipped files have about 60."""

_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))
_MERGE_TAG = "tag:yaml.org,2002:merge"


class _TooDeep(yaml.YAMLError):
    """The document nests deeper than MAX_DEPTH."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 numbers, no dates, and a limit on nesting."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeep(f"nests deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's table of plain scalars without its YAML 1.1 numbers and dates, with YAML 1.2's numbers."""
    replaced = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp", "value")}
    table = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in replaced]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    integer = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$|0x[0-9a-fA-F]+$")
    real = re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    )
    for first in "-+.0123456789":
        numbers = [("tag:yaml.org,2002:int", integer), ("tag:yaml.org,2002:float", real)]
        table[first] = table.get(first, []) + numbers
    return table


_Loader.yaml_implicit_resolvers = _resolvers()


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What a YAML file says.

    Attributes:
        path: the file.
        data: the mapping at its top.
        lines: dotted key -> line, 1-based; items of a list are "key.0", "key.1".
        problems: what could be read around: duplicate keys, tags, keys that are not text.
    """

    path: Path
    data: dict[str, Any]
    lines: Mapping[str, int]
    problems: tuple[Problem, ...]


class _Walker:
    """Turns YAML nodes into values; notes lines and problems on the way."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.loader = loader
        self.source = source
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def problem(self, node: Node, dotted: str, message: str) -> None:
        where = f"{self.source}:{node.start_mark.line + 1}" + (f": {dotted}" if dotted else "")
        self.problems.append(Problem(where, message))

    def value(self, node: Node, dotted: str, depth: int = 1) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _TooDeep(f"holds more than {MAX_NODES} values or nests deeper than {MAX_DEPTH} levels")
        if isinstance(node, MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self.mapping(node, dotted, depth)
        if isinstance(node, SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.item(item, f"{dotted}.{index}", depth) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and node.tag in _PLAIN_TAGS:
            return self.scalar(node, dotted)
        self.problem(node, dotted, f"the tag {_short_tag(node.tag)} is not allowed; write a plain value")
        return None

    def item(self, node: Node, dotted: str, depth: int) -> Any:
        self.lines[dotted] = node.start_mark.line + 1
        return self.value(node, dotted, depth + 1)

    def scalar(self, node: ScalarNode, dotted: str) -> Any:
        try:
            value = self.loader.construct_object(node)
        except (
            ValueError,
            KeyError,
        ):  # "!!int abc", "!!bool abc", an int of more digits than Python converts
            self.problem(node, dotted, "the value cannot be read as its type")
            return None
        if isinstance(value, str) and "${" in value:
            self.problem(node, dotted, "references such as ${...} are not resolved; write the value itself")
        return value

    def mapping(self, node: MappingNode, dotted: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE_TAG:
                self.problem(key_node, dotted, 'merge keys ("<<") are not supported; write the keys out')
                continue
            if key_node.tag != "tag:yaml.org,2002:str":
                self.problem(key_node, dotted, "a key must be text; put it in quotation marks")
                continue
            key = str(key_node.value)
            name = f"{dotted}.{key}" if dotted else key
            if key in first_lines:
                message = f"the key appears twice (first on line {first_lines[key]}); keep one"
                self.problem(key_node, name, message)
                continue
            first_lines[key] = self.lines[name] = line
            result[key] = self.value(value_node, name, depth + 1)
        return result


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _described(error: yaml.YAMLError) -> tuple[int | None, str]:
    """Line (1-based) and reason of a YAML error, without the excerpt: the line may hold a token."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        return (mark.line + 1 if mark else None), f"not valid YAML: {reason}"
    if isinstance(error, yaml.reader.ReaderError):
        return None, f"not valid YAML: a character that YAML forbids (at position {error.position})"
    return None, str(error)


def _decode(raw: bytes, source: str) -> str:
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{source} is larger than {MAX_BYTES // 1024} KiB: this is not a configuration file.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        where = f"{source}:{line}"
        raise ConfigError("The configuration file is not UTF-8 text.", [Problem(where, error.reason)]) from error


def read_yaml(path: Path) -> YamlFile:
    """Read a configuration file.

    Args:
        path: a regular file, UTF-8, at most MAX_BYTES, a mapping at the top.

    Raises:
        ConfigError: the file cannot be read, is not YAML, is too large or too deep, or has no mapping at its
            top. Smaller problems are in the result, so that they can join the report on the values.
    """
    source = str(path)
    try:
        if not path.is_file():
            reason = "is a folder or a device, not a file" if path.exists() else "does not exist"
            raise ConfigError(f"The configuration file {source} {reason}.")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"The configuration file {source} cannot be read: {error}.") from error
    loader_input = _decode(raw, source)
    try:
        loader = _Loader(loader_input)
        node = loader.get_single_node()
        walker = _Walker(loader, source)
        data = walker.value(node, "") if node is not None else {}
    except yaml.YAMLError as error:
        line, reason = _described(error)
        where = f"{source}:{line}" if line else source
        raise ConfigError("The configuration file cannot be read.", [Problem(where, reason)]) from error
    if not isinstance(data, dict):
        raise ConfigError(f"The configuration file {source} has no sections: expected model, generate, datasets, run.")
    return YamlFile(path=path, data=data, lines=walker.lines, problems=tuple(walker.problems))


def parse_value(text: str, source: str) -> Any:
    """Read the value of one option: "3e-5" -> 3e-05, "true" -> True, "null" -> None, "[a, b]" -> ["a", "b"].

    What YAML reads as a number, a boolean or null is that; lists, mappings and quoted texts are recognised by
    their first character; everything else is the text as it stands ("USER: {}", "...", "-", "").

    Args:
        text: what follows the "=".
        source: names the option in a problem.

    Raises:
        ConfigError: a list, mapping or quoted text that is not valid YAML, or a ${...} reference.
    """
    structured = text[:1] in ("[", "{", '"', "'")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        walker = _Walker(loader, source)
        value = walker.value(node, "") if node is not None else text
    except yaml.YAMLError as error:
        if not structured:
            return text
        raise ConfigError("An option cannot be read.", [Problem(source, _described(error)[1])]) from error
    if walker.problems and (structured or isinstance(value, str)):
        raise ConfigError("An option cannot be read.", [Problem(source, p.message) for p in walker.problems])
    if not structured and isinstance(value, (str, dict, list)):
        return text
    return value
