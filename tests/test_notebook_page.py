"""The examples of docs/notebook.md, run one after the other as a reader would, print what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_examples_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "configs", "audiolm-trainer"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    blocks = _BLOCK.findall((ROOT / "docs" / "notebook.md").read_text(encoding="utf-8"))
    assert [kind for kind, _ in blocks].count("text") >= 6
    place: dict[str, object] = {"__name__": "__main__"}
    said = ""
    for kind, told in blocks:
        if kind == "text":
            assert said == told
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(told, "docs/notebook.md", "exec"), place)
        said = "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())
