"""Fixtures of the evaluator's tests."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluator.scoring.spice_files import CORENLP_JAR, SMALL_MODELS_JAR, installed_folder

# Nothing is taken from, or left in, the cache of whoever runs the tests; inherited by the commands that tests run.
os.environ["AUDIOLM_CAPTION_CACHE"] = "off"

# Whoever starts the tests in the background may ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def reference() -> Path:
    """A complete SALMONN in miniature, and what the original implementation computes with it."""
    return ROOT / "audiolm-trainer" / "tests" / "reference" / "salmonn-tiny"


@pytest.fixture(scope="session")
def spice_lib() -> Path:
    """A folder with SPICE's two files, which are under the GPL and cannot be in the repository."""
    beside = Path(os.environ.get("AUDIOLM_SHARED", ROOT.parent / "shared")) / "spice" / "lib"
    for folder in (beside, installed_folder()):
        if (folder / CORENLP_JAR).is_file() and (folder / SMALL_MODELS_JAR).is_file():
            return folder.resolve()
    pytest.skip("SPICE's two files are not here; fetch them once (404 MB): audiolm-evaluator setup-metrics")


@pytest.fixture
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
