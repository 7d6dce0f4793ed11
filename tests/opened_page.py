"""A report's page for tests: opened in a browser, looked at by axe-core, read as its scripts read it."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def opened(browser: Any, path: Path, trouble: list[str], **settings: Any) -> Any:
    """Open a page from disk; what it asks for, says on its console or fails with is put into `trouble`."""
    page = browser.new_page(**settings)
    page.on("console", lambda said: trouble.append(said.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "blob:")) else trouble.append(asked.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached", timeout=30_000)
    return page


def axe(page: Any) -> list[str]:
    """What axe-core finds wrong by WCAG 2.2 A and AA, contrast included."""
    # Evaluated by the browser itself, which the page's policy does not hold back.
    page.evaluate((ROOT / "tests" / "vendor" / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
        ".then((told) => told.violations)"
    )
    return [f"{each['id']}: {each['nodes'][0]['html'][:300]} {each['nodes'][0]['failureSummary']}" for each in found]


def rows_of(page: str) -> list[dict[str, Any]]:
    """The rows of the table, as the scripts read them."""
    blocks = dict(re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', page, re.DOTALL))
    columns = json.loads(blocks["facts"])["columns"]
    return [dict(zip(columns, row, strict=True)) for row in json.loads(blocks["rows"])]
