"""Where the model's class is in a checkout of the original trainer's layout, and importing it.

In: PATH or PATH:module.Class. Out: the file, the folder that its imports start from, and the class. The class is known
by its methods `encode_speech` and `prompt_wrap`, wherever below PATH a folder `models` lies; finding it runs nothing.
"""

import ast
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.errors import ConfigError, Problem
from evaluator.wording import named

_METHODS = {"encode_speech", "prompt_wrap"}
_DEEPEST = 4
_PASSED_OVER = {"build", "dist", "node_modules", "site-packages", "venv", "env"}
_CLASS = re.compile(r"(?P<path>.+):(?P<module>[A-Za-z_][\w.]*)\.(?P<name>[A-Za-z_]\w*)\Z")
PACKAGE, MODULE, CLASS = "models", "salmonn", "SALMONN"
# Dotted name -> the module that was imported, and the digest of its files then.
_IMPORTED: dict[str, tuple[Any, str]] = {}


@dataclass(frozen=True, slots=True)
class ForkClass:
    """A class in a checkout.

    Attributes:
        root: the folder that the checkout's own imports start from.
        module: dotted, from there: "models.salmonn".
        name: of the class.
        file: where it is.
    """

    root: Path
    module: str
    name: str
    file: Path

    def sources(self) -> list[Path]:
        """All Python files beside the class, in the order of their names."""
        return sorted(self.file.parent.rglob("*.py"))

    def digest(self) -> str:
        """Tells the code of this checkout from other code."""
        return hashlib.sha256(b"".join(file.read_bytes() for file in self.sources())).hexdigest()

    def load(self) -> Any:
        """Import the class.

        The checkout's folder is first on the path while it is imported, as its scripts have it, and last afterwards,
        behind what the checkout itself put there: its `utils` and `config` must not stand in the way of others'.

        Raises:
            ConfigError: another package of the same name has been imported already, or this one with other files, or
                the module lacks the class.
        """
        before = list(sys.path)
        package = self.module.partition(".")[0]
        loaded = sys.modules.get(package)
        if loaded is not None and not _is_below(loaded, self.root):
            raise _wrong(self.file, f"a Python package {package} of another place has been imported already")
        sys.path.insert(0, str(self.root))
        try:
            importlib.invalidate_caches()
            module = importlib.import_module(self.module)
        finally:
            added = [path for path in sys.path if path not in before and path != str(self.root)]
            sys.path[:] = [*before, *added, str(self.root)]
        known, digest = _IMPORTED.get(self.module, (None, ""))
        if known is module and digest != self.digest():
            raise _wrong(self.file, "has changed since it was imported, and this Python has the code of before")
        _IMPORTED[self.module] = (module, self.digest())
        found = getattr(module, self.name, None)
        if not callable(getattr(found, "from_config", None)):
            raise _wrong(self.file, f"{self.name} has no from_config, which loads the model of a configuration")
        return found


def find_class(typed: str) -> ForkClass:
    """Find the class that was meant.

    Args:
        typed: PATH, or PATH:module.Class.

    Raises:
        ConfigError: there is none, or more than one.

    Example:
        "fork" -> fork/audiolm-trainer/models/salmonn.py; "fork:models.salmonn_gemma2.SALMONN" -> the one that is named
    """
    asked = None if Path(typed).exists() else _CLASS.match(typed)
    path = Path(asked["path"] if asked else typed).expanduser().absolute()
    if not path.exists():
        raise _wrong(path, "does not exist")
    found = [each for file in _files(path) for each in _classes(file)]
    if asked:
        wanted = f".{asked['module']}.{asked['name']}"
        found = [each for each in found if f".{each.module}.{each.name}".endswith(wanted)]
    # The original's name wins over variants beside it, not over another checkout's.
    plain = [each for each in found if (each.file.stem, each.name) == (MODULE, CLASS)]
    chosen = plain if len(plain) == 1 and len({each.root for each in found}) == 1 else found
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        expected = f"{asked['module']}.{asked['name']}" if asked else "a class with encode_speech and prompt_wrap"
        raise _wrong(path, f"there is no {expected} in a folder {PACKAGE} below it")
    several = named([f"{os.path.relpath(each.root, path)}: {each.module}.{each.name}" for each in chosen])
    raise _wrong(path, f"there are {len(chosen)} models ({several}); name one: --trainer PATH:module.Class")


def _files(path: Path) -> Iterator[Path]:
    """Python files in folders called `models` at or below a path; a file is itself."""
    if path.is_file():
        yield path
        return
    for folder, inner, files in os.walk(path):
        here = Path(folder)
        depth = len(here.relative_to(path).parts)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _PASSED_OVER)
        if depth >= _DEEPEST:
            inner.clear()
        if here.name == PACKAGE:
            yield from (here / name for name in sorted(files) if name.endswith(".py"))


def _classes(file: Path) -> Iterator[ForkClass]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            if methods >= _METHODS:
                inside = file.parent.name == PACKAGE
                root = file.parent.parent if inside else file.parent
                yield ForkClass(root, f"{PACKAGE}.{file.stem}" if inside else file.stem, node.name, file)


def _is_below(module: Any, root: Path) -> bool:
    places = [*getattr(module, "__path__", []), getattr(module, "__file__", None) or ""]
    return any(Path(place).is_relative_to(root) for place in places if place)


def _wrong(path: Path, message: str) -> ConfigError:
    return ConfigError("The trainer's model cannot be found.", [Problem(f"--trainer {path}", message)])
