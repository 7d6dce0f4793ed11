"""Captions in tables: Clotho's and AudioCaps' CSV files, and WavCaps' JSON.

Clotho     file_name,caption_1,...,caption_5                the file as it is named
AudioCaps  audiocap_id,youtube_id,start_time,caption        YOUTUBE_ID.wav, or another --suffix; a row a caption
WavCaps    {"data": [{"id": ..., "caption": ...}, ...]}     ID.flac, or another --suffix
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import further
from evaluator.convert.lines import csv_rows, json_document
from evaluator.wording import shown


def read_clotho(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read a row a clip, with all its captions that are not empty."""
    for line, row in csv_rows(source, problems):
        captions = {name: text for name, text in row.items() if name.startswith("caption_")}
        name = row.get("file_name", "")
        if not name.strip() or not any(captions.values()):
            problems.note(source, line, f"expected file_name and caption_1 ..., found {shown(row)}")
            continue
        extra, _ = further(row, ["file_name", "testset_id", *captions])
        texts = tuple(text for text in captions.values() if text)
        yield ClipRow(row.get("testset_id") or name, name, texts, extra=extra)


def clotho_table(rows: Sequence[ClipRow]) -> str:
    """The CSV, with as many columns of captions as the richest clip needs."""
    most = max((len(row.texts) for row in rows), default=1)
    columns = [f"caption_{number}" for number in range(1, most + 1)]
    named = any(row.id != row.path for row in rows)
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["file_name", *columns, *(["testset_id"] if named else [])])
    for row in rows:
        table.writerow([row.path, *row.texts, *[""] * (most - len(row.texts)), *([row.id] if named else [])])
    return file.getvalue()


def read_audiocaps(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read a row a caption. `start_time` is that of the video, of which the file is cut out already."""
    for line, row in csv_rows(source, problems):
        name, caption = row.get("youtube_id", ""), row.get("caption", "")
        if not name.strip() or not caption.strip():
            problems.note(source, line, f"expected youtube_id and caption, found {shown(row)}")
            continue
        extra = {"youtube_start_time": row["start_time"]} if row.get("start_time") else {}
        yield ClipRow(name, name + (choices.suffix or ".wav"), (caption,), extra=extra)


def read_wavcaps(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read a row a clip."""
    document = json_document(source, problems)
    data: Any = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        problems.note(source, None, f'expected {{"data": [...]}}, found {shown(document)}')
        return
    for number, row in enumerate(data, start=1):
        name = row.get("id") if isinstance(row, dict) else None
        caption = row.get("caption") if isinstance(row, dict) else None
        if not isinstance(name, (str, int)) or not isinstance(caption, str):
            problems.note(source, None, f"data[{number - 1}]: expected id and caption, found {shown(row)}")
            continue
        # The file that was downloaded is named by id; FreeSound's rows also say their whole length.
        extra, wrong = further(row, ["id", "caption", "audio"])
        for message in wrong:
            problems.note(source, None, f"data[{number - 1}]: {message}")
        stem = str(name).removesuffix(".wav").removesuffix(".flac")
        yield ClipRow(str(name), stem + (choices.suffix or ".flac"), (caption,), extra=extra)
