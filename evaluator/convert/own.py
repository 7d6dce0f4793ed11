"""This project's annotation, read for other formats to be written of it, and written."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluator.annotation.file import read_rows
from evaluator.annotation.span_fields import SPAN_FIELDS, row_span
from evaluator.audio.reading import WHOLE
from evaluator.audio.source import with_span
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import texts_of
from evaluator.wording import shown


def read_annotation_rows(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read the rows of an annotation."""
    for row in read_rows(source):
        value: Any = row.value
        path = value.get("path") if isinstance(value, dict) else None
        texts = texts_of(value["text"]) if isinstance(value, dict) and value.get("text") is not None else ()
        if not isinstance(path, str) or texts is None:
            problems.note(source, row.line, f"row {row.number}: expected path and text, found {shown(value)}")
            continue
        span, wrong = row_span(value)
        if wrong is not None or value.get("expand_wav"):
            wrong = wrong or "expand_wav: joined files cannot be converted"
            problems.note(source, row.line, f"row {row.number}: {wrong}")
            continue
        extra = {key: each for key, each in value.items() if key not in {"testset_id", "path", "text", *SPAN_FIELDS}}
        yield ClipRow(str(value.get("testset_id") or with_span(path, span)), path, texts, span, extra)


def annotation_text(rows: Sequence[ClipRow], task: str) -> str:
    """The annotation, a row a line."""
    return '{"annotation": [\n' + ",\n".join(_line(row, task) for row in rows) + "\n]}\n"


def _line(row: ClipRow, task: str) -> str:
    value: dict[str, Any] = {"testset_id": row.id, "path": row.path}
    if row.span != WHOLE:
        value["start"] = row.span.start
        if row.span.end != WHOLE.end:
            value["end"] = row.span.end
    value["task"] = row.extra.get("task", task)
    if row.texts:
        value["text"] = row.texts[0] if len(row.texts) == 1 else list(row.texts)
    return json.dumps(
        {**value, **{name: each for name, each in row.extra.items() if name not in value}}, ensure_ascii=False
    )
