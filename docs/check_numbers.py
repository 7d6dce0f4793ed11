"""Run the cheap commands whose output the pages show, and say which lines are stale: `python docs/check_numbers.py`.

In: README.md and docs/*.md. The line above an indented block, or a few above it, may be one of

    <!-- file: NAME -->                          the block is written to NAME for the commands below it on the page
    <!-- made by: COMMAND -->                    COMMAND prints every line of the block
    <!-- made by: COMMAND; same: WER, CER -->    ... every line that begins with one of these words; the others differ
                                                 from run to run (times, dates, paths); A && B: B prints them
    <!-- made once by: COMMAND -->               too dear to be run again here; COMMAND is what to run

Out: a line for each block; the exit status is 1 if one is stale. Results go to a folder of their own.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^<!-- (file|made by|made once by): (.*?)(?:; same: (.*?))? -->$")
PROGRAMS = {"python": sys.executable, "audiolm-evaluator": str(Path(sys.executable).with_name("audiolm-evaluator"))}


@dataclass(frozen=True)
class Block:
    """A block of a page: where its mark is, the mark's kind, its command or file name, and the words of `same`."""

    where: str
    kind: str
    source: str
    same: tuple[str, ...]
    lines: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the marked blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        mark = MARK.match(line)
        if mark is None:
            continue
        shown = []
        for later in lines[place + 1 :]:
            if later.startswith("    "):
                shown.append(later[4:])
            elif shown and later.strip():
                break
            elif shown:
                shown.append("")
        same = tuple(word.strip() for word in (mark[3] or "").split(",") if word.strip())
        name = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page.name
        yield Block(f"{name}:{place + 1}", mark[1], mark[2], same, tuple(shown))


def stale_lines(block: Block, said: str) -> list[str]:
    """The block's lines that a command has not said, spaces at the ends aside; of `same` those that begin so."""
    printed = {line.strip() for line in said.splitlines()}
    lines = [line.strip() for line in block.lines if line.strip()]
    if block.same:
        lines = [line for line in lines if line.startswith(block.same)]
        missing = [word for word in block.same if not any(line.startswith(word) for line in lines)]
        return [
            *(f"(no line begins with {word})" for word in missing),
            *(line for line in lines if line not in printed),
        ]
    return [line for line in lines if line not in printed]


def run(commands: str, folder: Path) -> str:
    """What the last of `A && B` prints in a folder; scripts are the repository's."""
    said = ""
    for command in commands.split(" && "):
        program, *rest = shlex.split(command)
        words = [str(ROOT / word) if word.endswith(".py") else word for word in rest]
        done = subprocess.run([PROGRAMS[program], *words], cwd=folder, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
    return said


def check(pages: list[Path]) -> int:
    """Check all blocks; returns the exit status."""
    stale = 0
    for page in pages:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for block in blocks(page):
                if block.kind == "file":
                    (folder / block.source).write_text("\n".join(block.lines).strip() + "\n", encoding="utf-8")
                elif block.kind == "made once by":
                    print(f"once   {block.where}  {block.source}")
                else:
                    wrong = stale_lines(block, run(block.source, folder))
                    stale += bool(wrong)
                    print(f"{'STALE' if wrong else 'ok':5}  {block.where}  {block.source}")
                    print("".join(f"         {line}\n" for line in wrong), end="")
    print(f"{stale} stale." if stale else "No block is stale.")
    return 1 if stale else 0


if __name__ == "__main__":
    given = [Path(name).resolve() for name in sys.argv[1:]]
    sys.exit(check(given or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]))
