"""Read a YAML file and its overrides as plain values that still know where every key was written.

The evaluator and the trainer share one configuration schema and stand alone, so each has this file; a test holds the
two copies byte-identical. Numbers are YAML 1.2's (3e-5 is a number; 1:30, 0777 and dates are text), with hexadecimal,
binary and `1_000`; booleans are also yes, no, on and off; anchors, aliases and merge keys work. All of that the
original's reader accepts. Tags and ${...} references are problems: only data is read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000
"""Nodes after aliases are expanded; shipped files have about 60."""
OPTIONS = "--options"

_PREFIX = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(f"{_PREFIX}{name}" for name in ("str", "int", "float", "bool", "null"))


class YamlProblem(NamedTuple):
    """One thing that is wrong: `where` is "config.yaml:12: run.device", `message` says what to do."""

    where: str
    message: str


class YamlError(ValueError):
    """A text that cannot be read at all; `problem` says where and why, without an excerpt: it may hold a token."""

    def __init__(self, where: str, message: str) -> None:
        self.problem = YamlProblem(where, message)
        super().__init__(f"{where}: {message}")


@dataclass(slots=True)
class Document:
    """What a configuration says and where.

    Attributes:
        path: the file; None for a configuration made in code.
        tree: nested dicts. A key whose value is None counts as not given.
        places: dotted key -> "config.yaml:12", or the flag that set it; items of a list are "key.0", "key.1".
        problems: what could be read around: duplicate keys, tags, overrides without a value.
    """

    path: Path | None
    tree: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)
    problems: list[YamlProblem] = field(default_factory=list)

    def locate(self, key: str) -> str:
        """Return where a dotted key was set: its own place, else its section's, else the file; "" without a file."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return "" if self.path is None else str(self.path)

    def label(self, key: str) -> str:
        """Return place and key for a message: "config.yaml:3: run.seed"; the key alone where there is no place."""
        place = self.locate(key)
        return f"{place}: {key}" if place and place != key else key

    def override(self, options: Sequence[str]) -> None:
        """Apply "a.b=1" items, or the pairs "a.b", "1"; values are read as `parse_value` reads them."""
        for key, text in _option_pairs(options, self.problems):
            try:
                self.assign(key, parse_value(text, f"{OPTIONS}: {key}"), OPTIONS)
            except YamlError as error:
                self.problems.append(error.problem)

    def assign(self, key: str, value: object, place: str) -> None:
        """Set a dotted key; sections that are not there are made."""
        *sections, name = key.split(".")
        where = f"{place}: {key}"
        if not sections or not all([*sections, name]):
            self.problems.append(YamlProblem(where, "expected SECTION.KEY=VALUE"))
            return
        target: Any = self.tree
        for depth, section in enumerate(sections, start=1):
            if target.get(section) is None:
                target[section] = {}
                self.places[".".join(sections[:depth])] = place
            target = target[section]
            if not isinstance(target, dict):
                above = ".".join(sections[:depth])
                self.problems.append(YamlProblem(where, f"{above} is a value, not a section; set {above} itself"))
                return
        target[name] = value
        self.places[key] = place


