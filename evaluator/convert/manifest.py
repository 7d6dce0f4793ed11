"""NeMo's manifests and other JSON Lines with an audio file and a text a line.

    {"audio_filepath": "a.wav", "text": "hello", "duration": 2.1}

`offset` with `duration` is a part of the file; `duration` alone is what the file is long, and kept as a field.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluator.audio.reading import WHOLE, Span
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import AUDIO, ID, TEXT, first_of, further, seconds_of, texts_of
from evaluator.wording import shown

_DIGITS = 9
"""Of sums of seconds, so that 0.1 + 0.2 is 0.3."""


def read_manifest(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read the rows of a manifest."""
    from evaluator.convert.lines import json_objects

    for line, row in json_objects(source, problems):
        found = row_of(row, source, line, problems)
        if found is not None:
            yield found


def row_of(row: Mapping[str, Any], source: Path, line: int | None, problems: Problems) -> ClipRow | None:
    """The clip of a manifest's row, or of any row with a path and a text; None after noting what is wrong."""
    audio, text, name = first_of(AUDIO, row), first_of(TEXT, row), first_of(ID, row)
    before = len(problems.found)
    path = row[audio] if audio else None
    if not isinstance(path, str) or not path.strip():
        problems.note(source, line, f"{audio or AUDIO[0]}: expected the path of an audio file, found {shown(path)}")
    texts = texts_of(row[text]) if text else ()
    if texts is None:
        problems.note(source, line, f"{text}: expected a text or a list of texts, found {shown(row[text or ''])}")
    span, used, wrong = _span(row)
    extra, refused = further(row, [audio, text, name, *used])
    for message in [*wrong, *refused]:
        problems.note(source, line, message)
    if len(problems.found) > before:
        return None
    from evaluator.audio.source import with_span

    identifier = str(row[name]) if name else with_span(str(path), span)
    return ClipRow(identifier, str(path), texts or (), span, extra)


def _span(row: Mapping[str, Any]) -> tuple[Span, list[str], list[str]]:
    """The part that offset and duration, or start and end, say; the fields used; what is wrong."""
    begins = first_of(("offset", "start"), row)
    ends = first_of(("end",), row)
    lasts = "duration" if begins and not ends and row.get("duration") is not None else None
    used = [name for name in (begins, ends, lasts) if name]
    seconds = {name: seconds_of(row[name]) for name in used}
    wrong = [f"{name}: expected seconds from 0, found {shown(row[name])}" for name in used if seconds[name] is None]
    if wrong or not used:
        return WHOLE, used, wrong
    start = (seconds[begins] if begins else 0.0) or 0.0
    end = seconds[ends] if ends else round(start + (seconds[lasts] or 0.0), _DIGITS) if lasts else WHOLE.end
    if not start < (end or 0.0):
        return WHOLE, used, [f"{ends or lasts}: the part ends at {end:g} s, before its beginning at {start:g} s"]
    return Span(start, end or 0.0), used, []


def manifest_lines(rows: Sequence[ClipRow]) -> Iterator[dict[str, Any]]:
    """The objects of a manifest. NeMo asks for duration: it is there where the source knew it."""
    for row in rows:
        times: dict[str, float] = {}
        if row.span != WHOLE:
            times["offset"] = row.span.start
            if row.span.end != WHOLE.end:
                times["duration"] = round(row.span.end - row.span.start, _DIGITS)
        text = {"text": row.texts[0]} if row.texts else {}
        yield {"id": row.id, "audio_filepath": row.path, **text, **times, **row.extra}
