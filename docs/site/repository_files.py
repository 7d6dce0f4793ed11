"""A hook of the site: files of the repository that pages link to are shown as they are, below `repository/`.

In: pages with links such as `../configs/x.yaml` and `../README.md`, right on disk and outside of docs/. Out: the same
links into copies that the site carries; a link to nothing stays as it is, and the strict build refuses it.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add every linked file; one that is a page (.md) is carried as text, because its own links lead elsewhere."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for path, _ in LINK.findall(page.read_text(encoding="utf-8")):
            if (ROOT / path).is_file() and files.get_file_from_path(_place(path)) is None:
                content = (ROOT / path).read_bytes()
                files.append(File.generated(config, _place(path), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links to the copies."""
    return LINK.sub(lambda found: f"]({_place(found[1])})" if (ROOT / found[1]).is_file() else found[0], markdown)


def _place(path: str) -> str:
    return f"repository/{path}.txt" if path.endswith(".md") else f"repository/{path}"
