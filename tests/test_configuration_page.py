"""docs/configuration.md: what both programs say of their settings, and an error for a setting without words."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from evaluator.config.reference import reference

ROOT = Path(__file__).resolve().parents[1]


class Inner(BaseModel):
    """Further ones.

    Attributes:
        rate: how fast,
            in a second line.
    """

    rate: float = Field(default=0.5, gt=0, le=1)


class Section(BaseModel):
    """A section
    of two lines.

    Attributes:
        mode: what to do.
    """

    mode: str
    inner: Inner = Inner()


def test_a_table_has_default_limits_and_meaning() -> None:
    assert reference({"run": Section}).splitlines() == [
        "### run",
        "",
        "A section of two lines.",
        "",
        "| key | default | values | meaning |",
        "| --- | --- | --- | --- |",
        "| `mode` | must be given | text | what to do. |",
        "",
        "### run.inner",
        "",
        "Further ones.",
        "",
        "| key | default | values | meaning |",
        "| --- | --- | --- | --- |",
        "| `rate` | `0.5` | number > 0 ≤ 1 | how fast, in a second line. |",
    ]


def test_a_setting_without_words_is_an_error() -> None:
    class Silent(Inner):
        """Nothing is said of further.

        Attributes:
            rate: how fast.
            gone: was here.
        """

        further: int = 1

    with pytest.raises(ValueError, match="Silent: no field, or no line in the docstring: further, gone"):
        reference({"run": Silent})


def test_the_page_is_what_the_programs_say() -> None:
    run = subprocess.run(
        [sys.executable, "docs/make_configuration.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
