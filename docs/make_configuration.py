"""Write docs/configuration.md from the schemas of both programs: `python docs/make_configuration.py [--check]`.

Each program prints its own settings; with --check nothing is written, and a page that is no longer theirs ends with 1.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
HEAD = """\
# Configuration

One YAML file serves evaluation and training. Every key stands here with its default: what is not written has
it, and so has a key without a value. Numbers and booleans are YAML 1.2's, also `yes`/`no`, hexadecimal and
`1_000`; anchors and merge keys work. A relative path means the working directory first, then the file's
folder. `--options run.seed=1 run.device=cpu` overrides; an empty value means "not given", and `\\n` in a
value is a line break. An unknown key is an error that names the nearest one.

This page is made by `make configuration` from the docstrings of the schemas.
"""
EVALUATOR = "import sys; from evaluator.cli import main; sys.argv = ['audiolm-evaluator', 'settings']; main()"


def page() -> str:
    """Ask both programs and lay out the page."""
    parts = [HEAD, "## The evaluator\n", _said("-c", EVALUATOR, folder=ROOT), "## The SALMONN package\n"]
    parts += [
        "In `datasets` and `run` these come on top; the commands of audiolm-trainer read these alone.\n",
        _said("-m", "salmonn", "settings", folder=ROOT / "audiolm-trainer"),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _said(*arguments: str, folder: Path) -> str:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif page() != PAGE.read_text(encoding="utf-8"):
        sys.exit(f"{PAGE} is stale: run `make configuration`.")
