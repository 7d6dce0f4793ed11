"""The site of docs/ builds without a warning, has every page, and asks nothing of another server."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", "docs/site/mkdocs.yml", "-d", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site_and_in_the_list_of_pages(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in site.glob("*.html")}
    listed = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert {page for page in pages - {"index"} if f"({page}.md)" not in listed} == set()


def test_links_out_of_docs_lead_to_copies(site: Path) -> None:
    assert (site / "repository" / "README.md.txt").read_bytes() == (ROOT / "README.md").read_bytes()
    assert 'href="repository/README.md.txt"' in (site / "index.html").read_text(encoding="utf-8")


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="?([^" >]+)', text)
        loaded += re.findall(r'<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]* href="?([^" >]+)', text)
        assert [address for address in loaded if "//" in address] == [], page.name
