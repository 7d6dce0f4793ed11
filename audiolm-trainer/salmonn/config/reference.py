"""The settings as a Markdown reference, made of the schema: its fields, their limits, and its docstrings.

In: sections of a configuration as pydantic models, whose docstrings have an "Attributes:" block. Out: a table for each.
The evaluator and the trainer stand alone, so each has this file; a test holds the two copies byte-identical.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_NAMES = {bool: "True, False", int: "whole number", float: "number", str: "text", list: "list", dict: "table"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def reference(sections: Mapping[str, type[BaseModel]]) -> str:
    """Describe sections: {"run": RunConfig} -> "### run" with its summary and a row for each key.

    Raises:
        ValueError: a field has no line in its class's docstring, or the docstring has a line of no field.
    """
    return "\n".join(line for name, section in sections.items() for line in _section_lines(name, section))


def _section_lines(name: str, section: type[BaseModel]) -> Iterator[str]:
    summary, meanings = _documented(section)
    nested = {key: field.annotation for key, field in section.model_fields.items() if _is_section(field)}
    if set(meanings) != set(section.model_fields) - set(nested):
        odd = set(meanings) ^ (set(section.model_fields) - set(nested))
        raise ValueError(f"{section.__name__}: no field, or no line in the docstring: {', '.join(sorted(odd))}")
    yield from (f"### {name}", "", summary, "", "| key | default | values | meaning |", "| --- | --- | --- | --- |")
    for key, field in section.model_fields.items():
        if key not in nested:
            cells = (f"`{key}`", _default(field), _values(field), meanings[key])
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
    yield ""
    for key, inner in nested.items():
        assert isinstance(inner, type)
        yield from _section_lines(f"{name}.{key}", inner)


def _documented(section: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """The text of a docstring before its attributes, on one line, and the attributes' meanings by name."""
    text, _, block = (inspect.getdoc(section) or "").partition("\nAttributes:\n")
    items = re.split(r"^ {4}(\w+): ", block, flags=re.MULTILINE)[1:]
    meanings = {key: " ".join(meaning.split()) for key, meaning in zip(items[::2], items[1::2], strict=True)}
    return " ".join(text.split()), meanings


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "must be given"
    default = field.default
    shown = default if isinstance(default, (bool, int, float, list, dict)) or default is None else str(default)
    return f"`{shown if not isinstance(shown, str) else chr(34) + shown.strip('*') + chr(34)}`"


def _values(field: FieldInfo) -> str:
    limits = [f"{sign} {getattr(rule, name)}" for rule in field.metadata for name, sign in _SIGNS.items()
              if getattr(rule, name, None) is not None]  # fmt: skip
    return " ".join([_kind(field.annotation), *limits])


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f'"{choice}"' for choice in get_args(annotation))
    if origin in (Union, UnionType):
        return ", ".join(_kind(part) for part in get_args(annotation) if part is not type(None))
    return _NAMES.get(origin or annotation, "text")


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
