"""GigaSpeech's JSON: recordings with segments, each of which is a clip from begin_time to end_time.

The text stays as it is written, with its tags: <COMMA>, <PERIOD>, <SIL> and the like.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluator.audio.reading import Span
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import seconds_of
from evaluator.convert.lines import json_document
from evaluator.wording import shown

_KEPT = ("speaker", "subsets")


def read_gigaspeech(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read a row a segment."""
    document = json_document(source, problems)
    recordings = document.get("audios") if isinstance(document, dict) else None
    if not isinstance(recordings, list):
        problems.note(source, None, f'expected {{"audios": [...]}}, found {shown(document)}')
        return
    for number, recording in enumerate(recordings):
        path = recording.get("path") if isinstance(recording, dict) else None
        segments = recording.get("segments") if isinstance(recording, dict) else None
        if not isinstance(path, str) or not path or not isinstance(segments, list):
            problems.note(source, None, f"audios[{number}]: expected path and segments, found {shown(recording)}")
            continue
        for place, segment in enumerate(segments):
            where = f"audios[{number}].segments[{place}]"
            row = _row(segment, path, where, source, problems)
            if row is not None:
                yield row


def _row(segment: Any, path: str, where: str, source: Path, problems: Problems) -> ClipRow | None:
    values: Mapping[str, Any] = segment if isinstance(segment, dict) else {}
    start, end = seconds_of(values.get("begin_time")), seconds_of(values.get("end_time"))
    text, name = values.get("text_tn", values.get("text")), values.get("sid")
    if start is None or end is None or not start < end:
        times = f"{shown(values.get('begin_time'))} and {shown(values.get('end_time'))}"
        problems.note(source, None, f"{where}: begin_time, end_time: expected seconds, the first less, found {times}")
    elif not isinstance(text, str) or not isinstance(name, str):
        problems.note(source, None, f"{where}: expected sid and text_tn, found {shown(segment)}")
    else:
        extra = {key: values[key] for key in _KEPT if key in values}
        return ClipRow(name, path, (text,), Span(start, end), extra)
    return None
