"""README.md and its Korean twin: the same commands and outputs, which exist; links and pictures of all pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("audiolm-trainer/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def code_lines(page: Path) -> list[str]:
    """The indented lines of a page without their comments, but for the tree of files, which one of the two has."""
    text = page.read_text(encoding="utf-8").partition("## What is where")[0]
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return [re.sub(r"\s+# .*", "", line).strip() for line in lines]


def anchors(page: Path) -> set[str]:
    """The ids that a Markdown renderer gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_both_readmes_show_the_same_commands_and_outputs() -> None:
    english = code_lines(ROOT / "README.md")
    assert code_lines(ROOT / "docs" / "README.ko.md") == english
    assert sum(line.startswith(("make ", "pip ", "python", "audiolm-evaluator ")) for line in english) >= 13


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_readme_names_every_wing_and_file_at_the_top() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    wings = {path.parent.name for path in (ROOT / "evaluator").glob("*/__init__.py")}
    missing = {wing for wing in wings if f"      {wing}/" not in text and f"   {wing}/" not in text}
    assert missing == set()
    wings = {path.parent.name for path in (ROOT / "audiolm-trainer" / "salmonn").glob("*/__init__.py")}
    trainer = (ROOT / "audiolm-trainer" / "README.md").read_text(encoding="utf-8")
    assert {wing for wing in wings if f"      {wing}/" not in trainer} == set()


def test_what_the_readme_calls_is_there() -> None:
    """Scripts, make targets and subcommands of the shown commands exist."""
    from evaluator.cli import main

    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for line in code_lines(ROOT / "README.md"):
        words = line.split()
        if words[:1] == ["make"]:
            assert words[1] in made
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).is_file() or (ROOT / "audiolm-trainer" / words[1]).is_file(), line
        elif words[:1] == ["audiolm-evaluator"]:
            assert words[1] in main.commands, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = page.parent / path if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_a_copied_configuration_finds_its_prompts() -> None:
    """The shipped files name others from their own folder, so that a copy has to lie beside them."""
    copies = [line.split() for line in code_lines(ROOT / "README.md") if line.startswith("cp ")]
    assert copies
    for _, source, target in copies:
        assert (ROOT / source).is_file()
        assert Path(source).parent == Path(target).parent