def read_document(path: Path, options: Sequence[str] = ()) -> Document:
    """Read a configuration file and apply the overrides.

    Args:
        path: a regular file, UTF-8, at most MAX_BYTES, a mapping at the top; an empty file is an empty mapping.
        options: "a.b=1" items, or pairs "a.b", "1".

    Raises:
        YamlError: the file cannot be read, is not YAML, is too large or too deep, or has no mapping at its top.
            Smaller problems are in the result, so that they can join the report on the values.
    """
    source = str(path)
    try:
        if not path.is_file():
            raise YamlError(source, "is a folder or a device, not a file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise YamlError(source, f"cannot be read: {error.strerror or error}") from error
    walker = _Walker(source)
    tree = walker.read(_decode(raw, source))
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise YamlError(source, "has no sections; expected keys such as model: and run: with values below them")
    document = Document(path=path, tree=tree, places=walker.places, problems=walker.problems)
    document.override(options)
    return document


def parse_value(text: str, source: str) -> Any:
    r"""Read the value of one override.

    What YAML reads as a number, a boolean or null is that, and an empty value is null; lists, mappings and quoted
    texts are recognised by their first character; everything else is the text as it stands, with \n for a line break.

    Example:
        "3e-5" -> 3e-05, "yes" -> True, "" -> None, "[a, b]" -> ["a", "b"], "USER: {}" -> "USER: {}"

    Args:
        text: what follows the "=".
        source: names the override in a problem.

    Raises:
        YamlError: a list, mapping or quoted text that is not valid YAML, or a ${...} reference.
    """
    if text[:1] in ("[", "{", '"', "'"):
        return _read_value(text, source)
    if "${" in text:
        raise YamlError(source, "references such as ${...} are not resolved; write the value itself")
    try:
        value = _read_value(text, source)
    except YamlError:
        value = text
    # What is no number, boolean or null for YAML is what was typed: "!x", "# 1" and "a: b" too.
    typed = isinstance(value, (int, float)) or text.strip().lower() in ("", "~", "null")
    return value if typed else _with_line_breaks(text)


def spread_values(arguments: Sequence[str], flag: str = OPTIONS) -> list[str]:
    """Repeat a flag before each of its values, the form that command-line parsers know.

    Example:
        ["--options", "a=1", "b=-2", "--mode", "x"] -> ["--options", "a=1", "--options", "b=-2", "--mode", "x"]

    An argument that looks like a flag ends the list; a negative number does not. A flag without any value comes last,
    so that the parser complains.
    """
    spread: list[str] = []
    inside = empty = bare = False
    for argument in arguments:
        if argument.startswith("-") and not argument[1:2].isdigit() and not argument.startswith("-."):
            bare = bare or empty
            inside = empty = argument == flag
            spread += [] if inside else [argument]
        else:
            spread += [flag, argument] if inside else [argument]
            empty = False
    # Last, where a parser cannot take the next flag for its value.
    return [*spread, flag] if bare or empty else spread


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 numbers, no dates, and a limit on nesting."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nests deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's table of plain scalars without its YAML 1.1 numbers and dates, with YAML 1.2's numbers."""
    replaced = {f"{_PREFIX}{name}" for name in ("int", "float", "timestamp", "value")}
    table = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in replaced]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    integer = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
    real = re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    )
    for first in "-+.0123456789":
        table[first] = [*table.get(first, []), (f"{_PREFIX}int", integer), (f"{_PREFIX}float", real)]
    return table


_Loader.yaml_implicit_resolvers = _resolvers()


