"""Fixtures of the evaluator's tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that lies beside a checkout; it is not part of the product."""
    folder = Path(os.environ.get("AUDIOLM_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "reference").is_dir():
        pytest.skip(f"reference data not found: {folder} (set AUDIOLM_SHARED to the folder that has it)")
    return folder
