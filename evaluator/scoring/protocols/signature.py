"""The signature of a score: one line of key:value fields that says how it was computed, and with which versions.

In: what a protocol and a set say of themselves. Out: "protocol:ko-cer|norm:nfc+basic+marks|...|rows:100|jiwer:4.0.0|
version:0.1.0" on one line, and back.
Two scores compare if their signatures are equal.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata

from evaluator.errors import ConfigError, Problem
from evaluator.wording import shown

VERSION = "version"
"""The field of the evaluator's own version, always the last one."""
_DISTRIBUTION = "audiolm-evaluator"
_FIELD = re.compile(r"([a-z][a-z0-9-]*):([^|:\s]+)")


@dataclass(frozen=True, slots=True)
class Signature:
    """Fields in their order; `str()` is the line.

    Attributes:
        fields: (key, value) pairs, each key once.
    """

    fields: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return "|".join(f"{key}:{value}" for key, value in self.fields)

    def __bool__(self) -> bool:
        return bool(self.fields)

    def get(self, key: str) -> str | None:
        """The value of a field, None where there is none."""
        return dict(self.fields).get(key)

    def extended(self, further: Mapping[str, str]) -> "Signature":
        """The signature with further fields, put before the evaluator's version.

        Example:
            "protocol:basic|version:0.1.0" with {"seed": "1"} -> "protocol:basic|seed:1|version:0.1.0"
        """
        own = [field for field in self.fields if field[0] == VERSION]
        others = [field for field in self.fields if field[0] != VERSION and field[0] not in further]
        return Signature((*others, *further.items(), *own))


def sign(fields: Iterable[tuple[str, str]], packages: Iterable[str]) -> Signature:
    """Make a signature of fields, of the installed versions of packages and of the evaluator's.

    Raises:
        PackageNotFoundError: a package is not installed.
    """
    versions = [(name, metadata.version(name)) for name in packages]
    return Signature((*fields, *versions, (VERSION, evaluator_version())))


def evaluator_version() -> str:
    """The evaluator's version; "unknown" where only its files are there."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def parse_signature(text: str) -> Signature:
    """Read a signature as it is printed.

    Raises:
        ConfigError: it is none; every wrong field is named.
    """
    fields: dict[str, str] = {}
    problems: list[Problem] = []
    for number, part in enumerate(text.strip().split("|"), start=1):
        match = _FIELD.fullmatch(part)
        if match is None:
            problems.append(Problem(f"field {number}", f"expected key:value, found {shown(part)}"))
        elif match[1] in fields:
            problems.append(Problem(f"field {number}", f"{match[1]} is given twice"))
        else:
            fields[match[1]] = match[2]
    if not problems and "protocol" not in fields:
        problems.append(Problem("", "there is no field protocol:..."))
    if problems:
        raise ConfigError(f"This is no signature of a score: {shown(text, 200)}", problems)
    return Signature(tuple(fields.items()))
