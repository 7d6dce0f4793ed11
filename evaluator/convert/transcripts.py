"""KsponSpeech's .trn files, `path :: text`, read and written. The id is the file's name without its ending."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from evaluator.annotation.transcript_lines import transcript_rows
from evaluator.audio.reading import WHOLE
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.lines import numbered_lines
from evaluator.wording import shown


def read_trn(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read a row a line."""
    lines = dict(numbered_lines(source, problems))
    # Lines keep their numbers for the messages.
    text = "\n".join(lines.get(number, "") for number in range(1, max(lines, default=0) + 1))
    rows, wrong = transcript_rows(text)
    for problem in wrong:
        problems.note(source, int(problem.where.removeprefix("line ")), problem.message)
    for _, row in rows:
        yield ClipRow(row["testset_id"], row["path"], (row["text"],))


def trn_text(rows: Sequence[ClipRow]) -> str:
    """The file. Rows are as `no_line` lets them be."""
    return "".join(f"{row.path} :: {row.texts[0]}\n" for row in rows)


def no_line(row: ClipRow) -> str | None:
    """Why a row cannot be a line of a .trn file."""
    if row.span != WHOLE:
        return "a part of a file cannot stand there"
    if PurePosixPath(row.path).stem != row.id:
        return f"testset_id: {shown(row.id)} is not the file's name, which is the id there"
    if not row.texts or row.texts[0].strip() != row.texts[0] or "::" in row.path:
        return "a line needs a path without :: and a text without space around it"
    return None