class _Walker:
    """Turns YAML nodes into values; notes places and problems on the way."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[str, str] = {}
        self.problems: list[YamlProblem] = []
        self.nodes = 0

    def read(self, text: str) -> Any:
        """The value of a whole text; None for an empty one."""
        try:
            self.loader = _Loader(text)
            node = self.loader.get_single_node()
            return None if node is None else self.value(node, "", 1)
        except yaml.YAMLError as error:
            line, reason = _described(error)
            raise YamlError(f"{self.source}:{line}" if line else self.source, reason) from error

    def value(self, node: Node, dotted: str, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise yaml.YAMLError(f"holds more than {MAX_NODES} values or nests deeper than {MAX_DEPTH} levels")
        if isinstance(node, MappingNode) and node.tag == f"{_PREFIX}map":
            return self.mapping(node, dotted, depth)
        if isinstance(node, SequenceNode) and node.tag == f"{_PREFIX}seq":
            return [self.item(item, f"{dotted}.{index}", depth) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and node.tag in _PLAIN_TAGS:
            return self.scalar(node, dotted)
        tag = node.tag.replace(_PREFIX, "!!")
        return self.problem(node, dotted, f"the tag {tag} is not allowed; write a plain value")

    def item(self, node: Node, dotted: str, depth: int) -> Any:
        self.places[dotted] = self.place(node)
        return self.value(node, dotted, depth + 1)

    def scalar(self, node: ScalarNode, dotted: str) -> Any:
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError):  # "!!int abc", "!!bool abc", an int of more digits than Python converts
            return self.problem(node, dotted, "the value cannot be read as its type")
        if isinstance(value, str) and "${" in value:
            self.problem(node, dotted, "references such as ${...} are not resolved; write the value itself")
        return value

    def mapping(self, node: MappingNode, dotted: str, depth: int) -> dict[str, Any]:
        merge = f"{_PREFIX}merge"
        # Merged values first: a key that is written out wins, and its place too.
        merged = [self.merged(value, dotted, depth + 1) for key, value in node.value if key.tag == merge]
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == merge:
                continue
            if key_node.tag != f"{_PREFIX}str":
                self.problem(key_node, dotted, "a key must be text; put it in quotation marks")
                continue
            key = str(key_node.value)
            name = f"{dotted}.{key}" if dotted else key
            if key in result:
                first = self.places[name].rpartition(":")[2]
                self.problem(key_node, name, f"the key appears twice (first on line {first}); keep one")
                continue
            self.places[name] = self.place(key_node)
            result[key] = self.value(value_node, name, depth + 1)
        for base in merged:
            result = {**base, **result}
        return result

    def merged(self, node: Node, dotted: str, depth: int) -> dict[str, Any]:
        """What a merge key brings: one mapping, or several of which the first wins."""
        bases = node.value if isinstance(node, SequenceNode) else [node]
        result: dict[str, Any] = {}
        for base in bases:
            if not isinstance(base, MappingNode):
                self.problem(node, dotted, 'expected a mapping after the merge key "<<"')
                continue
            result = {**self.mapping(base, dotted, depth + 1), **result}
        return result

    def place(self, node: Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}"

    def problem(self, node: Node, dotted: str, message: str) -> None:
        self.problems.append(YamlProblem(self.place(node) + (f": {dotted}" if dotted else ""), message))


def _described(error: yaml.YAMLError) -> tuple[int | None, str]:
    """Line (1-based) and reason of a YAML error, without the excerpt."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        return (mark.line + 1 if mark else None), f"not valid YAML: {reason}"
    if isinstance(error, yaml.reader.ReaderError):
        return None, f"not valid YAML: a character that YAML forbids (at position {error.position})"
    return None, str(error)


def _decode(raw: bytes, source: str) -> str:
    if len(raw) > MAX_BYTES:
        raise YamlError(source, f"is larger than {MAX_BYTES // 1024} KiB: this is not a configuration file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise YamlError(f"{source}:{line}", f"is not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def _option_pairs(options: Sequence[str], problems: list[YamlProblem]) -> Iterable[tuple[str, str]]:
    """Split overrides into (key, value): all "a.b=1" when the first has a "=", else taken two by two."""
    if options and "=" in options[0]:
        for item in options:
            key, equals, value = item.partition("=")
            if equals:
                yield key, value
            else:
                problems.append(YamlProblem(OPTIONS, f'"{item}" has no value; write {item}=VALUE'))
        return
    if len(options) % 2:
        problems.append(YamlProblem(OPTIONS, f'"{options[-1]}" has no value; write {options[-1]}=VALUE'))
    yield from zip(options[::2], options[1::2], strict=False)


def _read_value(text: str, source: str) -> Any:
    walker = _Walker(source)
    try:
        value = walker.read(text)
    except YamlError as error:
        raise YamlError(source, error.problem.message) from error
    if walker.problems:
        raise YamlError(source, walker.problems[0].message)
    return value


def _with_line_breaks(text: str) -> str:
    # A shell hands on the two characters \n that people copy from a double-quoted text of the file.
    return text.replace("\\n", "\n")
