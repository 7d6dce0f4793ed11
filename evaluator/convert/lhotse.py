"""Lhotse's cuts: JSON Lines with a cut a line, and shar folders, where the audio lies in tar archives beside them.

A cut is a clip: from its start, as long as its duration, or the whole file where that is all of it. The text is its
supervisions', one after the other. Mixed and padded cuts, those of another channel, and audio in no file are refused.
"""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluator.audio.reading import WHOLE, Span
from evaluator.audio.source import MEMBER_MARK
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import seconds_of
from evaluator.convert.lines import json_objects
from evaluator.convert.webdataset import require_whole
from evaluator.wording import shown

SHAR_CUTS = "cuts.*.jsonl*"
_DIGITS = 9
_SAME_SECONDS = 1e-3


def read_cuts(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read the cuts of a file."""
    for line, cut in json_objects(source, problems):
        recording = cut.get("recording")
        recording = recording if isinstance(recording, dict) else {}
        sources = recording.get("sources")
        first = sources[0] if isinstance(sources, list) and len(sources) == 1 else None
        wrong = _no_clip(cut)
        if wrong is not None:
            problems.note(source, line, wrong)
        elif isinstance(first, dict) and first.get("type") == "file" and isinstance(first.get("source"), str):
            yield _row(cut, first["source"], _span(cut, recording))
        else:
            problems.note(source, line, f"recording.sources: expected one of type file, found {shown(sources)}")


def read_shar(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read the cuts of a shar folder; each cut's audio is a member of recording.NUMBER.tar."""
    for file in sorted(source.glob(SHAR_CUTS)):
        archive = source / f"recording.{file.name.split('.')[1]}.tar"
        try:
            with tarfile.open(archive, "r:") as members:
                names = [each.name for each in members if each.isreg() and not each.name.endswith(".json")]
                require_whole(members)
        except (OSError, tarfile.TarError) as error:
            problems.note(archive, None, f"cannot be read as a tar without compression: {error}")
            continue
        places = {name.rpartition(".")[0]: name for name in names}
        for line, cut in json_objects(file, problems):
            name = places.get(str(cut.get("id")))
            wrong = _no_clip(cut) or (None if name else f"id: {shown(cut.get('id'))} is not in {archive.name}")
            if wrong is None:
                yield _row(cut, f"{archive.name}{MEMBER_MARK[-1]}{name}", _span(cut, cut.get("recording") or {}))
            else:
                problems.note(file, line, wrong)


def _no_clip(cut: Mapping[str, Any]) -> str | None:
    """Why a cut cannot be a row."""
    kind = cut.get("type", "MonoCut")
    if kind != "MonoCut":
        return f"type: expected MonoCut, found {shown(kind)}"
    if cut.get("channel", 0) != 0:
        return f"channel: expected 0, found {shown(cut.get('channel'))}: the first channel is heard"
    if not isinstance(cut.get("id"), str) or not isinstance(cut.get("supervisions", []), list):
        return f"expected id and supervisions, found {shown(dict(cut))}"
    if seconds_of(cut.get("start", 0)) is None or not seconds_of(cut.get("duration")):
        return f"start, duration: expected seconds, found {shown(cut.get('start'))} and {shown(cut.get('duration'))}"
    if isinstance(cut.get("recording"), dict) and cut["recording"].get("transforms"):
        return f"recording.transforms: {shown(cut['recording']['transforms'])} would change what is heard"
    return None


def _span(cut: Mapping[str, Any], recording: Mapping[str, Any]) -> Span:
    start, lasts = float(cut.get("start", 0)), float(cut["duration"])
    whole = seconds_of(recording.get("duration"))
    if start == 0 and whole is not None and abs(whole - lasts) < _SAME_SECONDS:
        return WHOLE
    return Span(start, round(start + lasts, _DIGITS))


def _row(cut: Mapping[str, Any], path: str, span: Span) -> ClipRow:
    said = [each for each in cut.get("supervisions", []) if isinstance(each, dict)]
    texts = [each["text"] for each in said if isinstance(each.get("text"), str)]
    known = {name: said[0][name] for name in ("speaker", "language", "gender") if len(said) == 1 and said[0].get(name)}
    return ClipRow(cut["id"], path, (" ".join(texts),) if texts else (), span, known)
