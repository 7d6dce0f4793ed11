"""docs/docker/: linted, and held against the repository, because no daemon builds the images here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "docker"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, lines that go on joined."""
    text = re.sub(r"\\\n\s*", " ", (FOLDER / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_passes_hadolint() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install -e '.[dev]'")
    done = subprocess.run([linter, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_installs_what_is_pinned_and_runs_what_is_there() -> None:
    found = instructions()
    runs = " ".join(rest for word, rest in found if word == "RUN")
    (torch,) = re.findall(r"^torch==.*$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M)
    assert re.findall(r"torch==\S+", runs) == [torch]
    assert "-r requirements.txt" in runs
    (entry,) = [rest for word, rest in found if word == "ENTRYPOINT"]
    assert (ROOT / yaml.safe_load(entry)[1]).is_file()
    (base,) = [rest for word, rest in found if word == "FROM"]
    version = tuple(int(part) for part in re.findall(r"python:(\d+)\.(\d+)", base)[0])
    lowest, above = re.findall(r">=3\.(\d+),<3\.(\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[0]
    assert (3, int(lowest)) <= version < (3, int(above))


def test_the_compose_file_builds_that_dockerfile() -> None:
    services: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"cpu", "cuda"}
    arguments = {line.partition("=")[0] for word, line in instructions() if word == "ARG"}
    for service in services.values():
        build = service["build"]
        context = (FOLDER / build["context"]).resolve()
        assert context == ROOT
        assert (context / build["dockerfile"]).is_file()
        assert set(build.get("args", {})) <= arguments
        assert "cache:/cache" in service["volumes"]
    (device,) = services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in services["cpu"]
