"""docs/troubleshooting.md: every message that it explains is one that the code can say."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
ROW = re.compile(r"^\| `([^`]+)` \|", re.M)
MESSAGES = ROW.findall(PAGE.read_text(encoding="utf-8"))


@cache
def spoken() -> dict[str, list[str]]:
    """Each source file -> its strings; a value that a string has a place for is a NUL."""
    found = {}
    for folder in (ROOT / "evaluator", ROOT / "audiolm-trainer" / "salmonn"):
        for path in folder.rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[str(path)] = [text for node in ast.walk(tree) if (text := said(node))]
    return found


def said(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def parts(message: str) -> list[str]:
    """The words between the places for values."""
    return [part for part in (part.strip(" :;,.()") for part in message.split("...")) if part]


def files_that_say(words: list[str]) -> set[str]:
    """The files in whose strings all of these words are, each in one string."""
    return {path for path, texts in spoken().items() if all(any(word in text for text in texts) for word in words)}


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_says_it(message: str) -> None:
    words = parts(message)
    assert max(map(len, words)) >= 10, "too short to be told from others"
    assert files_that_say(words) != set()


def test_the_page_has_many_and_none_twice() -> None:
    assert len(MESSAGES) >= 40
    assert len(set(MESSAGES)) == len(MESSAGES)


def test_what_no_code_says_is_noticed() -> None:
    assert files_that_say(parts("path: ... does not exist at all.")) == set()
