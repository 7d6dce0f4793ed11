"""Virtual environments for tests, made in a moment: links to packages that are installed here, and no others."""

import importlib.metadata
import re
import venv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+")


def make_environment(folder: Path, names: Iterable[str]) -> Path:
    """An environment with these distributions and this checkout; returns its folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = packages(folder)
    for name in names:
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts and not (site / file).exists():
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(Path(str(file.locate())).resolve())
    (site / "checkout.pth").write_text(f"{ROOT}\n")
    return folder


def packages(folder: Path) -> Path:
    """Where an environment's packages are."""
    (site,) = folder.glob("lib/python*/site-packages")
    return site


def closure(name: str, extra: str | None = None) -> set[str]:
    """A distribution with an extra, and all that it needs that is installed here."""
    found: set[str] = set()
    waiting = [(name, extra)]
    while waiting:
        each, wanted = waiting.pop()
        for requirement in importlib.metadata.requires(each) or ():
            needed, _, marker = requirement.partition(";")
            match = REQUIREMENT.match(needed)
            assert match is not None
            if ("extra ==" in marker and f'"{wanted}"' not in marker) or match.group() in found:
                continue
            try:
                importlib.metadata.distribution(match.group())
            except importlib.metadata.PackageNotFoundError:
                continue
            found.add(match.group())
            waiting.append((match.group(), None))
    return found
