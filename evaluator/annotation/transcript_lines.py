"""Transcript lines, as KsponSpeech's .trn files have them: text in, an annotation's rows out.

    KsponSpeech_eval/eval_clean/KsponSpeech_E00001.pcm :: 그래서 (3시)/(세 시) 됐나요?

becomes {"testset_id": "KsponSpeech_E00001", "path": "KsponSpeech_eval/...", "task": "asr", "text": "그래서 ..."}. The
text stays as it is: which side of (spelling)/(pronunciation) counts is for the score to say.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from evaluator.errors import Problem
from evaluator.wording import shown

ENDING = ".trn"
_BETWEEN = "::"


def transcript_rows(text: str) -> tuple[list[tuple[int, dict[str, str]]], list[Problem]]:
    """Read transcript lines; empty ones are passed over.

    Args:
        text: of the file.

    Returns:
        tuple: (line from 1, row) of every good line, and the problems of the others, by line. Two lines with the same
            file name are one: answers are told apart by it.
    """
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for line, content in _numbered(text):
        path, between, said = (part.strip() for part in content.partition(_BETWEEN))
        name = PurePosixPath(path.replace("\\", "/")).stem
        if not between or not name:
            problems.append(Problem(f"line {line}", f'expected "path :: text", found {shown(content)}'))
        elif name in lines:
            problems.append(Problem(f"line {line}", f"{name} is also in line {lines[name]}"))
        else:
            lines[name] = line
            rows.append((line, {"testset_id": name, "path": path, "task": "asr", "text": said}))
    return rows, problems


def is_transcript_file(path: Path) -> bool:
    """Whether a file holds transcript lines, by its name's ending."""
    return path.suffix.lower() == ENDING


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, content
